"""What the dashboards of Grafana show: one for the fleet, one for each kind of model.

A panel is a title, a unit, and queries of Prometheus by legend. In a query `$N` stands for the
namespace's matcher, `$M` for it and the model's. charts/proa/METRICS.md says what a series means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["BOARDS", "Board", "Panel"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        queries: legend to PromQL.
        width: of the board's 24 columns.
        limit: a line drawn at this value, above which (or, `below`, under which) is trouble.
    """

    title: str
    unit: str
    queries: Mapping[str, str]
    width: int = 12
    kind: str = "timeseries"
    limit: float | None = None
    below: bool = False
    stacked: bool = False
    about: str = ""


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard; `models` is the query that lists the models to choose from, if any."""

    name: str
    title: str
    rows: Mapping[str, Sequence[Panel]]
    models: str = ""


def _quantile(share: float, family: str, by: str, matcher: str = "$M") -> str:
    inner = f"sum by (le, {by}) (rate({family}_bucket{{{matcher}}}[5m]))"
    return f"histogram_quantile({share}, {inner})"


_CALLS: Final = 'proa_gateway_calls_total{$N,door="user"'
"""Its braces are left open, for more matchers."""
_COST: Final = (
    'sum by (model) (rate(proa_gateway_cost_micro_total{%s,door="user"}[1h])) * 3600 / 1e6'
)
_FLEET: Final = Board(
    "fleet", "proa: the fleet",
    {
        "Models": [
            Panel("Open findings", "none", {"": (
                "sum by (model, release, type) (proa_finding_open{$N} == 1)"
            )}, kind="table", width=24, about="RUNBOOKS.md says for each type what to do."),
            Panel("Calls per second", "reqps", {"{{model}}": (
                f"sum by (model) (rate({_CALLS}}}[5m]))"
            )}),
            Panel("Share of calls that fail", "percentunit", {"{{model}}": (
                f'sum by (model) (rate({_CALLS},status=~"5.."}}[5m])) / '
                f"sum by (model) (rate({_CALLS}}}[5m]))"
            )}, limit=0.01),
            Panel("Latency, 95 of 100", "s", {"{{model}} {{track}}": _quantile(
                0.95, "proa_gateway_latency_seconds", "model, track", '$N,door="user"'
            )}),
            Panel("Time to first token, 95 of 100", "s", {"{{model}}": _quantile(
                0.95, "proa_gateway_ttft_seconds", "model", '$N,door="user"'
            )}),
            Panel("Drift: largest change of a feature, above 1 is drift", "none", {
                "{{release}}": "max by (release) (proa_drift_ratio{$N})"
            }, limit=1),
            Panel("Rows in the newest window", "short", {
                "{{release}}": "max by (release) (proa_window_rows{$N})"
            }),
        ],
        "Releases": [
            Panel("Challenger's weight", "percent", {
                "{{model}}": "max by (model) (proa_rollout_weight{$N})"
            }),
            Panel("Share of calls answered by a challenger", "percentunit", {"{{model}}": (
                f'sum by (model) (rate({_CALLS},track="challenger"}}[5m])) / '
                f"sum by (model) (rate({_CALLS}}}[5m]))"
            )}),
            Panel("Retraining: where it is", "none", {
                "{{model}} {{state}}": (
                    'max by (model, state) (proa_retraining_state{$N,state!="idle"})'
                )
            }),
            Panel("Retraining: stopped, or waiting for a person or for sound data", "none", {
                "{{model}} stopped": "max by (model) (proa_retraining_stopped{$N})",
                "{{model}} waits": "max by (model) (proa_retraining_approval_waiting{$N})",
                "{{model}} data broken": "max by (model) (proa_retraining_data_blocked{$N})",
            }, limit=1),
        ],
        "Cost and engines": [
            Panel("Cost per hour", "none", {"{{model}}": _COST % "$N"}),
            Panel("Tokens per second, by engine", "short", {"{{model}} {{direction}}": (
                'sum by (model, direction) (rate(proa_gateway_tokens_total{$N,door="engine"}[5m]))'
            )}),
            Panel("Requests running and waiting, by engine", "short", {"{{model_name}}": (
                'sum by (model_name) ({__name__=~"vllm:num_requests_(running|waiting)"})'
            )}),
            Panel("Keys and values in use, by engine", "percentunit", {
                "{{model_name}}": "max by (model_name) (vllm:kv_cache_usage_perc)"
            }),
        ],
        "The platform itself": [
            Panel("Seconds since a model was judged", "s", {
                "{{model}}": (
                    "time() - max by (model) (proa_monitor_last_judged_timestamp_seconds{$N})"
                )
            }, limit=900),
            Panel("Events per second: accepted, refused, dropped", "short", {
                "accepted": "sum (rate(proa_monitor_events_total{$N}[5m]))",
                "refused": "sum (rate(proa_monitor_rejected_total{$N}[5m]))",
                "dropped by services": "sum (rate(proa_monitor_emitter_dropped_total{$N}[5m]))",
            }),
            Panel("Calls waiting for the ledger", "bytes", {
                "{{pod}}": "max by (pod) (proa_gateway_spool_backlog_bytes{$N})"
            }),
            Panel("Routes generation, by gateway", "none", {
                "{{pod}}": "max by (pod) (proa_gateway_routes_generation{$N})"
            }),
            Panel("Series of the monitor: shown, left out", "short", {
                "shown": "sum (proa_monitor_series{$N})",
                "left out": "sum (proa_monitor_series_left_out{$N})",
            }),
            Panel("Spool files that wait to be segments", "short", {
                "waiting": "max (proa_monitor_spool_files_waiting{$N})"
            }),
        ],
    },
)  # fmt: skip

_FINDINGS: Final = Panel(
    "Open findings", "none",
    {"": "max by (release, track, type, subject) (proa_finding_open{$M} == 1)"},
    kind="table", width=16, about="RUNBOOKS.md says for each type what to do.",
)  # fmt: skip
_OPENED: Final = Panel(
    "Findings opened per day", "short",
    {"{{type}}": "sum by (type) (increase(proa_findings_total{$M}[1d])) > 0"}, width=8,
)  # fmt: skip
_TRAFFIC: Final = (
    Panel("Calls per second", "reqps", {
        "{{release}} {{track}}": "sum by (release, track) (rate(proa_model_calls_total{$M}[5m]))"
    }, width=8),
    Panel("Share of calls that fail", "percentunit", {"{{release}}": (
        "sum by (release) (rate(proa_model_errors_total{$M}[5m])) / "
        "sum by (release) (rate(proa_model_calls_total{$M}[5m]))"
    )}, width=8, limit=0.01),
    Panel("Latency, 50 and 95 of 100", "s", {
        "{{release}} 50": _quantile(0.5, "proa_model_latency_seconds", "release"),
        "{{release}} 95": _quantile(0.95, "proa_model_latency_seconds", "release"),
    }, width=8),
)  # fmt: skip
_DRIFT: Final = (
    Panel("Largest change, above 1 is drift", "none", {
        "{{release}} {{track}}": "max by (release, track) (proa_drift_ratio{$M})"
    }, width=8, limit=1, about="In units of what is ordinary between windows of the reference."),
    Panel("Contribution by feature: the ten that changed most", "none", {
        "{{feature}}": "topk(10, max by (feature) (proa_drift_feature_ratio{$M}))"
    }, width=8, limit=1),
    Panel("PSI by feature", "none", {
        "{{feature}}": "topk(10, max by (feature) (proa_drift_psi{$M}))"
    }, width=8),
)  # fmt: skip
_RETRAINING: Final = (
    Panel("Retraining: where it is", "none", {
        "{{state}}": "max by (state) (proa_retraining_state{$M})"
    }, width=8),
    Panel("Retraining: requests by cause, and how they ended", "short", {
        "asked: {{cause}}": "sum by (cause) (proa_retraining_requests_total{$M})",
        "ended: {{outcome}}": "sum by (outcome) (proa_retraining_runs_total{$M})",
    }, width=8),
    Panel("Challenger's weight, and stops", "none", {
        "weight in percent": "max (proa_rollout_weight{$M})",
        "retraining stopped": "max (proa_retraining_stopped{$M})",
    }, width=8),
)  # fmt: skip


def _with_interval(source: str, metric: str = "", segment: str = 'segment="all"') -> dict[str, str]:
    chosen = f'$M,{metric}source="{source}",{segment}'
    by = "release, metric"
    return {
        f"{{{{release}}}} {{{{metric}}}} {source}{end}": (
            f"max by ({by}) (proa_quality{name}{{{chosen}}})"
        )
        for end, name in (("", ""), (" at least", "_low"), (" at most", "_high"))
    }


_CLASSIC: Final = Board(
    "classic", "proa: a classic model",
    {
        "Findings": [_FINDINGS, _OPENED],
        "Quality": [
            Panel("Quality as measured, with its interval", "none",
                  _with_interval("measured", 'metric="$metric",'),
                  about="Of rows whose truth is known."),
            Panel("Quality as estimated, before the truth is known", "none",
                  _with_interval("estimated", 'metric="$metric",'),
                  about="Withdrawn where calibration has broken."),
            Panel("Slices: the ten lowest and the ten highest", "none", {
                "lowest {{segment}}": (
                    'bottomk(10, max by (segment) (proa_quality{$M,metric="$metric",'
                    'source="measured",segment!="all"}))'
                ),
                "highest {{segment}}": (
                    'topk(10, max by (segment) (proa_quality{$M,metric="$metric",'
                    'source="measured",segment!="all"}))'
                ),
            }),
            Panel("Fairness: gap between groups, and what it is at least", "none", {
                "{{attribute}} {{metric}}": "max by (attribute, metric) (proa_fairness_gap{$M})",
                "{{attribute}} {{metric}} at least": (
                    "max by (attribute, metric) (proa_fairness_gap_low{$M})"
                ),
            }),
            Panel("Share of predictions whose truth is known", "percentunit", {
                "{{release}}": "max by (release) (proa_label_coverage_ratio{$M})"
            }, width=8),
            Panel("Delay of the truth", "s", {
                "{{release}} {{quantile}}": (
                    "max by (release, quantile) (proa_label_delay_seconds{$M})"
                )
            }, width=8),
            Panel("Rows behind the figures", "short", {
                "{{release}} {{source}}": (
                    'max by (release, source) (proa_quality_rows{$M,segment="all"})'
                )
            }, width=8),
        ],
        "Data": [
            *_DRIFT,
            Panel("Values outside the ordinary bins: the ten largest shares", "percentunit", {
                "{{feature}} {{bin}}": (
                    "topk(10, sum by (feature, bin) (proa_window_values{$M}) / on (feature) "
                    "group_left () sum by (feature) (proa_window_feature_rows{$M}))"
                )
            }),
            Panel("Rows in the newest window", "short", {
                "{{release}} {{track}}": "max by (release, track) (proa_window_rows{$M})"
            }),
        ],
        "Traffic": _TRAFFIC,
        "Retraining": _RETRAINING,
    },
    "query_result(count by (model) (proa_model_calls_total{$N} unless on (model) "
    "proa_model_tokens_total))",
)  # fmt: skip

_LLM: Final = Board(
    "llm", "proa: a language model",
    {
        "Findings": [_FINDINGS, _OPENED],
        "Answers": [
            Panel("Quality as judged, with its interval", "none", _with_interval("judged"),
                  about="A sample of answers, judged by a model within its budget of tokens."),
            Panel("The judge's agreement with people", "percentunit", {
                "{{release}}": "max by (release) (proa_judge_agreement_ratio{$M})"
            }, about="Low agreement: the judged figures beside this mean nothing."),
            Panel("Shares of answers: refused, cached, guarded, cut, …", "percentunit", {
                "{{release}} {{signal}}": "max by (release, signal) (proa_answer_share{$M})"
            }),
            Panel("Bad answers that nobody has dealt with", "short", {
                "{{model}}": "max by (model) (proa_worklist_open{$M})"
            }),
        ],
        "Questions": [
            Panel("Topics", "percentunit", {
                "{{topic}}": "max by (topic) (proa_topic_share{$M})"
            }, stacked=True),
            Panel("Refusals", "percentunit", {"{{release}}": (
                "sum by (release) (rate(proa_model_refusals_total{$M}[1h])) / "
                "sum by (release) (rate(proa_model_calls_total{$M}[1h]))"
            )}),
            *_DRIFT,
        ],
        "Traffic": [
            *_TRAFFIC,
            Panel("Time to first token, 50 and 95 of 100", "s", {
                "{{release}} 50": _quantile(
                    0.5, "proa_model_time_to_first_token_seconds", "release"
                ),
                "{{release}} 95": _quantile(
                    0.95, "proa_model_time_to_first_token_seconds", "release"
                ),
            }, width=8),
            Panel("Tokens per second", "short", {"{{release}} {{direction}}": (
                "sum by (release, direction) (rate(proa_model_tokens_total{$M}[5m]))"
            )}, width=8),
            Panel("Cost per hour", "none", {"{{model}}": _COST % "$M"}, width=8),
            Panel("Tokens that the judge has used per hour", "short", {
                "{{model}}": "sum by (model) (increase(proa_monitor_judge_tokens_total{$M}[1h]))"
            }),
            Panel("Calls and events that do not match, per hour", "short", {
                "events without call": (
                    "sum (increase(proa_monitor_events_without_call_total{$M}[1h]))"
                ),
                "calls without event": (
                    "sum (increase(proa_monitor_calls_without_event_total{$M}[1h]))"
                ),
            }),
        ],
        "Retraining": _RETRAINING,
    },
    "label_values(proa_model_tokens_total{$N}, model)",
)  # fmt: skip
BOARDS: Final = (_FLEET, _CLASSIC, _LLM)
