"""Alerts of Prometheus on what the monitor judged: of one project, or of every model. Pure.

The judging is the monitor's (`proa_finding_open`): significance, floors and patience are decided
there, in code that is tested for false alarms. An alert adds what only Prometheus knows: that a
rollout is under way, that the data are broken so that drift means nothing, that the monitor itself
is silent. Errors are judged here, by burn rates of an error budget over two windows each (SRE
Workbook, chapter 5), with at least ten failed calls, so that a quiet model does not page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from proa.findings.observation import Severity

__all__ = ["DATA_BROKEN", "OPEN", "Alert", "Floor", "Scope", "alerts", "recordings"]

Kind = Literal["classic", "llm"]

OPEN: Final = "namespace_model_release_type:proa_finding_open:max"
CURRENT: Final = "namespace_model_release:proa_window_start:current"
ROLLOUT: Final = "namespace_model:proa_rollout:under_way"
FAILED: Final = "namespace_model:proa_calls_failed:ratio_rate"
OWN_RULES: Final = "proa_project_rules"

DATA_BROKEN: Final = (
    *("null_burst", "invalid_values", "category_flood", "schema", "stale_feature", "skew"),
)
"""Findings under which a drift says nothing: they keep the alerts on drift quiet."""

SIGNED: Final = ("calibration_gap",)
"""Metrics with a sign in `/metrics`, whose size the exam bounds."""

_PRESENT_DAYS: Final = 2
_LEAST_FAILED: Final = 10
_LEAST_ROWS: Final = 300
_STALE_SECONDS: Final = 900


@dataclass(frozen=True, slots=True)
class Floor:
    """A bound that a project's exam sets on a metric which the monitor measures too."""

    metric: str
    bound: float
    at_least: bool


