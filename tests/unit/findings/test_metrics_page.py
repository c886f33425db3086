"""charts/proa/METRICS.md says what processes export: names, types and labels, both ways.

The monitor as a process is in tests/services/monitor/test_monitor_metrics.py. The controller's
state is a stand-in here: what is looked at is the names.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from proa_assistant.metrics import Metrics as AssistantMetrics
from proa_controller.metrics import ControllerMetrics
from proa_gateway.metrics import Metrics as GatewayMetrics
from proa_monitor.signals import (
    FairnessFigure,
    ModelSignals,
    QualityFigure,
    ReleaseSignals,
    signal_families,
)
from proa_predictor.metrics import Metrics as PredictorMetrics
from tests import metrics_page

SERVICES = Path(__file__).resolve().parents[3] / "services"
RELEASE = ("flight-delay", "flight-delay/7", "0" * 12, "champion")


def name_of(family: Metric) -> str:
    return family.name + ("_total" if family.type == "counter" else "")


def check(families: list[Metric]) -> set[str]:
    """Each is on the page, with its type and with the labels of its samples; their names."""
    for family in families:
        page = metrics_page.documented(name_of(family))
        assert page is not None, f"{name_of(family)} is not on the page"
        assert page.type == family.type, page.name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(page.labels), sample.name
    return {name_of(family) for family in families}


def signals(**more: Any) -> list[Metric]:
    everything = ReleaseSignals(
        RELEASE,
        open={"feature_drift": ["wind", "temp"]},
        judged={"feature_drift", "quality"},
        opened={"feature_drift": 3},
        quality=[QualityFigure("roc_auc", "measured", "carrier=UA", 0.7, 0.6, 0.8)],
        rows={("measured", "all"): 900},
        label_coverage=0.5,
        label_delay={"0.5": 3600.0},
        fairness=[FairnessFigure("age", "true_positive_rate", 0.2, 0.1)],
        topics={"asyncio": 0.1},
        answers={"refused": 0.1},
        judge_agreement=0.8,
    )
    releases = more.get("releases", [everything])
    return list(signal_families(releases, [ModelSignals("m", last_judged=1.0)], writable=True))


def samples(families: list[Metric]) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_every_signal_is_on_the_page() -> None:
    families = signals()
    names = check(families)
    assert all(family.samples for family in families if family.name != "proa_findings_hidden")
    assert names < set(metrics_page.sections()["Monitor"])


def test_what_nobody_knows_is_no_series() -> None:
    empty = samples(signals(releases=[ReleaseSignals(RELEASE)]))
    assert {key[0] for key in empty} == {
        "proa_monitor_last_judged_timestamp_seconds",
        "proa_monitor_judging_failures_total",
        "proa_monitor_events_without_call_total",
        "proa_monitor_calls_without_event_total",
        "proa_monitor_judge_tokens_total",
        "proa_monitor_writable",
    }
    odd = ReleaseSignals(RELEASE, judge_agreement=float("nan"), topics={"a": float("inf")})
    assert samples(signals(releases=[odd])) == empty


def test_fine_differs_from_not_looked_at() -> None:
    found = samples(signals())
    shown = {key: value for key, value in found.items() if key[0] == "proa_finding_open"}
    assert sorted(shown.values()) == [0.0, 1.0, 1.0]
    assert [value for key, value in shown.items() if "quality" in key] == [0.0]


def test_a_thousand_findings_are_twenty_series() -> None:
    subjects = [f"feature {number} {'x' * 500}" for number in range(1000)]
    many = ReleaseSignals(RELEASE, open={"feature_drift": subjects})
    found = samples(signals(releases=[many]))
    shown = [key for key in found if key[0] == "proa_finding_open"]
    assert len(shown) == 20
    assert max(len(label) for key in shown for label in key) <= 120
    (hidden,) = [value for key, value in found.items() if key[0] == "proa_findings_hidden"]
    assert hidden == 980


class Stub:
    """Stands in for the controller: whatever is asked for a model is there."""

    def routes_generation(self) -> int:
        return 1

    def names(self) -> list[str]:
        return ["m"]

    retraining_models = language_models = names

    def status(self, name: str) -> dict[str, Any]:
        return {"weight": 1.0, "warm_seconds_left": 9.0, "warm": True, "phase": "idle"}

    def retraining_counts(self, name: str) -> Any:
        ended = SimpleNamespace(cause="quality", state="done", is_open=False)
        return SimpleNamespace(open=None, requests=[ended], stopped=True)

    def looked(self, name: str) -> Any:
        return SimpleNamespace(blocked=True)


def of_controller() -> list[Metric]:
    made: Any = ControllerMetrics
    worklist = SimpleNamespace(open_counts=lambda: {"m": 2})
    retrainer = SimpleNamespace(looked_at=1.0)
    return list(made(CollectorRegistry(), Stub(), None, retrainer, worklist).collect())


@pytest.mark.parametrize(
    ("section", "prefix", "families"),
    [
        ("Gateway", "proa_gateway_", lambda: list(GatewayMetrics().registry.collect())),
        ("Predictor and assistant", "proa_predictor_",
         lambda: list(PredictorMetrics(None).registry.collect())),
        ("Predictor and assistant", "proa_assistant_",
         lambda: list(AssistantMetrics(None).registry.collect())),
        ("Controller", "proa_", of_controller),
    ],
    ids=["gateway", "predictor", "assistant", "controller"],
)  # fmt: skip
def test_the_page_names_what_a_process_exports(section: str, prefix: str, families: Any) -> None:
    found = check(families())
    assert found
    page = {name for name in metrics_page.sections()[section] if name.startswith(prefix)}
    folders = {"Predictor and assistant": ("proa_predictor", "proa_assistant")}.get(
        section, (f"proa_{section.lower()}",)
    )
    source = "".join(p.read_text() for f in folders for p in (SERVICES / f).glob("*.py"))
    assert section != "Controller" or found == page
    for name in page - found:  # made by name, in the composition root
        plain = re.sub("_total$", "", name)
        assert f'"{plain}"' in source or f'"{plain.removeprefix(prefix)}"' in source, name
