"""Figures of quality, for `/metrics` and for people: what was measured, what is estimated, of whom.

Values of protected attributes are shown only to who may see them; `/metrics` has gaps alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from proa.quality.blocks import AucTable, Interval
from proa.quality.estimate import ESTIMATED, estimated_interval
from proa.quality.fairness import Gap
from proa.quality.reasons import reason_shares
from proa.quality.state import METRICS, merge_all
from proa_monitor.cohort import Cohort
from proa_monitor.quality import (
    LOWER_IS_BETTER,
    QualityWatch,
    Recent,
    calibration_holds,
    fairness_gaps,
    measured,
)
from proa_monitor.signals import FairnessFigure, QualityFigure

__all__ = ["QualitySignals", "quality_signals", "quality_view"]

_SEGMENTS: Final = 10
"""Segments in `/metrics`: those furthest from the whole."""
_POINTS: Final = 60
_SMOOTH: Final = 14
"""Mature days that one point of a line is about."""
_SHOWN_ROWS: Final = 30
_RELEASES: Final = 12
"""Releases whose lines are shown, the newest."""


@dataclass(frozen=True, slots=True)
class QualitySignals:
    """The part of `signals.ReleaseSignals` that quality fills, by the same names."""

    quality: Sequence[QualityFigure] = ()
    rows: Mapping[tuple[str, str], int] = field(default_factory=dict)
    label_coverage: float | None = None
    label_delay: Mapping[str, float] = field(default_factory=dict)
    fairness: Sequence[FairnessFigure] = ()


def quality_signals(
    watch: QualityWatch, model: str, release: str, track: str, *, now: str
) -> QualitySignals:
    """Figures of one release; reads the database.

    Args:
        now: event time, RFC 3339.
    """
    recent = watch.recent(model, release, track, now=now)
    if not recent.form:
        return QualitySignals()
    figures, rows = [], {}
    states = [day.whole for day in recent.window]
    for metric in _metrics(recent.form):
        found = measured(states, metric)
        if found.value is not None:
            figures.append(_figure(metric, "measured", "all", found))
            rows["measured", "all"] = found.rows
    for metric, found in _estimates(recent, recent.waiting):
        if found.value is not None:
            figures.append(_figure(metric, "estimated", "all", found))
            rows["estimated", "all"] = found.rows
    for name, metric, found, _ in _slices(recent)[:_SEGMENTS]:
        figures.append(_figure(metric, "measured", name, found))
        rows["measured", name] = found.rows
    curve = recent.curve
    delays = {"0.5": curve.p50, "0.9": curve.p90}
    return QualitySignals(
        figures,
        rows,
        curve.coverage,
        {quantile: seconds for quantile, seconds in delays.items() if seconds is not None},
        [
            FairnessFigure(gap.attribute, gap.metric, gap.gap.value, _nearer(gap))
            for gap in fairness_gaps(recent)
            if gap.gap.value is not None
        ],
    )


def quality_view(
    watch: QualityWatch,
    model: str,
    *,
    protected: bool,
    now: str,
    release: str | None = None,
    track: str | None = None,
) -> dict[str, Any]:
    """What a page shows of a model's quality; reads the database.

    Args:
        protected: whether the key may see groups of protected attributes.
        now: event time, RFC 3339.
        release, track: whose slices, groups and reasons; by default the release that answered
            last, the champion before others.
    """
    known = watch.truths.releases(model)
    chosen = _chosen(known, release, track)
    if chosen is None:
        return {
            "quality": {"metrics": [], "coverage": None, "delay_seconds": None, "note": _NOTHING},
            "slices": [],
            "fairness": [] if protected else None,
            "reasons": [],
        }
    recent = watch.recent(model, *chosen, now=now)
    lines = [
        (name, watch.recent(model, name, place, now=now))
        for name, place, _ in known[:_RELEASES]
        if place == chosen[1]
    ]
    return {
        "quality": _quality(recent, lines),
        "slices": [
            {"slice": name, "metric": metric, **_bounds(found), "overall": overall}
            for name, metric, found, overall in _slices(recent)
        ],
        "fairness": [_gap(gap) for gap in fairness_gaps(recent)] if protected else None,
        "reasons": _reasons(recent),
    }


_NOTHING: Final = "no answers of this model have been kept yet"
_UNITS: Final = {"mae": "units", "rmse": "units", "bias": "units"}


def _chosen(
    known: Sequence[tuple[str, str, str]], release: str | None, track: str | None
) -> tuple[str, str] | None:
    fitting = [
        (name, place, newest)
        for name, place, newest in known
        if release in (None, name) and track in (None, place)
    ]
    newest = max((one[2] for one in fitting), default="")
    ranked = sorted(fitting, key=lambda one: (one[2] != newest, one[1] != "champion"))
    return ranked[0][:2] if ranked else None


def _metrics(form: str) -> tuple[str, ...]:
    return (*METRICS[form], "gap", "ece") if form == "probability" else METRICS[form]


def _quality(recent: Recent, lines: Sequence[tuple[str, Recent]]) -> dict[str, Any]:
    curve = recent.curve
    delay = None
    if curve.p50 is not None and curve.p90 is not None:
        delay = {"p50": curve.p50, "p90": curve.p90}
    note = None
    if recent.form and curve.mature is None:
        note = "labels are too few or too young to know when a day has all of its own"
    metrics = _metrics(recent.form) if recent.form else ()
    points = [_points(name, one) for name, one in lines if one.form]
    return {
        "metrics": [
            {
                "metric": _SHOWN.get(metric, metric),
                "unit": _UNITS.get(metric, "ratio"),
                "better": "lower" if metric in LOWER_IS_BETTER | {"ece", "gap"} else "higher",
                "points": [point for line in points for point in line.get(metric, ())],
            }
            for metric in metrics
        ],
        "coverage": curve.coverage,
        "delay_seconds": delay,
        "note": note,
    }


_SHOWN: Final = {"gap": "calibration_gap"}


def _points(release: str, recent: Recent) -> dict[str, list[dict[str, Any]]]:
    """A line per metric: each mature day with those before it; then the estimate of the days that
    wait."""
    found: dict[str, list[dict[str, Any]]] = {}
    short = release.partition("@")[0]
    shown = recent.mature[-(_POINTS + _SMOOTH - 1) :]
    areas = AucTable([day.whole.scores for day in shown], longest=_SMOOTH)
    for end in range(max(1, len(shown) - _POINTS + 1), len(shown) + 1):
        start = max(0, end - _SMOOTH)
        states = [day.whole for day in shown[start:end]]
        for metric in _metrics(recent.form):
            value = areas.interval(start, end) if metric == "roc_auc" else measured(states, metric)
            point = _point(shown[end - 1].day, value, "measured", short)
            found.setdefault(metric, []).append(point)
    for number in range(1, len(recent.waiting) + 1):
        days = recent.waiting[:number]
        for metric, value in _estimates(recent, days):
            point = _point(days[-1].day, value, "estimated", short)
            found.setdefault(metric, []).append(point)
    return found


def _estimates(recent: Recent, days: Sequence[Cohort]) -> list[tuple[str, Interval]]:
    """Estimates, none while probabilities are known not to be true."""
    if recent.form != "probability" or not days or calibration_holds(recent):
        return []
    states = [day.whole for day in days]
    return [(metric, estimated_interval(states, metric)) for metric in ESTIMATED]


def _slices(recent: Recent) -> list[tuple[str, str, Interval, float | None]]:
    """Slices with their figure and the whole's, the furthest from it on the bad side first."""
    metric = {"probability": "brier", "label": "accuracy", "number": "mae"}.get(recent.form)
    if metric is None:
        return []
    whole = merge_all((day.whole for day in recent.window), scores=False)
    if whole.form == "probability" and whole.confusion.rows:
        metric = "accuracy"
    overall = whole.metric(metric)
    names = sorted({name for day in recent.window for name in day.slices})
    found = [
        (
            name,
            metric,
            measured([d.slices[name] for d in recent.window if name in d.slices], metric),
        )
        for name in names
    ]
    kept = [one for one in found if one[2].value is not None and one[2].rows >= _SHOWN_ROWS]
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    kept.sort(key=lambda one: (sign * (one[2].value or 0.0), one[0]))
    return [(*one, overall) for one in kept]


