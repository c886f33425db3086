"""Tests for promtool of a scope's rules: each alert must fire, and must not.

Not without data, not by a finding that has closed or was open for a moment, not by a release that
nobody calls any more, not with too little traffic, not when a process restarts and its counters
begin again, and, where it is muted, not during a rollout or while the data are broken.
Rules are evaluated every five minutes there, so that all of it takes seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proa.findings.alerts import DATA_BROKEN, OWN_RULES, SIGNED, Alert, Scope, alerts
from proa.findings.rules import annotations_of, labels_of

__all__ = ["Case", "cases_of", "promtool_tests"]

Series = dict[str, str]
"""Series in promtool's notation to their values, one a minute."""

_NEWEST: Final = 1_700_000_000
_DAY: Final = 86400
_LENGTH: Final = 110
_DROPPED: Final = "proa_monitor_emitter_dropped_total"
_LOOKED: Final = "proa_retraining_last_look_timestamp_seconds"
_JUDGED: Final = "proa_monitor_last_judged_timestamp_seconds"


@dataclass(frozen=True, slots=True)
class Case:
    """What Prometheus sees, and what must come of it.

    Attributes:
        scenario: cases of the same one are tried at once; their series do not disturb each other.
        minutes: when the alert is looked at.
        fires: labels of each alert expected, besides its own; none when it must be quiet.
    """

    alert: Alert
    scenario: str
    series: Series
    minutes: int
    fires: Sequence[Mapping[str, str]] = ()


def promtool_tests(scope: Scope, *, rules: str) -> dict[str, Any]:
    """A file for `promtool test rules`; `rules` is the name of the rules file beside it."""
    tried: dict[str, list[Case]] = {}
    for case in cases_of(scope):
        tried.setdefault(case.scenario, []).append(case)
    tests = []
    for scenario, cases in tried.items():
        series = {name: values for case in cases for name, values in case.series.items()}
        tests.append(
            {
                "name": scenario,
                "interval": "1m",
                "input_series": [{"series": s, "values": v} for s, v in series.items()],
                "alert_rule_test": [_expected(scope, case) for case in cases],
            }
        )
    return {"rule_files": [rules], "evaluation_interval": "5m", "tests": tests}


def cases_of(scope: Scope) -> list[Case]:
    """Every case of every alert of the scope."""
    return [case for alert in alerts(scope) for case in _Cases(scope, alert)]


def _expected(scope: Scope, case: Case) -> dict[str, Any]:
    expected = []
    for labels in case.fires:
        annotations = {
            key: re.sub(r"{{ \$labels\.(\w+) }}", lambda m: labels.get(m[1], ""), text)  # noqa: B023
            for key, text in annotations_of(scope, case.alert).items()
        }
        whole = {**labels, **labels_of(scope, case.alert)}
        expected.append({"exp_labels": whole, "exp_annotations": annotations})
    return {
        "eval_time": f"{case.minutes}m",
        "alertname": case.alert.name,
        "exp_alerts": expected,
    }