@dataclass(frozen=True, slots=True)
class Scope:
    """What rules are for.

    Attributes:
        name: the model; None for every model which has no rules of its own.
        kind: of the model; None for both.
        team: who is told, a label of each alert; empty for none.
        floors, slices: of the project; a slice's finding is asked for only where there are slices.
        namespace: label of the platform's series, or None where they have none.
        runbooks: in front of an alert's name in lower case.
        objective: share of calls that must not fail.
    """

    name: str | None = None
    kind: Kind | None = None
    team: str = ""
    floors: tuple[Floor, ...] = ()
    slices: tuple[str, ...] = ()
    namespace: str | None = None
    runbooks: str = "charts/proa/RUNBOOKS.md#"
    objective: float = 0.99

    def select(self, *more: str) -> str:
        """Label matchers of this scope and `more`, in braces."""
        mine = [f'namespace="{self.namespace}"'] if self.namespace is not None else []
        mine += [f'model="{self.name}"'] if self.name is not None else []
        found = ",".join((*mine, *more))
        return f"{{{found}}}" if found else ""

    def recorded(self, record: str, *more: str) -> str:
        """The recording of this scope, never that of another one."""
        return record + self.select(*more, f'rules="{self.name or ""}"')


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule.

    Attributes:
        minutes: how long it must be so.
        types: of findings, when it is about findings.
        by: labels that the alert has besides its own and `namespace`.
        muted: quiet while a rollout is under way or the data are broken.
    """

    name: str
    expr: str
    minutes: int
    severity: Severity
    summary: str
    types: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    muted: bool = False


@dataclass(frozen=True, slots=True)
class _OfFindings:
    """An alert while any finding of `types` is open."""

    name: str
    types: tuple[str, ...]
    severity: Severity
    minutes: int
    summary: str
    kind: Kind | None = None
    muted: bool = False
    sliced: bool = field(default=False)


_WHO: Final = "{{ $labels.release }}"
_OF_FINDINGS: Final = (
    _OfFindings(
        "ProaInputDataBroken", DATA_BROKEN, "critical", 5,
        f"{_WHO} gets broken data ({{{{ $labels.type }}}}): nothing is learned from them",
    ),
    _OfFindings(
        "ProaInputDataOdd", ("new_category", "volume"), "warning", 15,
        f"{_WHO} gets data as never before ({{{{ $labels.type }}}})",
    ),
    _OfFindings(
        "ProaQualityDrop", ("quality",), "critical", 5, f"The answers of {_WHO} have become worse",
    ),
    _OfFindings(
        "ProaCalibrationBroken", ("calibration",), "warning", 5,
        f"The probabilities of {_WHO} are no longer what comes true", "classic",
    ),
    _OfFindings(
        "ProaEstimatedQualityDrop", ("estimated_quality",), "warning", 15,
        f"The answers of {_WHO} seem worse, before any truth is known", "classic", muted=True,
    ),
    _OfFindings(
        "ProaSliceQualityDrop", ("slice_quality",), "warning", 5,
        f"The answers of {_WHO} have become worse for a part of its users", sliced=True,
    ),
    _OfFindings(
        "ProaLabelsLate", ("label_delay",), "warning", 15,
        f"The truth about {_WHO} comes later than it used to, or not at all",
    ),
    _OfFindings(
        "ProaFairnessGap", ("fairness",), "warning", 15,
        f"{_WHO} treats groups differently beyond what is tolerated",
    ),
    _OfFindings(
        "ProaPredictionDrift", ("prediction_drift",), "warning", 15,
        f"{_WHO} predicts otherwise than it used to", "classic", muted=True,
    ),
    _OfFindings(
        "ProaFeatureDrift", ("feature_drift",), "info", 15,
        f"{_WHO} sees other data than it was made with", muted=True,
    ),
    _OfFindings(
        "ProaReasonsDrift", ("reasons_drift",), "info", 15,
        f"{_WHO} decides for other reasons than it used to", "classic", muted=True,
    ),
    _OfFindings(
        "ProaSemanticDrift", ("semantic_drift",), "warning", 15,
        f"{_WHO} is asked about other things than it used to be", "llm", muted=True,
    ),
    _OfFindings(
        "ProaAnswersWorse", ("judged_quality", "groundedness", "feedback"), "warning", 5,
        f"The answers of {_WHO} are judged worse ({{{{ $labels.type }}}})", "llm",
    ),
    _OfFindings(
        "ProaJudgeDisagrees", ("judge_agreement",), "warning", 5,
        f"The judge of {_WHO} no longer agrees with people: its scores mean nothing", "llm",
    ),
    _OfFindings(
        "ProaRetrievalWorse", ("retrieval", "index_stale"), "warning", 15,
        f"{_WHO} finds less in its documents, or they are old ({{{{ $labels.type }}}})", "llm",
    ),
    _OfFindings(
        "ProaAnswersRefused", ("refusals", "guard"), "warning", 15,
        f"{_WHO} refuses or is stopped at another rate ({{{{ $labels.type }}}})", "llm",
    ),
    _OfFindings(
        "ProaAnswersChanged", ("length", "finish_reason", "cache"), "info", 15,
        f"The answers of {_WHO} have another shape ({{{{ $labels.type }}}})", "llm",
    ),
    _OfFindings(
        "ProaServiceChanged", ("errors", "latency", "first_token", "tokens", "cost"), "warning", 15,
        f"{_WHO} is slower, dearer or fails more ({{{{ $labels.type }}}})", muted=True,
    ),
    _OfFindings(
        "ProaEventsUnmatched", ("event_without_call", "call_without_event"), "warning", 15,
        "Calls and events of {{ $labels.model }} do not match ({{ $labels.type }})",
    ),
)  # fmt: skip


def recordings(scope: Scope) -> Iterator[tuple[str, str]]:
    """Names and expressions of the series that the alerts read, in the order they are needed."""
    start = f"proa_window_start_timestamp_seconds{scope.select()}"
    by = "namespace, model"
    newest = f"(max by ({by}) ({start}) - {_PRESENT_DAYS * 86400})"
    yield CURRENT, f"max by ({by}, release) ({start}) >= on ({by}) group_left () {newest}"
    found = f"max by ({by}, release, type) (proa_finding_open%s)"
    every = found % scope.select()
    served = f"({every} and on ({by}, release) {scope.recorded(CURRENT)})"
    unseen = f"({every} unless on ({by}) {start})"  # windows may be left out by the budget
    of_none = found % scope.select('release=""')  # of the model as such
    yield OPEN, f"{served} or {unseen} or {of_none}"
    phase = scope.select('phase!="idle"')
    yield ROLLOUT, f"max by ({by}) (proa_rollout_phase{phase})"
    for length in ("5m", "30m", "1h", "6h", "3d"):
        failed, calls = _failed(scope, length)
        yield FAILED + length, f"sum by ({by}) (rate({failed})) / sum by ({by}) (rate({calls}))"


def alerts(scope: Scope) -> list[Alert]:
    """Every alert of the scope."""
    found = [*_monitor(scope)] if scope.name is None else []
    found += [*_silent(scope), *_calls(scope)]
    found += [_of_findings(scope, each) for each in _OF_FINDINGS if _wanted(scope, each)]
    if scope.floors:
        found.append(_floors(scope))
    return [*found, *_retraining(scope)]


def _wanted(scope: Scope, each: _OfFindings) -> bool:
    if each.kind is not None and scope.kind not in (None, each.kind):
        return False
    return bool(scope.slices) or scope.name is None or not each.sliced


def _of_findings(scope: Scope, each: _OfFindings) -> Alert:
    by = ("model", "release", "type")
    some = _open(scope, each.types)
    quiet = ""
    if each.muted:
        quiet += f" unless on (namespace, model) {_open(scope, DATA_BROKEN)}"
        quiet += f" unless on (namespace, model) {scope.recorded(ROLLOUT)} == 1"
    expr = some + quiet + _without_own(scope)
    return Alert(
        each.name, expr, each.minutes, each.severity, each.summary, each.types, by, each.muted
    )


def _open(scope: Scope, types: Sequence[str]) -> str:
    series = scope.recorded(OPEN, f'type=~"{"|".join(types)}"')
    return f"max by (namespace, model, release, type) ({series}) == 1"


def _without_own(scope: Scope) -> str:
    """A project with rules of its own is told once."""
    if scope.name is not None:
        return ""
    here = "" if scope.namespace is None else f'{{namespace=~"|{scope.namespace}"}}'
    return f" unless on (model) {OWN_RULES}{here}"


def _failed(scope: Scope, length: str) -> tuple[str, str]:
    calls = "proa_gateway_calls_total"
    return (
        calls + scope.select('door="user"', 'status=~"5.."') + f"[{length}]",
        calls + scope.select('door="user"') + f"[{length}]",
    )


def _burns(scope: Scope, factor: float, long: str, short: str) -> str:
    limit = f"{round(factor * (1 - scope.objective), 6):g}"
    ratios = [
        f"max by (namespace, model) ({scope.recorded(FAILED + length)}) > {limit}"
        for length in (long, short)
    ]
    enough = f"sum by (namespace, model) (increase({_failed(scope, long)[0]})) >= {_LEAST_FAILED}"
    return f"({' and '.join((*ratios, enough))})"


def _calls(scope: Scope) -> Iterator[Alert]:
    """Factors and windows: 2, 5 and 10 % of a month's budget in 1 hour, 6 hours and 3 days."""
    fast = f"({_burns(scope, 14.4, '1h', '5m')} or {_burns(scope, 6, '6h', '30m')})"
    slow = _burns(scope, 1, "3d", "6h")
    share = f"{100 * (1 - scope.objective):.3g}"
    more = _without_own(scope)
    yield Alert(
        "ProaCallsFail", fast + more, 2, "critical",
        f"Calls of {{{{ $labels.model }}}} fail so often that the budget of {share} of 100 is "
        "gone in days",
        by=("model",),
    )  # fmt: skip
    yield Alert(
        "ProaCallsFailSlowly", slow + more, 60, "warning",
        f"More than {share} of 100 calls of {{{{ $labels.model }}}} have failed for days",
        by=("model",),
    )  # fmt: skip


