"""Alerts on the platform fire when they should and not before; autoscalers' queries return one
number. Those on models and on the monitor are in test_model_rules.py.

Prometheus itself evaluates what the charts render, over series with the names and labels that the
processes export.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import metrics_page, tools
from tests.charts import render

HERE = f'namespace="{render.NAMESPACE}"'
CALLS = "proa_gateway_calls_total"


@dataclass(frozen=True)
class Alert:
    """When an alert fires.

    Attributes:
        fires: series, in promtool's notation, under which it does.
        quiet: series under which it does not.
        labels: of the alert that fires, beside its severity.
        at: minutes until then.
    """

    name: str
    fires: dict[str, str]
    quiet: dict[str, str]
    labels: dict[str, str]
    at: int = 20


def phase(name: str, value: str) -> dict[str, str]:
    return {f'proa_rollout_phase{{{HERE},model="m",phase="{name}"}}': value}


def engine(tokens: str, running: str = "3x40") -> dict[str, str]:
    labels = f'{HERE},pod="e",model_name="eng-1",engine="0"'
    return {
        f"vllm:num_requests_running{{{labels}}}": running,
        f"vllm:iteration_tokens_total_count{{{labels}}}": tokens,
    }


def generations(controller: str, first: str, second: str) -> dict[str, str]:
    return {
        f'proa_controller_routes_generation{{{HERE},pod="c"}}': controller,
        f'proa_gateway_routes_generation{{{HERE},pod="a"}}': first,
        f'proa_gateway_routes_generation{{{HERE},pod="b"}}': second,
    }


def gauge(name: str, value: str, **labels: str) -> dict[str, str]:
    more = "".join(f',{key}="{text}"' for key, text in labels.items())
    return {f"{name}{{{HERE}{more}}}": value}


NS = {"namespace": render.NAMESPACE}
ALERTS = [
    Alert(
        "ProaRolloutStuck",
        phase("canary", "1x70 0x100") | phase("promoting", "0x70 1x100") | phase("idle", "0x170"),
        phase("canary", "1x30 0x100") | phase("idle", "0x30 1x100"),
        {**NS, "model": "m"},
        at=130,
    ),
    Alert(
        "ProaControllerNotLeading",
        gauge("proa_controller_leader", "0x40", pod="a")
        | gauge("proa_controller_leader", "0x40", pod="b"),
        gauge("proa_controller_leader", "1x40", pod="a")
        | gauge("proa_controller_leader", "0x40", pod="b"),
        NS,
    ),
    Alert(
        "ProaRoutesStale", generations("7x40", "7x40", "6x40"), generations("7x40", "7x40", "7x40"),
        NS,
    ),
    Alert(
        "ProaRoutesRefused",
        gauge("proa_gateway_engines_refused", "1x40", pod="a"),
        gauge("proa_gateway_routes_refused", "1x4 0x40", pod="a"),
        {**NS, "pod": "a"},
    ),
    Alert(
        "ProaRollbackNotReady",
        gauge("proa_rollout_rollback_ready", "0x40", model="m"),
        gauge("proa_rollout_rollback_ready", "0x9 1x30", model="m"),
        {**NS, "model": "m"},
    ),
    Alert("ProaEngineStalled", engine("500x40"), engine("0+9x40"), {**NS, "pod": "e"}),
    Alert("ProaEngineStalled", engine("0+9x5 50x40"), engine("50x40", "0x40"), {**NS, "pod": "e"}),
    Alert(
        "ProaEngineFull",
        gauge("vllm:admission_rejections_total", "0+5x40", pod="e", model_name="eng-1"),
        gauge("vllm:admission_rejections_total", "7x40", pod="e", model_name="eng-1"),
        {**NS, "model_name": "eng-1"},
    ),
    Alert(
        "ProaBudgetNear",
        gauge("proa_gateway_budget_used_ratio", "0.81x40", team="t", pod="a"),
        gauge("proa_gateway_budget_used_ratio", "0.79x40", team="t", pod="a"),
        {**NS, "team": "t"},
    ),
    Alert("ProaGatewayDown", {}, generations("1x40", "1x40", "1x40"), NS),
    Alert(
        "ProaLedgerBehind",
        gauge("proa_gateway_spool_backlog_bytes", "7e7x40", pod="a"),
        gauge("proa_gateway_spool_backlog_bytes", "7e7x5 0x40", pod="a"),
        {**NS, "pod": "a"},
    ),
]  # fmt: skip


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        [str(tools.path("promtool")), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def case_of(name: str) -> render.Case:
    return next(case for case in render.cases() if str(case) == name)


@pytest.fixture(scope="module")
def groups() -> dict[str, Any]:
    """The rules as PrometheusRule; the bundled Prometheus gets the same."""
    found = render.objects(case_of("proa-plain-behind-tls"))
    rules: dict[str, Any] = render.one(found, "PrometheusRule", "proa")["spec"]
    bundled = render.one(render.objects(case_of("proa-laptop")), "ConfigMap", "proa-prometheus")
    assert yaml.safe_load(bundled["data"]["rules.yaml"]) == rules
    return rules


@pytest.fixture(scope="module")
def rules_file(groups: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The alerts on the platform alone."""
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    mine = [group for group in groups["groups"] if group["name"] != "proa.models"]
    path.write_text(yaml.safe_dump({"groups": mine}))
    return path


def rules_of(groups: dict[str, Any]) -> dict[str, Any]:
    """Alerts on the platform."""
    group = next(group for group in groups["groups"] if group["name"] != "proa.models")
    return {rule["alert"]: rule for rule in group["rules"]}


