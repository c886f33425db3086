"""Files of rules for Prometheus, and the tests of promtool that belong to them."""

from __future__ import annotations

from typing import Any, Final

import yaml

from proa.findings.alerts import OWN_RULES, Alert, Scope, alerts, recordings

__all__ = ["kubernetes_object", "rules_of", "to_yaml"]

_KEPT: Final = "10m"


def rules_of(scope: Scope) -> dict[str, Any]:
    """A rules file: one group, so that alerts read what was recorded in the same moment."""
    rules: list[dict[str, Any]] = []
    if scope.name is not None:
        labels = {"model": scope.name}
        labels |= {} if scope.namespace is None else {"namespace": scope.namespace}
        rules.append({"record": OWN_RULES, "expr": "vector(1)", "labels": labels})
    for record, expr in recordings(scope):
        rules.append({"record": record, "expr": expr})
        if scope.name is not None:
            rules[-1]["labels"] = {"rules": scope.name}
    rules += [_rule(scope, alert) for alert in alerts(scope)]
    return {"groups": [{"name": f"proa.{scope.name or 'models'}", "rules": rules}]}


def labels_of(scope: Scope, alert: Alert) -> dict[str, str]:
    """What an alert says of itself."""
    team = {"team": scope.team} if scope.team else {}
    return {"severity": alert.severity} | team


def annotations_of(scope: Scope, alert: Alert) -> dict[str, str]:
    return {"summary": alert.summary, "runbook_url": scope.runbooks + alert.name.lower()}


def _rule(scope: Scope, alert: Alert) -> dict[str, Any]:
    rule: dict[str, Any] = {"alert": alert.name, "expr": alert.expr, "for": f"{alert.minutes}m"}
    if alert.types:
        rule["keep_firing_for"] = _KEPT  # or each restart of the monitor would end and renew it
    labels, annotations = labels_of(scope, alert), annotations_of(scope, alert)
    return {**rule, "labels": labels, "annotations": annotations}


def kubernetes_object(scope: Scope, rules: dict[str, Any]) -> dict[str, Any]:
    """The rules as a PrometheusRule of the Prometheus operator."""
    metadata: dict[str, Any] = {
        "name": f"proa-{scope.name or 'models'}",
        "labels": {"app.kubernetes.io/part-of": "proa"},
    }
    if scope.name is not None:
        metadata["labels"]["proa.dev/model"] = scope.name
    if scope.namespace is not None:
        metadata["namespace"] = scope.namespace
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": metadata,
        "spec": rules,
    }


def to_yaml(value: dict[str, Any], *comments: str) -> str:
    """YAML in the order given, with lines of comment above."""
    head = "".join(f"# {line}\n" for line in comments)
    return head + yaml.safe_dump(value, sort_keys=False, width=100, allow_unicode=True)