def _silent(scope: Scope) -> Iterator[Alert]:
    judged = f"proa_monitor_last_judged_timestamp_seconds{scope.select()}"
    yield Alert(
        "ProaMonitorStale",
        f"time() - max by (namespace, model) ({judged}) > {_STALE_SECONDS}{_without_own(scope)}",
        5, "critical", "{{ $labels.model }} has not been judged for a quarter of an hour",
        by=("model",),
    )  # fmt: skip
    if scope.name is not None:
        yield Alert(
            "ProaNotWatched", f"absent({judged})", 60, "warning",
            "Nobody judges {{ $labels.model }}: no event of it has come, or nobody looks",
            by=("model",),
        )  # fmt: skip


def _floors(scope: Scope) -> Alert:
    by = "namespace, model, release"
    some = ('source="measured"', 'segment="all"')
    rows = f"max by ({by}) (proa_quality_rows{scope.select(*some)}) >= {_LEAST_ROWS}"
    below = []
    for floor in scope.floors:
        end, sign = ("high", "<") if floor.at_least else ("low", ">")
        chosen = scope.select(f'metric="{floor.metric}"', *some)
        series = f"proa_quality_{end}{chosen}"
        below.append(f"max by ({by}, metric) ({series}) {sign} {floor.bound:g}")
        if floor.metric in SIGNED and not floor.at_least:
            other = f"proa_quality_high{chosen}"
            below.append(f"max by ({by}, metric) ({other}) < -{floor.bound:g}")
    expr = f"({' or '.join(below)}) and on ({by}) {scope.recorded(CURRENT)} and on ({by}) ({rows})"
    return Alert(
        "ProaQualityBelowFloor", expr, 5, "critical",
        f"{{{{ $labels.metric }}}} of {_WHO} is beyond the exam's floor, with its whole interval",
        by=("model", "release", "metric"),
    )  # fmt: skip


