"""What the monitor sees of a model's quality in one window: the judges, over the tables of truth.

Every judge looks at whole UTC days of answers, and only at days that are mature: old enough that
their labels have come. Nothing here is judged by row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from proa.findings.observation import Observation
from proa.http.clock import parse_time, rfc3339
from proa.quality.blocks import Interval, auc_interval, difference, ratio_interval
from proa.quality.breaks import CalibrationRule, DaySums
from proa.quality.estimate import error_of, estimated_interval
from proa.quality.fairness import Gap, gaps, proven
from proa.quality.maturity import DelayCurve
from proa.quality.reasons import reason_shifts
from proa.quality.state import METRICS, QualityState, merge_all
from proa.release.manifest import Manifest
from proa_monitor.cohort import Cohort
from proa_monitor.truth import Truths

__all__ = [
    "LOWER_IS_BETTER",
    "QualityWatch",
    "Recent",
    "ReleaseFacts",
    "calibration_holds",
    "estimated",
    "fairness",
    "fairness_gaps",
    "measured",
    "slices",
]

LOWER_IS_BETTER: Final = frozenset({"brier", "log_loss", "mae", "rmse"})
WINDOW: Final = 21
"""Mature days a judgement is about."""
FEWEST: Final = 14
_LOOK_BACK: Final = timedelta(days=180)
_WAITING: Final = 7
"""Newest days that an estimate is about."""
_ROWS: Final = 300
_CONFIDENCE: Final = 0.98
_MARGIN: Final = 0.02
"""Points of a share that are no harm; of an error, as a share of what it was."""
_FAR: Final = 0.03
"""The same against a figure whose own interval nobody knows."""
_SLICE_GAP: Final = 0.08
_SLICE_ROWS: Final = 100


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """What a release says of itself: the metrics it was measured with before it served."""

    metrics: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Manifest | None) -> ReleaseFacts:
        return cls({} if manifest is None else manifest.metrics)


@dataclass(frozen=True, slots=True)
class Recent:
    """One release's days as seen from one moment.

    Attributes:
        days: every day with answers, oldest first.
        mature: those whose labels have come.
        window: the newest mature days.
        first: the release's own first mature days, none of them in `window`; empty while they are
            too few.
        waiting: the newest days whose labels are still coming.
    """

    days: tuple[Cohort, ...]
    mature: tuple[Cohort, ...]
    curve: DelayCurve
    now: str

    @property
    def form(self) -> str:
        return self.days[-1].whole.form if self.days else ""

    @property
    def metric(self) -> str:
        """The metric that is judged; empty when this release's answers have none."""
        return METRICS[self.form][0] if self.form else ""

    @property
    def window(self) -> tuple[Cohort, ...]:
        return self.mature[-WINDOW:]

    @property
    def first(self) -> tuple[Cohort, ...]:
        found = self.mature[: min(WINDOW, len(self.mature) - len(self.window))]
        return found if len(found) >= FEWEST else ()

    @property
    def waiting(self) -> tuple[Cohort, ...]:
        newest = self.mature[-1].day if self.mature else ""
        return tuple(day for day in self.days if day.day > newest)[-_WAITING:]


def measured(days: Sequence[QualityState], metric: str, *, confidence: float = 0.95) -> Interval:
    """A metric over days with its interval by day; an rmse has none."""
    days = [day for day in days if day.labelled]
    if metric == "roc_auc":
        return auc_interval([day.scores for day in days], confidence=confidence)
    parts = [part for day in days if (part := day.parts(metric)) is not None]
    if len(parts) < len(days):
        rows = sum(day.labelled for day in days)
        value = merge_all(days, scores=False).metric(metric)
        return Interval(value, None, None, None, rows, len(days))
    found = ratio_interval(
        [top for top, _ in parts], [bottom for _, bottom in parts], confidence=confidence
    )
    least = -math.inf if metric in ("gap", "bias") else 0.0
    return found.within(least, math.inf if metric in ("log_loss", "mae", "bias") else 1.0)