def _reasons(recent: Recent) -> list[dict[str, Any]]:
    days = [day.whole for day in recent.days if day.whole.explained]
    then, now = reason_shares(days[:_SMOOTH]), reason_shares(days[-7:])
    names = sorted(now.keys() | then.keys(), key=lambda name: -now.get(name, 0.0))
    return [{"feature": n, "then": then.get(n, 0.0), "now": now.get(n, 0.0)} for n in names]


def _gap(gap: Gap) -> dict[str, Any]:
    return {
        "attribute": gap.attribute,
        "metric": gap.metric,
        "gap": gap.gap.value,
        "low": gap.gap.low,
        "high": gap.gap.high,
        "tolerance": gap.tolerance,
        "groups": [{"group": one.group, **_bounds(one.figure)} for one in gap.groups],
    }


def _bounds(found: Interval) -> dict[str, Any]:
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.rows}


def _point(day: str, found: Interval, source: str, release: str) -> dict[str, Any]:
    return {"window": day, **_bounds(found), "source": source, "release": release}


def _figure(
    metric: str, source: Literal["measured", "estimated"], segment: str, found: Interval
) -> QualityFigure:
    assert found.value is not None
    shown = _SHOWN.get(metric, metric)
    return QualityFigure(shown, source, segment, found.value, found.low, found.high)


def _nearer(gap: Gap) -> float | None:
    """The end of the interval nearer to no gap at all."""
    return gap.gap.high if gap.metric == "disparate_impact" else gap.gap.low