def test_the_rules_are_well_formed(rules_file: Path) -> None:
    assert "SUCCESS" in promtool("check", "rules", "--lint-fatal", str(rules_file))


def test_every_alert_is_tried_and_has_a_runbook(groups: dict[str, Any]) -> None:
    rules = rules_of(groups)
    assert {alert.name for alert in ALERTS} == set(rules)
    sections = re.findall(
        r"^## (\w+)$", (render.CHARTS / "proa" / "RUNBOOKS.md").read_text(), re.MULTILINE
    )
    assert len(sections) == len(set(sections))
    assert set(rules) < set(sections)
    for name, rule in rules.items():
        assert rule["annotations"]["runbook_url"].endswith(f"#{name.lower()}")
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_alerts_fire_when_they_should_and_not_before(
    groups: dict[str, Any], rules_file: Path
) -> None:
    tests = []
    for alert in ALERTS:
        rule = rules_of(groups)[alert.name]
        for series, fires in ((alert.fires, True), (alert.quiet, False)):
            expected = [{"exp_labels": {**alert.labels, **rule["labels"]}}] if fires else []
            tests.append(
                {
                    "name": f"{alert.name} {'fires' if fires else 'is quiet'}",
                    "interval": "1m",
                    "input_series": [{"series": s, "values": v} for s, v in series.items()],
                    "alert_rule_test": [
                        {
                            "eval_time": f"{alert.at}m",
                            "alertname": alert.name,
                            "exp_alerts": [
                                {**item, "exp_annotations": _annotations(rule, alert, series)}
                                for item in expected
                            ],
                        }
                    ],
                }
            )
    path = rules_file.with_name("tests.yaml")
    path.write_text(yaml.safe_dump({"rule_files": [rules_file.name], "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", str(path))


def _annotations(rule: dict[str, Any], alert: Alert, series: dict[str, str]) -> dict[str, str]:
    """The summary as people read it."""
    shares = {"ProaBudgetNear": "81%"}
    summary = re.sub(
        r"{{ \$labels\.(\w+) }}", lambda m: alert.labels[m[1]], rule["annotations"]["summary"]
    )
    summary = summary.replace("{{ $value | humanizePercentage }}", shares.get(alert.name, ""))
    return {**rule["annotations"], "summary": summary}


def queries() -> dict[str, tuple[str, str]]:
    """The autoscalers' queries, and a series of one pod each takes into account."""
    found = {}
    wanted = {
        "predictor-keda": f'{CALLS}{{{HERE},door="user",model="flight-delay",pod="%d"}}',
        "assistant-keda": (f'proa_assistant_under_way{{{HERE},proa_model="python-help",pod="%d"}}'),
        "vllm-keda": f'vllm:num_requests_running{{{HERE},model_name="%%s",engine="0",pod="%d"}}',
        "proa-production": f'{CALLS}{{{HERE},door="user",model="any",pod="%d"}}',
    }
    for name, series in wanted.items():
        scaled = render.kinds(render.objects(case_of(name)), "ScaledObject")[0]
        metadata = scaled["spec"]["triggers"][0]["metadata"]
        assert metadata["ignoreNullValues"] == "false", "no data must not look like no load"
        identity = re.search(r"eng-\w+", metadata["query"])
        found[name] = metadata["query"], series.replace("%%s", identity[0] if identity else "")
    return found


@pytest.mark.parametrize("pods", [1, 2, 5])
def test_autoscalers_get_one_number(pods: int, tmp_path: Path) -> None:
    """Of one pod or many, and never of another namespace or model."""
    tests = []
    for name, (query, series) in queries().items():
        rate = "rate(" in query
        strange = series.replace(HERE, 'namespace="there"')
        inputs = [{"series": series % n, "values": "0+120x20" if rate else "4x20"} for n in
                  range(pods)]  # fmt: skip
        inputs.append({"series": strange % 9, "values": "0+600x20" if rate else "99x20"})
        if name == "vllm-keda":
            waiting = [item["series"].replace("_running", "_waiting") for item in inputs[:-1]]
            inputs += [{"series": text, "values": "6x20"} for text in waiting]
        value = pods * (2 if rate else 10 if name == "vllm-keda" else 4)
        tests.append(
            {
                "name": name,
                "interval": "1m",
                "input_series": inputs,
                "promql_expr_test": [
                    {
                        "expr": query,
                        "eval_time": "10m",
                        "exp_samples": [{"labels": "{}", "value": value}],
                    }
                ],
            }
        )
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [], "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", str(path))


def test_the_bundled_prometheus_reads_its_configuration(tmp_path: Path) -> None:
    config = render.one(render.objects(case_of("proa-laptop")), "ConfigMap", "proa-prometheus")
    for name, text in config["data"].items():
        (tmp_path / name).write_text(text.replace("/etc/prometheus/", f"{tmp_path}/"))
    assert "SUCCESS" in promtool("check", "config", str(tmp_path / "prometheus.yaml"))


# Which its process has yet to learn: budgets are the gateway's next issue.
TO_COME = {"proa_gateway_budget_used_ratio"}


def test_what_is_asked_for_is_a_metric(groups: dict[str, Any]) -> None:
    """By name, in METRICS.md: an alert on a metric that nobody has is never heard of."""
    runbooks = (render.CHARTS / "proa" / "RUNBOOKS.md").read_text()
    asked = json.dumps(groups) + runbooks + "".join(query for query, _ in queries().values())
    names = metrics_page.named_in(asked)
    assert len(names) > 30
    unknown = {name for name in names if metrics_page.documented(name) is None}
    assert unknown == TO_COME