class QualityWatch:
    """Judges releases of classic models.

    Args:
        facts_of: release → what it says of itself.
    """

    def __init__(self, truths: Truths, facts_of: Callable[[str], ReleaseFacts]) -> None:
        self.truths = truths
        self._facts_of = facts_of
        self._rule = CalibrationRule()

    def recent(self, model: str, release: str, track: str, *, now: str) -> Recent:
        """The days of a release up to a moment of event time; reads the database."""
        since = rfc3339(parse_time(now) - _LOOK_BACK)[:10]
        days = self.truths.cohorts(model, release, track, since=since, until=now[:10] + "~")
        days = [day for day in days if day.day <= now[:10] and day.whole.rows]
        # a release answers in one form; should its bundle have been wrong, the newest counts
        days = [day for day in days if day.whole.form == days[-1].whole.form]
        # labels of a model come as they come, whichever release answered
        all_days = list(days)
        for other, place, newest in self.truths.releases(model)[:4]:
            if (other, place) != (release, track) and newest >= since:
                all_days += self.truths.cohorts(model, other, place, since=since, until=now[:10])
        curve = DelayCurve.of([day.delay_day(now) for day in all_days])
        mature = tuple(day for day in days if curve.is_mature(day.delay_day(now)))
        return Recent(tuple(days), mature, curve, now)

    def observe(self, model: str, release: str, track: str, *, now: str) -> list[Observation]:
        """What is seen of a release's quality when a window is over.

        Args:
            now: the end of the window, event time, RFC 3339; days are judged as they stand.

        Raises:
            Unavailable: the database is away.
        """
        recent = self.recent(model, release, track, now=now)
        if not recent.form:
            return []
        facts = self._facts_of(release)
        found = [label_delay(recent)]
        broken = None
        if recent.form == "probability":
            found.append(calibration(recent, self._rule))
            broken = found[-1].holds
        found += [quality(recent, facts), *slices(recent)]
        if recent.form == "probability":
            found.append(estimated(recent, facts, broken=broken))
        return [*found, *fairness(recent), *reasons(recent)]


def calibration(recent: Recent, rule: CalibrationRule) -> Observation:
    """Whether probabilities still mean what they say."""
    sums = [
        DaySums(day.day, day.whole.labelled, day.whole.sum("said"), day.whole.sum("true"))
        for day in recent.mature
    ]
    found = rule.judge(sums)
    gap = found.gap
    if gap.value is None:
        text = "no labels have come yet of days that are mature"
    else:
        way = "more" if gap.value > 0 else "less"
        text = (
            f"{abs(gap.value):.3f} {way} was promised than came true "
            f"({_span(gap)}) over {gap.blocks} days, {gap.rows:,} labels"
        )
    return Observation(
        type="calibration",
        subject="",
        holds=found.holds,
        effect=gap.value,
        limit=rule.floor,
        unit="points",
        message=text,
        severity="critical",
        evidence={
            "metric": "calibration_gap",
            "expected": 0.0,
            "since": found.since,
            "until": found.until,
            **_figures(gap),
        },
    )


def calibration_holds(recent: Recent) -> bool:
    """Whether probabilities are known not to be true."""
    return recent.form == "probability" and bool(calibration(recent, CalibrationRule()).holds)


def quality(recent: Recent, facts: ReleaseFacts) -> Observation:
    """Whether the judged metric is worse than in the release's own first weeks, or than was said
    of it before it served."""
    metric = recent.metric
    lower = metric in LOWER_IS_BETTER
    window = [day.whole for day in recent.window]
    now = measured(window, metric, confidence=_CONFIDENCE)
    then = measured([day.whole for day in recent.first], metric, confidence=_CONFIDENCE)
    said = facts.metrics.get(metric)
    against: list[tuple[bool | None, float, str]] = []
    if _enough(now) and then.value is not None:
        margin = _MARGIN * (then.value if lower else 1.0)
        apart = difference(now, then, confidence=_CONFIDENCE)
        limit = then.value + (margin if lower else -margin)
        words = f"{then.value:.3f} in its first {then.blocks} days"
        against.append((_worse(apart, margin if lower else -margin, lower), limit, words))
    if _enough(now) and said is not None:
        limit = said * (1 + _FAR) if lower else said - _FAR
        against.append((_worse(now, limit, lower), limit, f"{said:.3f} before it served"))
    # proven against one is enough; harmless it is only against both
    against.sort(key=lambda one: (one[0] is not True, one[0] is not None))
    holds, bound, words = against[0] if against else (None, None, "")
    value = "unknown" if now.value is None else f"{now.value:.3f} ({_span(now)})"
    return Observation(
        type="quality",
        subject=metric,
        holds=holds,
        effect=now.value,
        limit=bound,
        unit="units" if lower else "ratio",
        message=f"{metric} is {value}" + (f", it was {words}" if words else ""),
        severity="critical",
        evidence={
            "metric": metric,
            "expected": then.value if then.value is not None else said,
            "since": recent.window[0].day if window else "",
            "until": recent.window[-1].day if window else "",
            **_figures(now),
        },
    )


