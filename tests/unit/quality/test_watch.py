"""The watch over real tables (SQLite): what opens, what stays silent, and what is shown to whom."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from proa.events.event import Event, label_event, prediction_event
from proa.findings.observation import Observation
from proa.http.clock import rfc3339
from proa_monitor.quality import QualityWatch, ReleaseFacts
from proa_monitor.quality_view import quality_signals, quality_view
from proa_monitor.state_tables import open_state
from proa_monitor.truth import Truths

MODEL, RELEASE = "loans", "loans/1@sha256:" + "1" * 64
START = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 60


def day_of(
    pick: random.Random,
    day: int,
    *,
    bend: float = 0.0,
    noise: float = 0.0,
    slow: bool = False,
    unfair: bool = False,
    delay: timedelta = timedelta(hours=20),
) -> list[Event]:
    """One call of `ROWS` rows and a label for each.

    Args:
        bend: so much more comes true than was said.  noise: share of answers that mean nothing.
        slow: no labels.  unfair: one group is refused.
    """
    moment = START + timedelta(days=day, hours=12)
    shift = pick.gauss(0, 0.03)
    said, true, places, groups = [], [], [], []
    for _ in range(ROWS):
        chance = pick.betavariate(2, 3)
        true.append(pick.random() < min(1.0, max(0.0, chance + shift + bend)))
        said.append(pick.betavariate(2, 3) if pick.random() < noise else chance)
        places.append(pick.choice(["north", "south"]))
        groups.append(pick.choice(["m", "f"]))
    decided = [
        one >= 0.4 and not (unfair and group == "f" and pick.random() < 0.8)
        for one, group in zip(said, groups, strict=True)
    ]
    call = prediction_event(
        request=f"r{day}",
        model=MODEL,
        release=RELEASE,
        track="champion",
        rows=ROWS,
        inputs={"place": places},
        outputs={"probability": said, "label": decided},
        latency_ms=1.0,
        entity=[f"{day}-{k}" for k in range(ROWS)],
        attributes={"sex": groups},
        time=moment,
    )
    # events lie on disk with their time in this form
    call["time"] = rfc3339(moment)
    labels = [] if slow else range(ROWS)
    return [
        call,
        *(
            label_event(
                model=MODEL,
                kind="classic",
                value=true[k],
                entity=f"{day}-{k}",
                time=rfc3339(moment + delay),
            )
            for k in labels
        ),
    ]


def now(day: int) -> str:
    return rfc3339(START + timedelta(days=day))


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[QualityWatch]:
    database = open_state(None, tmp_path)
    truths = Truths(database, slices_of=lambda _: ("place",))
    yield QualityWatch(truths, lambda _: ReleaseFacts({"roc_auc": 0.74}))
    database.close()


def fill(watch: QualityWatch, days: range, **planted: Any) -> None:
    pick = random.Random(days.start)
    for day in days:
        watch.truths.take(day_of(pick, day, **planted))


def seen(watch: QualityWatch, day: int) -> dict[tuple[str, str], Observation]:
    found = watch.observe(MODEL, RELEASE, "champion", now=now(day))
    return {(one.type, one.subject): one for one in found}


def held(watch: QualityWatch, day: int) -> set[str]:
    return {kind for (kind, _), one in seen(watch, day).items() if one.holds}


def test_a_quiet_model_stays_quiet(watch: QualityWatch) -> None:
    fill(watch, range(60))
    for day in (25, 40, 50, 61):
        assert held(watch, day) == set()
    judged = seen(watch, 61)
    assert judged["calibration", ""].holds is False
    assert judged["quality", "roc_auc"].holds is False
    assert judged["slice_quality", "place=north"].holds is False
    assert judged["fairness", "sex selection_rate"].holds is False
    assert judged["label_delay", ""].holds is False


def test_nobody_can_say_in_the_first_days(watch: QualityWatch) -> None:
    assert seen(watch, 0) == {}
    fill(watch, range(6))
    assert {one.holds for one in seen(watch, 6).values()} <= {None, False}
    assert seen(watch, 6)["calibration", ""].holds is None


PLANTED: list[tuple[dict[str, Any], str]] = [
    ({"bend": 0.25}, "calibration"),
    ({"noise": 0.8}, "quality"),
    ({"slow": True}, "label_delay"),
    ({"unfair": True}, "fairness"),
]


@pytest.mark.parametrize(("planted", "kind"), PLANTED)
def test_what_is_planted_is_found(watch: QualityWatch, planted: dict[str, Any], kind: str) -> None:
    fill(watch, range(36))
    assert kind not in held(watch, 36)
    fill(watch, range(36, 57), **planted)
    found = {name: one for (name, _), one in seen(watch, 58).items() if one.holds}
    assert kind in found
    evidence = found[kind].evidence
    if kind == "calibration":
        assert evidence["value"] == pytest.approx(-0.24, abs=0.05)
        assert evidence["low"] < evidence["value"] < evidence["high"] < 0
        assert (evidence["rows"], evidence["days"]) == (18 * ROWS, 18)
        assert evidence["until"] == "2026-02-26"
        estimate = seen(watch, 58)["estimated_quality", "roc_auc"]
        assert estimate.holds is None
        assert "withdrawn" in estimate.message


def test_an_estimate_falls_before_labels_can(watch: QualityWatch) -> None:
    """Answers that say nothing any more (all near one half), their labels still to come."""
    fill(watch, range(40))
    pick = random.Random(3)
    for day in range(40, 46):
        call, *_ = day_of(pick, day)
        call["outputs"]["probability"] = [pick.uniform(0.45, 0.55) for _ in range(ROWS)]
        watch.truths.take([call])
    found = seen(watch, 46)["estimated_quality", "roc_auc"]
    assert found.holds
    assert found.evidence["since"] == "2026-02-10"


def test_groups_are_shown_only_to_who_may_see_them(watch: QualityWatch) -> None:
    fill(watch, range(20), unfair=True)
    for one in watch.observe(MODEL, RELEASE, "champion", now=now(22)):
        if one.type == "fairness":
            assert "'f'" not in repr(one.evidence)
            assert " f " not in one.message
    view = quality_view(watch, MODEL, protected=False, now=now(22))
    assert view["fairness"] is None
    shown = quality_view(watch, MODEL, protected=True, now=now(22))["fairness"]
    selection = next(one for one in shown if one["metric"] == "selection_rate")
    assert [group["group"] for group in selection["groups"]] == ["f", "m"]
    signals = quality_signals(watch, MODEL, RELEASE, "champion", now=now(22))
    assert {one.attribute for one in signals.fairness} == {"sex"}
    assert max(one.gap for one in signals.fairness if one.metric == "selection_rate") > 0.2


def test_the_view_has_lines_with_intervals_slices_and_delays(watch: QualityWatch) -> None:
    fill(watch, range(20))
    view = quality_view(watch, MODEL, protected=False, now=now(20), release=RELEASE)
    lines = {line["metric"]: line for line in view["quality"]["metrics"]}
    assert lines["roc_auc"]["better"] == "higher"
    assert lines["calibration_gap"]["better"] == "lower"
    points = lines["roc_auc"]["points"]
    assert [point["source"] for point in points] == ["measured"] * 19 + ["estimated"]
    assert points[18]["low"] < points[18]["value"] < points[18]["high"]
    assert points[18]["release"] == "loans/1"
    assert {one["slice"] for one in view["slices"]} == {"place=north", "place=south"}
    assert view["quality"]["coverage"] == 1.0
    assert view["quality"]["delay_seconds"] == {"p50": 86400.0, "p90": 86400.0}
    signals = quality_signals(watch, MODEL, RELEASE, "champion", now=now(20))
    assert signals.label_delay == {"0.5": 86400.0, "0.9": 86400.0}
    assert signals.rows["measured", "all"] == 19 * ROWS
    empty = quality_view(watch, "nobody", protected=True, now=now(20))
    assert empty["quality"]["metrics"] == []


@pytest.mark.parametrize("form", ["label", "number"])
def test_labels_and_numbers_are_judged_as_well(
    watch: QualityWatch, form: str, make: Callable[..., list[Event]]
) -> None:
    pick = random.Random(11)
    for day in range(36):
        watch.truths.take(make(pick, day, form, off=0.1))
    assert held(watch, 38) == set()
    for day in range(36, 57):
        watch.truths.take(make(pick, day, form, off=0.4))
    assert "quality" in held(watch, 59)


@pytest.fixture
def make() -> Callable[..., list[Event]]:
    def of(pick: random.Random, day: int, form: str, *, off: float) -> list[Event]:
        events = day_of(pick, day)
        call, *labels = events
        for k, label in enumerate(labels):
            wrong = pick.random() < off
            label["value"] = "b" if wrong else "a"
            if form == "number":
                label["value"] = 100.0 + pick.gauss(0, 10 * off)
            del k
        call["outputs"] = (
            {"label": ["a"] * ROWS} if form == "label" else {"prediction": [100.0] * ROWS}
        )
        return events

    return of
