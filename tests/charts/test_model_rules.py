"""Alerts on models and on the monitor, for every model and for one project: they must fire and
must not, as Prometheus itself evaluates them. The tests are those that `proa rules` writes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from proa.cli import make_cli
from proa.findings.alerts import Scope, alerts
from proa.findings.rule_tests import promtool_tests
from tests.charts import render
from tests.charts.test_rules import case_of, promtool

PROJECTS = {"flight-delay": "flight_delay", "python-help": "python_help"}
BOOKS = "https://example.com/runbooks#"


def given(*arguments: str) -> str:
    done = CliRunner().invoke(make_cli(), ["rules", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def groups() -> list[dict[str, Any]]:
    found = render.objects(case_of("proa-plain-behind-tls"))
    rules: dict[str, Any] = render.one(found, "PrometheusRule", "proa")["spec"]
    return [group for group in rules["groups"] if group["name"] == "proa.models"]


def test_the_charts_alerts_fire_when_they_should(
    groups: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The chart's are those of `proa rules`, for the platform's namespace."""
    base = render.settings(case_of("proa-plain-behind-tls"))["monitoring"]["runbookBase"]
    scope = Scope(namespace=render.NAMESPACE, runbooks=base)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(promtool_tests(scope, rules="rules.yaml")))
    assert "SUCCESS" in promtool("check", "rules", "--lint-fatal", str(tmp_path / "rules.yaml"))
    assert "SUCCESS" in promtool("test", "rules", str(tmp_path / "tests.yaml"))


@pytest.mark.parametrize("name", sorted(PROJECTS))
def test_a_projects_alerts_fire_when_they_should(name: str, tmp_path: Path) -> None:
    folder = render.ROOT / "pipelines" / PROJECTS[name]
    given(name, "--project", str(folder), "--into", str(tmp_path), "--namespace", "here")
    checked = promtool("check", "rules", "--lint-fatal", str(tmp_path / f"{name}.yaml"))
    assert "SUCCESS" in checked
    assert "SUCCESS" in promtool("test", "rules", str(tmp_path / f"{name}-test.yaml"))


def test_a_wrong_rule_is_found(tmp_path: Path) -> None:
    """Drift that is no longer muted during a rollout fails the tests that came with the rules."""
    folder = render.ROOT / "pipelines/flight_delay"
    given("flight-delay", "--project", str(folder), "--into", str(tmp_path))
    rules = yaml.safe_load((tmp_path / "flight-delay.yaml").read_text())
    (group,) = rules["groups"]
    (drift,) = [rule for rule in group["rules"] if rule.get("alert") == "ProaPredictionDrift"]
    parts = re.split(r" unless on \(namespace, model\) (?=namespace_model:)", drift["expr"])
    assert len(parts) == 2
    drift["expr"] = parts[0]
    (tmp_path / "flight-delay.yaml").write_text(yaml.safe_dump(rules))
    with pytest.raises(AssertionError, match="during a rollout"):
        promtool("test", "rules", "--run", "during", str(tmp_path / "flight-delay-test.yaml"))


def test_every_alert_has_a_runbook(groups: list[dict[str, Any]]) -> None:
    folder = render.ROOT / "pipelines/flight_delay"
    text = given("flight-delay", "--project", str(folder), "--runbooks", BOOKS)
    rules = [*groups[0]["rules"], *yaml.safe_load(text)["groups"][0]["rules"]]
    named = {rule["alert"]: rule for rule in rules if "alert" in rule}
    assert {alert.name for alert in alerts(Scope())} < set(named)
    pages = (render.CHARTS / "proa" / "RUNBOOKS.md").read_text()
    sections = set(re.findall(r"^## (\w+)$", pages, re.MULTILINE))
    found = render.objects(case_of("proa-plain-behind-tls"))
    chart = render.one(found, "PrometheusRule", "proa")["spec"]["groups"]
    platform = {rule["alert"] for group in chart for rule in group["rules"] if "alert" in rule}
    assert sections == set(named) | platform, "a runbook that no alert leads to"
    for name, rule in named.items():
        assert rule["annotations"]["runbook_url"].endswith(f"#{name.lower()}")
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