class _Cases:
    """The cases of one alert."""

    def __init__(self, scope: Scope, alert: Alert) -> None:
        self._scope, self._alert = scope, alert
        self._model = scope.name or "m"
        self._base = {} if scope.namespace is None else {"namespace": scope.namespace}
        self._at = min(100, (alert.minutes + 29) // 5 * 5)

    def __iter__(self) -> Iterator[Case]:
        alert = self._alert
        if alert.types:
            yield from self._of_findings()
        elif alert.name == "ProaQualityBelowFloor":
            yield from self._of_floors()
        elif alert.name in _CALLS_FAIL:
            yield from self._of_calls()
        else:
            yield from self._of_figures()
        missed = [self._labels()] if "absent(" in alert.expr else []
        yield self._case("no data", {}, *missed)

    # ---- building blocks ----------------------------------------------------------------

    def _series(self, name: str, values: str, **labels: str) -> Series:
        inner = ",".join(f'{key}="{text}"' for key, text in {**self._base, **labels}.items())
        return {f"{name}{{{inner}}}": values}

    def _of_release(self, name: str, values: str, *, version: int = 7, **labels: str) -> Series:
        release = {"release": f"{self._model}/{version}", "digest": f"{version:012x}"}
        more = {"track": "champion", "pod": "monitor-0", **labels}
        return self._series(name, values, model=self._model, **release, **more)

    def _open(self, kind: str, values: str = f"1x{_LENGTH}", subject: str = "a") -> Series:
        return self._of_release("proa_finding_open", values, type=kind, subject=subject)

    def _window(self, *, version: int = 7, start: int = _NEWEST) -> Series:
        name = "proa_window_start_timestamp_seconds"
        return self._of_release(name, f"{start}x{_LENGTH}", version=version)

    def _labels(self, **more: str) -> dict[str, str]:
        known = {"model": self._model, "release": f"{self._model}/7"}
        mine = {key: known[key] for key in self._alert.by if key in known}
        return {**self._base, **mine, **more}

    def _case(self, scenario: str, series: Series, *fires: Mapping[str, str]) -> Case:
        return Case(self._alert, scenario, series, self._at, fires)

    def _own_rules(self) -> Series:
        return self._series(OWN_RULES, f"1x{_LENGTH}", model=self._model)

    # ---- alerts on findings -------------------------------------------------------------

    def _of_findings(self) -> Iterator[Case]:
        types, muted = self._alert.types, self._alert.muted
        data = " (data)" if set(types) <= set(DATA_BROKEN) else ""
        here, opened, two, shut, moment = self._window(), Series(), Series(), Series(), Series()
        for kind in types:
            opened |= self._open(kind)
            two |= self._open(kind) | self._open(kind, subject="b")
            shut |= self._open(kind, f"0x{_LENGTH}", "")
            moment |= self._open(kind, f"1x{max(0, self._alert.minutes - 3)} 0x{_LENGTH}")
        fires = [self._labels(type=kind) for kind in types]
        moving = self._series(
            "proa_rollout_phase", f"1x{_LENGTH}", model=self._model, phase="canary"
        )
        yield self._case(f"findings are open{data}", here | opened, *fires)
        yield self._case(f"two subjects are one alert{data}", here | two, *fires)
        yield self._case("looked at, and nothing there", here | shut)
        yield self._case(f"findings that closed in time{data}", here | moment)
        newer = self._window(version=8, start=_NEWEST + 3 * _DAY)
        yield self._case("nobody calls the release", here | newer | opened)
        yield self._case(f"windows are left out by the budget{data}", opened, *fires)
        away = dict.fromkeys(opened, "1x40 stale _x8 1x60")
        yield Case(self._alert, f"the monitor restarts{data}", here | away, 45, fires)
        kept = [] if muted else fires
        yield self._case(f"during a rollout{data}", here | opened | moving, *kept)
        if not data and self._alert.name != "ProaInputDataOdd":
            broken = self._open(DATA_BROKEN[0], subject="wind")
            yield self._case("while the data are broken", here | opened | broken, *kept)
        if self._scope.name is None:
            yield self._case("the project has rules of its own", here | opened | self._own_rules())
        if self._alert.name == "ProaEventsUnmatched":
            whole = {name.replace(f"{self._model}/7", ""): v for name, v in opened.items()}
            of_model = [{k: v for k, v in one.items() if k != "release"} for one in fires]
            yield self._case("of the model, of no release", whole, *of_model)

    # ---- alerts on figures --------------------------------------------------------------

    def _of_floors(self) -> Iterator[Case]:
        every = [self._labels(metric=floor.metric) for floor in self._scope.floors]
        here, many, few = self._window(), self._rows(5000), self._rows(60)
        beyond = self._floor_figures(0.9, 1.1)
        yield self._case("beyond the floors", here | beyond | many, *every)
        yield self._case("perhaps within the floors", here | self._floor_figures(1.05, 0.95) | many)
        yield self._case("few labels", here | beyond | few)
        guess = {s.replace("measured", "estimated"): v for s, v in beyond.items()}
        yield self._case("only estimated", here | guess | many)
        newer = self._window(version=8, start=_NEWEST + 3 * _DAY)
        yield self._case("nobody calls the release", here | beyond | many | newer)
        for floor in self._scope.floors:
            if floor.metric in SIGNED and not floor.at_least:
                values = f"-{1.1 * floor.bound:.6f}x{_LENGTH}"
                other = self._of_release(
                    "proa_quality_high",
                    values,
                    metric=floor.metric,
                    source="measured",
                    segment="all",
                )
                said_too_little = self._labels(metric=floor.metric)
                yield self._case("beyond on the other side", here | other | many, said_too_little)

    def _floor_figures(self, least: float, most: float) -> Series:
        """Ends of intervals: floors times `least`, ceilings times `most`."""
        series: Series = {}
        for floor in self._scope.floors:
            name = "proa_quality_high" if floor.at_least else "proa_quality_low"
            value = floor.bound * (least if floor.at_least else most)
            values = f"{value:.6f}x{_LENGTH}"
            series |= self._of_release(
                name, values, metric=floor.metric, source="measured", segment="all"
            )
        return series

    def _rows(self, count: int) -> Series:
        values = f"{count}x{_LENGTH}"
        return self._of_release("proa_quality_rows", values, source="measured", segment="all")

    def _of_calls(self) -> Iterator[Case]:
        shared = {"door": "user", "model": self._model, "pod": "a", "track": "champion"}
        budget, which = 1 - self._scope.objective, _CALLS_FAIL.index(self._alert.name)
        for scenario, good, failed, fires in _CALLS:
            values = failed
            if not failed:
                share = min(0.9, budget * float(scenario.split()[0]))
                values = f"0+{1000 * share / (1 - share):.4f}x{_LENGTH}"
            series = self._series("proa_gateway_calls_total", good, **shared, status="200")
            series |= self._series("proa_gateway_calls_total", values, **shared, status="503")
            found = [self._labels()] if fires[which] else []
            yield Case(self._alert, scenario, series, 100, found)
            if self._scope.name is None and scenario == _CALLS[0][0]:
                own = series | self._own_rules()
                yield Case(self._alert, "the project has rules of its own", own, 100)

    def _of_figures(self) -> Iterator[Case]:
        """Alerts on one series."""
        name, *tried = _FIGURES[self._alert.name]
        labels = {"pod": "monitor-0"}
        labels |= {"model": self._model} if "model" in self._alert.by else {}
        labels |= {"key": "time"} if name == "proa_monitor_rejected_total" else {}
        more: Series = {}
        if name == "proa_monitor_rejected_total":
            taken = {"model": self._model, "type": "answer", "purpose": "user"}
            more = self._series("proa_monitor_events_total", f"0+100x{_LENGTH}", **taken)
        for scenario, values in zip(_SCENARIOS, tried, strict=False):
            series = self._series(name, values, **labels) | more
            fires = scenario == _SCENARIOS[0] and "absent(" not in self._alert.expr
            yield self._case(scenario, series, *([self._labels()] if fires else []))
            if fires and OWN_RULES in self._alert.expr:
                yield self._case("the project has rules of its own", series | self._own_rules())


_CALLS_FAIL: Final = ("ProaCallsFail", "ProaCallsFailSlowly")
_CALLS: Final[Sequence[tuple[str, str, str, tuple[bool, bool]]]] = (
    # Scenario, good calls, failed ones (else so many times the budget), and which alerts fire.
    ("20 times the budget of errors", "0+1000x110", "", (True, True)),
    ("2 times the budget of errors", "0+1000x110", "", (False, True)),
    ("0.5 times the budget of errors", "0+1000x110", "", (False, False)),
    ("five of six calls of a quiet model fail", "0x20 1x90", "0x9 0+1x4 5x100", (False, False)),
    ("counters of calls begin again", "0+1000x30 0+1000x80", "9000x30 0x80", (False, False)),
    ("errors that have stopped", "0+1000x110", "0+500x40 20000x70", (False, True)),
)
_SCENARIOS: Final = ("figures out of order", "figures in order", "figures after a restart")
_FIGURES: Final[Mapping[str, Sequence[str]]] = {
    # The series, and its values in each scenario.
    "ProaMonitorStale": (_JUDGED, "0x110", "0+60x110"),
    "ProaNotWatched": (_JUDGED, "0x110", "0+60x110"),
    "ProaMonitorDown": ("proa_monitor_series", "10x110", "10x110"),
    "ProaMonitorDiskFull": ("proa_monitor_writable", "0x110", "0x1 1x110"),
    "ProaEventsLost": (_DROPPED, "0+1x110", "9x110", "9x4 0x110"),
    "ProaEventsRefused": ("proa_monitor_rejected_total", "0+5x110", "0+0.5x110", "90x5 0x110"),
    "ProaEventsPileUp": ("proa_monitor_compaction_failures_total", "0+1x110", "3x110", "3x5 0x110"),
    "ProaReleaseUnknown": ("proa_monitor_unknown_releases", "1x110", "1x20 0x110"),
    "ProaSeriesTruncated": ("proa_monitor_series_left_out", "40x110", "40x5 0x110"),
    "ProaJudgingFails": (
        "proa_monitor_judging_failures_total", "0+1x110", "0x5 1x110", "9x5 0x110"
    ),
    "ProaRetrainingBlind": (_LOOKED, "60x110", "60+60x110"),
    "ProaRetrainingStopped": ("proa_retraining_stopped", "1x110", "1x5 0x110"),
    "ProaRetrainingWaits": ("proa_retraining_approval_waiting", "1x110", "1x50 0x110"),
}  # fmt: skip
