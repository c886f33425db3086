"""Rules of Prometheus as data: each type of finding has its alert, each alert has its cases.

That they fire and keep quiet is Prometheus' own word: tests/charts/test_model_rules.py.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from proa.cli import make_cli
from proa.errors import InvalidInput, NotFound
from proa.findings.alerts import DATA_BROKEN, Floor, Scope, alerts
from proa.findings.observation import GROUPS
from proa.findings.rule_tests import cases_of
from proa.findings.rules import rules_of

PIPELINES = Path(__file__).resolve().parents[3] / "pipelines"
FLIGHT = Scope(
    "flight-delay", "classic", "operations", (Floor("roc_auc", 0.65, True),), ("carrier",)
)
HELP = Scope("python-help", "llm", "docs")


def test_each_type_of_finding_has_one_alert() -> None:
    types = Counter(kind for alert in alerts(Scope()) for kind in alert.types)
    assert types == dict.fromkeys(GROUPS, 1)


def test_a_feature_that_drifts_wakes_nobody() -> None:
    (drift,) = [alert for alert in alerts(Scope()) if "feature_drift" in alert.types]
    assert drift.severity == "info"


def test_what_is_about_drift_is_muted() -> None:
    for alert in alerts(Scope()):
        if {GROUPS[kind] for kind in alert.types} == {"drift"} or "Estimated" in alert.name:
            assert alert.muted, alert.name
        if set(alert.types) & set(DATA_BROKEN) or alert.name.startswith("ProaQuality"):
            assert not alert.muted, alert.name


@pytest.mark.parametrize("scope", [Scope(), Scope(namespace="here"), FLIGHT, HELP], ids=str)
def test_each_alert_is_tried_both_ways(scope: Scope) -> None:
    cases = cases_of(scope)
    found = alerts(scope)
    assert len({alert.name for alert in found}) == len(found)
    for alert in found:
        fires = [bool(case.fires) for case in cases if case.alert.name == alert.name]
        assert {True, False} == set(fires), alert.name


def test_a_project_gets_its_own() -> None:
    mine = {alert.name: alert for alert in alerts(FLIGHT)}
    theirs = {alert.name for alert in alerts(HELP)}
    assert {"ProaCalibrationBroken", "ProaSliceQualityDrop", "ProaQualityBelowFloor"} <= set(mine)
    assert {"ProaSemanticDrift", "ProaJudgeDisagrees"} <= theirs
    assert not {"ProaSemanticDrift", "ProaMonitorDown"} & set(mine)
    assert not {"ProaCalibrationBroken", "ProaSliceQualityDrop", "ProaQualityBelowFloor"} & theirs
    assert "< 0.65" in mine["ProaQualityBelowFloor"].expr
    for rule in rules_of(FLIGHT)["groups"][0]["rules"]:
        if "alert" in rule:
            assert rule["labels"]["team"] == "operations"
            assert 'model="flight-delay"' in rule["expr"]


def test_the_objective_is_the_limit() -> None:
    (fast,) = [alert for alert in alerts(Scope(objective=0.999)) if alert.name == "ProaCallsFail"]
    assert "> 0.0144 " in fast.expr
    assert "> 0.006 " in fast.expr


def test_the_command(tmp_path: Path) -> None:
    def given(*arguments: str) -> str:
        done = CliRunner().invoke(make_cli(), ["rules", *arguments])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    folder = str(PIPELINES / "flight_delay")
    text = given("flight-delay", "--project", folder, "--kubernetes", "--namespace", "here")
    made = yaml.safe_load(text)
    assert (made["kind"], made["metadata"]["namespace"]) == ("PrometheusRule", "here")
    assert made["metadata"]["labels"]["proa.dev/model"] == "flight-delay"
    assert 'metric="roc_auc"' in text
    assert "passed" in given("python-help", "--project", str(PIPELINES / "python_help"))
    written = given("flight-delay", "--project", folder, "--into", str(tmp_path)).split()
    assert [Path(path).name for path in written] == ["flight-delay.yaml", "flight-delay-test.yaml"]
    assert yaml.safe_load(given())["groups"][0]["name"] == "proa.models"
    with pytest.raises(InvalidInput, match="'flight-delay', not 'other'"):
        given("other", "--project", folder)
    with pytest.raises(NotFound):
        given("other", "--project", str(tmp_path))
    with pytest.raises(InvalidInput, match="expected NAME"):
        given("--project", folder)
