"""Strict JSON schemas for kubeconform, from what Kubernetes and CRDs publish about themselves.

A name is `kind_group_version` in lower case, the group's place taken by the version for the core
group, as kubeconform fills in its templates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests import go, tools

OLDEST, NEWEST = "1.32.13", "1.36.3"
"""Kubernetes: the oldest and the newest version that the charts support."""

CRDS = {
    "github.com/kedacore/keda/v2@v2.21.0": "config/crd/bases/keda.sh_scaledobjects.yaml",
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_p[or]*m[oe]*s.yaml"
    ),
    "sigs.k8s.io/gateway-api@v1.6.3": "config/crd/standard/*_[gh]*.yaml",
}
_REF = "#/definitions/"
_LOOSE = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}


def of_kubernetes(version: str) -> Path:
    """A folder with a strict JSON schema for every kind of this Kubernetes version."""
    folder = go.cache() / f"kubernetes-schemas-{version}"
    with go.once(folder) as staging:
        if staging is not None:
            with tools.module(f"k8s.io/kubernetes@v{version}") as module:
                swagger = json.loads((module / "api/openapi-spec/swagger.json").read_text())
            _write(staging, of_swagger(swagger))
    return folder


def of_others() -> Path:
    """The same for the kinds that others define: KEDA, Prometheus operator, Gateway API."""
    key = "-".join(module.rpartition("@v")[2] for module in CRDS)
    folder = go.cache() / f"crd-schemas-{key}"
    with go.once(folder) as staging:
        if staging is not None:
            for name, pattern in CRDS.items():
                with tools.module(name) as module:
                    for file in sorted(module.glob(pattern)):
                        _write(staging, of_crd(yaml.safe_load(file.read_text())))
    return folder


def of_swagger(swagger: Mapping[str, Any]) -> dict[str, Any]:
    """Every kind of Kubernetes, each with the definitions it reaches."""
    raw = swagger["definitions"]
    definitions = {name: _LOOSE.get(name) or _strict(value) for name, value in raw.items()}
    made = {}
    for name, value in raw.items():
        for kind in value.get("x-kubernetes-group-version-kind", []):
            key = _name(kind["kind"], kind["group"], kind["version"])
            root = {**definitions[name]}
            root["definitions"] = _reached(definitions[name], definitions)
            made[key] = root
    return made


def of_crd(crd: Mapping[str, Any]) -> dict[str, Any]:
    """Every served version of a custom resource."""
    spec = crd["spec"]
    made = {}
    for version in spec["versions"]:
        schema = _strict(version["schema"]["openAPIV3Schema"])
        for name in ("apiVersion", "kind"):
            schema["properties"].setdefault(name, {"type": "string"})
        schema["properties"]["metadata"] = {"type": "object"}
        made[_name(spec["names"]["kind"], spec["group"], version["name"])] = schema
    return made


def _name(kind: str, group: str, version: str) -> str:
    return f"{kind}_{group or version}_{version}".lower()


def _strict(node: Any) -> Any:
    """Unknown fields are refused wherever the schema names the known ones."""
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    if node.get("x-kubernetes-int-or-string"):
        return {"type": ["string", "integer"]}
    strict = {
        key: {name: _strict(value) for name, value in node[key].items()}
        if key == "properties"
        else _strict(value)
        for key, value in node.items()
        # What describes, and what only an API server evaluates.
        if key not in ("description", "example", "format") and not key.startswith("x-")
    }
    known = isinstance(node.get("properties"), Mapping)
    open_ended = node.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in node
    # A subschema of anyOf narrows what its parent declared.
    if known and not open_ended and node.get("type") == "object":
        strict["additionalProperties"] = False
    return strict


def _reached(node: Any, definitions: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    waiting = [node]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            name = str(item.get("$ref", "")).removeprefix(_REF)
            if name in definitions and name not in found:
                found[name] = definitions[name]
                waiting.append(definitions[name])
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return found


def _write(folder: Path, made: Mapping[str, Any]) -> None:
    for name, schema in made.items():
        (folder / f"{name}.json").write_text(json.dumps(schema, separators=(",", ":")))