def _retraining(scope: Scope) -> Iterator[Alert]:
    here, more = scope.select(), _without_own(scope)
    rows: list[tuple[str, str, int, Severity, str]] = [
        ("ProaRetrainingStopped", "proa_retraining_stopped", 0, "critical",
         "Retraining {{ $labels.model }} was stopped: its candidates failed one after the other"),
        ("ProaRetrainingWaits", "proa_retraining_approval_waiting", 60, "warning",
         "Retraining {{ $labels.model }} waits for somebody's yes"),
    ]  # fmt: skip
    for name, series, minutes, severity, summary in rows:
        expr = f"max by (namespace, model) ({series}{here}) == 1{more}"
        yield Alert(name, expr, minutes, severity, summary, by=("model",))


def _monitor(scope: Scope) -> Iterator[Alert]:
    """Of the monitor as such, whatever it watches."""
    here = scope.select()
    whole = "by (namespace)"
    refused, taken = f"proa_monitor_rejected_total{here}", f"proa_monitor_events_total{here}"
    rate = f"sum {whole} (rate({refused}[15m]))"
    lost = f"sum {whole} (increase(proa_monitor_emitter_dropped_total{here}[15m])) > 0"
    odd = (
        f"{rate} / ({rate} + sum {whole} (rate({taken}[15m]))) > 0.01 "
        f"and sum {whole} (increase({refused}[15m])) >= {_LEAST_FAILED}"
    )
    waits = f"sum {whole} (increase(proa_monitor_compaction_failures_total{here}[1h])) > 0"
    failures = f"increase(proa_monitor_judging_failures_total{here}[30m])"
    rows: list[tuple[str, str, int, Severity, str]] = [
        ("Down", f"absent(proa_monitor_series{here})", 5, "critical",
         "No monitor is seen: nobody would notice drift, or bad answers"),
        ("DiskFull", f"min {whole} (proa_monitor_writable{here}) == 0", 2, "critical",
         "The monitor cannot store events: services keep a few and drop the rest"),
        ("SeriesTruncated", f"max {whole} (proa_monitor_series_left_out{here}) > 0", 15, "warning",
         "The monitor has more series than its budget: alerts may not see some"),
        ("EventsLost", lost, 0, "warning", "Services dropped events: windows and drift miss them"),
        ("EventsRefused", odd, 5, "warning",
         "More than 1 of 100 events are not what an event must be, and are refused"),
        ("EventsPileUp", waits, 0, "warning",
         "Stored events cannot be turned into segments: the monitor's folder grows"),
        ("ReleaseUnknown", f"max {whole} (proa_monitor_unknown_releases{here}) > 0", 30, "warning",
         "Events name a release that is not in the bundle store: it is not watched"),
    ]  # fmt: skip
    look = f"max {whole} (proa_retraining_last_look_timestamp_seconds{here} > 0)"
    rows.append(
        ("RetrainingBlind", f"time() - {look} > 600", 5, "warning",
         "The controller cannot read the monitor's findings: nothing is retrained for them")
    )  # fmt: skip
    own = ("Down", "DiskFull")
    for name, expr, minutes, severity, summary in rows:
        title = f"ProaMonitor{name}" if name in own else f"Proa{name}"
        yield Alert(title, expr, minutes, severity, summary)
    yield Alert(
        "ProaJudgingFails", f"sum by (namespace, model) ({failures}) > 3", 0, "warning",
        "Judging {{ $labels.model }} fails again and again", by=("model",),
    )  # fmt: skip