def slices(recent: Recent) -> list[Observation]:
    """Whether a segment fares worse than the whole, proven with all segments taken together.

    Probabilities: its calibration gap minus the whole's; labels: its accuracy against the whole's;
    numbers: its mean error against the whole's, as a share.
    """
    days = recent.window
    names = sorted({name for day in days for name in day.slices})
    confidence = 1 - (1 - _CONFIDENCE) / max(1, len(names))
    found = []
    for name in names:
        gap = _slice_gap(days, name, recent.form, confidence)
        holds = None
        if _enough(gap, _SLICE_ROWS) and gap.low is not None and gap.high is not None:
            assert gap.value is not None
            bad = {"probability": abs(gap.value), "label": -gap.value, "number": gap.value}
            size = bad[recent.form]
            holds = _tell((gap.low > 0 or gap.high < 0) and size >= _SLICE_GAP, size < _SLICE_GAP)
        what = _SLICE_WORDS[recent.form]
        shown = "unknown" if gap.value is None else f"{gap.value:+.3f} ({_span(gap)})"
        found.append(
            Observation(
                type="slice_quality",
                subject=name,
                holds=holds,
                effect=gap.value,
                limit=_SLICE_GAP,
                unit="points",
                message=f"{name}: {what} is {shown} from that of all rows",
                evidence=_figures(gap),
            )
        )
    return found


_SLICE_WORDS: Final = {
    "probability": "the calibration gap",
    "label": "accuracy",
    "number": "the mean error, as a share,",
}


def _slice_gap(days: Sequence[Cohort], name: str, form: str, confidence: float) -> Interval:
    metric = {"probability": "gap", "label": "accuracy", "number": "mae"}[form]
    scale = 1.0
    if form == "number":  # an error is as large as the things are: as a share of everybody's
        scale = merge_all((day.whole for day in days), scores=False).metric(metric) or 1.0
    tops, bottoms = [], []
    for day in days:
        state, all_of = day.slices.get(name), day.whole.parts(metric)
        parts = None if state is None else state.parts(metric)
        if parts is None or all_of is None or not parts[1] or not all_of[1]:
            continue
        # against the same day's whole: what moved everybody that day is not the segment's
        tops.append((parts[0] - all_of[0] / all_of[1] * parts[1]) / scale)
        bottoms.append(parts[1])
    return ratio_interval(tops, bottoms, confidence=confidence)


def estimated(recent: Recent, facts: ReleaseFacts, *, broken: bool | None) -> Observation:
    """Whether the newest days, whose labels are still to come, look worse by what was said alone.

    Withdrawn (nobody can say) while calibration is broken: the estimate believes probabilities.
    """
    metric = recent.metric
    now = estimated_interval([day.whole for day in recent.waiting], metric, confidence=_CONFIDENCE)
    window = [day.whole for day in recent.window]
    before = measured(window, metric).value
    error = error_of(window, metric, before)
    expected = facts.metrics.get(metric) if before is None else before
    holds, limit = None, None
    if broken:
        text = f"the estimate of {metric} is withdrawn: probabilities are not true any more"
    elif now.value is None:
        text = f"nothing to estimate {metric} from"
    else:
        text = f"{metric} of {now.rows:,} rows without labels is estimated at {now.value:.3f}"
        if error is not None:
            text += f"; such estimates were off by {error:+.3f}"
        if (
            expected is not None
            and now.high is not None
            and now.blocks > 2
            and _enough(now, _ROWS, 3)
        ):
            limit = expected - _FAR - abs(error or 0.0)
            holds = now.high < limit
    return Observation(
        type="estimated_quality",
        subject=metric,
        holds=holds,
        effect=None if broken else now.value,
        limit=limit,
        unit="ratio",
        message=text,
        evidence={
            "metric": metric,
            "expected": expected,
            "error": error,
            "withdrawn": bool(broken),
            "since": recent.waiting[0].day if recent.waiting else "",
            "until": recent.waiting[-1].day if recent.waiting else "",
            **({} if broken else _figures(now)),
        },
    )


def label_delay(recent: Recent) -> Observation:
    """Whether labels stay away from days that should have them by now."""
    curve = recent.curve
    if curve.mature is None or curve.coverage is None:
        text = f"{curve.labels:,} labels have come: too few, or too young, to know their delay"
        return Observation("label_delay", "", None, None, None, "share", text)
    due = [day for day in recent.days if day.delay_day(recent.now).age >= curve.mature][-3:]
    rows = sum(day.whole.rows for day in due)
    share = sum(day.whole.labelled for day in due) / rows if rows else None
    limit = 0.8 * curve.coverage
    holds = None if share is None or rows < _SLICE_ROWS else share < limit
    shown = "no answers" if share is None else f"{share:.0%} of their answers have a label"
    return Observation(
        type="label_delay",
        subject="",
        holds=holds,
        effect=share,
        limit=limit,
        unit="share",
        message=f"of the newest {len(due)} days that should have labels {shown}; "
        f"usual is {curve.coverage:.0%} after {curve.mature / 3600:g} h",
        evidence={
            "mature_seconds": curve.mature,
            "p50_seconds": curve.p50,
            "p90_seconds": curve.p90,
            "rows": rows,
        },
    )


def fairness_gaps(recent: Recent) -> list[Gap]:
    """Every gap of every protected attribute over the newest mature days."""
    attributes = sorted({name for day in recent.window for name in day.groups})
    return [
        gap
        for attribute in attributes
        for gap in gaps(attribute, [day.groups.get(attribute, {}) for day in recent.window])
    ]


def fairness(recent: Recent) -> list[Observation]:
    """Whether groups are treated apart by more than the tolerance; no group is named."""
    found = fairness_gaps(recent)
    held = proven(found)
    return [
        Observation(
            type="fairness",
            subject=f"{gap.attribute} {gap.metric}",
            holds=None if gap.p is None else (gap.attribute, gap.metric) in held,
            effect=gap.gap.value,
            limit=gap.tolerance,
            unit="ratio" if gap.metric == "disparate_impact" else "points",
            message=_fairness_text(gap),
            severity="critical",
            evidence={"p": gap.p, "groups": len(gap.groups), **_figures(gap.gap)},
        )
        for gap in found
    ]


def _fairness_text(gap: Gap) -> str:
    if gap.gap.value is None:
        return f"{gap.attribute}: too few rows in two groups to compare {gap.metric}"
    what = f"{gap.gap.value:.3f} ({_span(gap.gap)})"
    if gap.metric == "disparate_impact":
        return f"{gap.attribute}: one group is selected {what} times as often as another"
    return f"{gap.attribute}: {gap.metric} of two groups lies {what} apart"


def reasons(recent: Recent) -> list[Observation]:
    """Whether features weigh otherwise than in the release's first two weeks."""
    explained = [day.whole for day in recent.days if day.whole.explained]
    shifts = reason_shifts(explained[:-7][:FEWEST], explained[-7:])
    return [
        Observation(
            type="reasons_drift",
            subject=shift.feature,
            holds=shift.holds,
            effect=shift.shift.value,
            limit=0.05,
            unit="share",
            message=f"{shift.feature} has {shift.now or 0.0:.1%} of the reasons, "
            f"it had {shift.then or 0.0:.1%}",
            severity="info",
            evidence=_figures(shift.shift),
        )
        for shift in shifts
        if shift.shift.value is not None
    ]


def _tell(proven: bool, harmless: bool) -> bool | None:
    """Proven; or harmless as it looks; or nobody can say, and what was found stays."""
    return True if proven else False if harmless else None


def _worse(found: Interval, limit: float, lower: bool) -> bool | None:
    """Whether a figure lies beyond a limit, on the bad side."""
    if found.value is None or found.low is None or found.high is None:
        return None
    if lower:
        return _tell(found.low > limit, found.value <= limit)
    return _tell(found.high < limit, found.value >= limit)


def _enough(found: Interval, rows: int = _ROWS, blocks: int = FEWEST) -> bool:
    return found.rows >= rows and found.blocks >= blocks


def _span(found: Interval) -> str:
    if found.low is None or found.high is None:
        return "no interval"
    return f"{found.low:+.3f} to {found.high:+.3f}"


def _figures(found: Interval) -> dict[str, Any]:
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "rows": found.rows,
        "days": found.blocks,
    }
