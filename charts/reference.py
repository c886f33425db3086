"""Make what charts say about themselves: `python charts/reference.py write|check|images`.

The schema is written once, in schemas.yaml, with what charts share as definitions; every object is
closed here. A chart's README.md is made of values.yaml, its comments and the schema; images.txt is
every image that the charts' defaults can ask for (`images` prints it, for a copy to a mirror).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHARTS = Path(__file__).parent
# What a key means wherever it stands.
_STANDARD = {
    "extraEgress": "Further rules, as in a NetworkPolicy.",
    "image.digest": "`sha256:` and 64 hex digits; it wins over the tag.",
    "image.repository": "The image.",
    "image.tag": "The chart's `image.tag` or appVersion when empty; `latest` is refused.",
    "lingerSeconds": "Seconds a pod that ends still takes requests, until nobody sends it any.",
    "maxReplicas": "Pods at most.",
    "minReplicas": "Pods at least.",
    "podAnnotations": "Further annotations of the pods; `proa.dev/` belongs to the platform.",
    "podLabels": "Further labels of the pods.",
    "priorityClassName": "As in a Pod.",
    "region": "The bucket's region.",
    "replicas": "Pods.",
    "runtimeClassName": "As in a Pod.",
    "storageClass": "The cluster's default when empty.",
    "timeoutSeconds": "Seconds that requests under way may take to end after that.",
    "annotations": "As in any object.",
}
# An image whose name depends on values: engine.repository in vllm/templates/_engine.tpl.
_OF_DEVICE = {"vllm": ["vllm/vllm-openai", "vllm/vllm-openai-cpu"]}
_CONDITIONS = ("oneOf", "anyOf", "not", "if", "then", "else")


def schema_of(chart: str) -> dict[str, Any]:
    """The closed schema of a chart's values, definitions inlined."""
    source = yaml.safe_load((CHARTS / "schemas.yaml").read_text())
    properties = {
        key: _resolve(value, source["definitions"])
        for key, value in source["charts"][chart].items()
    }
    # Helm adds both to what the user wrote; neither is read.
    properties |= {"global": {"type": "object"}, "library": {"type": "object"}}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"Values of the chart {chart}",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def _resolve(node: Any, definitions: Mapping[str, Any], *, close: bool = True) -> Any:
    if isinstance(node, list):
        return [_resolve(item, definitions, close=close) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _resolve(definitions[node["$ref"]], definitions, close=close)
    resolved: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            resolved[key] = {
                name: _resolve(item, definitions, close=close) for name, item in value.items()
            }
        elif key != "open":
            # What stands in a condition tells values apart; it declares none.
            resolved[key] = _resolve(value, definitions, close=close and key not in _CONDITIONS)
    if close and "properties" in node and not node.get("open"):
        resolved = {"type": "object", "additionalProperties": False, **resolved}
    return resolved


@dataclass(frozen=True)
class Setting:
    """One line of the reference."""

    key: str
    default: Any
    comment: str


def settings(chart: str) -> list[Setting]:
    """Every leaf of values.yaml, with the comment above it (or above its object)."""
    text = (CHARTS / chart / "values.yaml").read_text()
    comments = _comments(text)
    return [
        Setting(key, value, _comment(comments, key)) for key, value in _leaves(yaml.safe_load(text))
    ]


def _comment(comments: Mapping[str, str], key: str) -> str:
    last = ".".join(key.split(".")[-2:])
    own = comments.get(key) or _STANDARD.get(last) or _STANDARD.get(last.rpartition(".")[2])
    above = key.rpartition(".")[0]
    return own or (_comment(comments, above) if above else "")


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        path = f"{prefix}{key}"
        closed = isinstance(item, dict) and item and not path.endswith(("requests", "limits"))
        if closed and not path.endswith("labels"):
            yield from _leaves(item, f"{path}.")
        else:
            yield path, item


def _comments(text: str) -> dict[str, str]:
    """Key path → the comment lines right above the key."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    block: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            block.append(stripped.lstrip("# ").rstrip())
            continue
        key, colon, _ = stripped.partition(":")
        if colon and not stripped.startswith("-"):
            indent = len(line) - len(line.lstrip())
            path = [item for item in path if item[0] < indent] + [(indent, key)]
            if block:
                found[".".join(name for _, name in path)] = " ".join(block)
        block = []
    return found


def _kind(schema: Mapping[str, Any], key: str) -> str:
    node: Any = schema
    for part in key.split("."):
        node = node.get("properties", {}).get(part, {})
    if "enum" in node:
        return " \\| ".join(str(value) for value in node["enum"])
    kind = node.get("type", "string")
    return kind if isinstance(kind, str) else " or ".join(kind)


def reference(chart: str) -> str:
    """README.md of a chart."""
    described = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())
    schema = schema_of(chart)
    lines = [
        f"# {chart}",
        "",
        described["description"],
        "",
        f"Kubernetes {described['kubeVersion'].removesuffix('-0')}, Helm 3 and 4.",
        "Made of values.yaml and schemas.yaml by `python charts/reference.py write`.",
        "",
        "| key | type | default | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for setting in settings(chart):
        default = json.dumps(setting.default, ensure_ascii=False).replace("|", "\\|")
        meaning = setting.comment.replace("|", "\\|")
        lines.append(
            f"| `{setting.key}` | {_kind(schema, setting.key)} | `{default}` | {meaning} |"
        )
    return "\n".join(lines) + "\n"


def images() -> list[str]:
    """Every image that any chart asks for with its default images, sorted."""
    found = set()
    for chart in _charts():
        version = str(yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())["appVersion"])
        for image in _images_of(yaml.safe_load((CHARTS / chart / "values.yaml").read_text())):
            names = [image["repository"]] if image["repository"] else _OF_DEVICE.get(chart, [])
            found |= {f"{name}:{image['tag'] or version}" for name in names}
    return sorted(found)


def _images_of(values: Mapping[str, Any]) -> Iterator[Mapping[str, str]]:
    for key, value in values.items():
        if key == "image" and isinstance(value, dict) and "repository" in value:
            yield value
        elif isinstance(value, dict):
            yield from _images_of(value)


def _charts() -> list[str]:
    return list(yaml.safe_load((CHARTS / "schemas.yaml").read_text())["charts"])


def outputs() -> dict[Path, str]:
    """Every generated file and what it must hold."""
    made = {CHARTS / "images.txt": "\n".join(images()) + "\n"}
    for chart in _charts():
        schema = json.dumps(schema_of(chart), indent=1, ensure_ascii=False) + "\n"
        made[CHARTS / chart / "values.schema.json"] = schema
        made[CHARTS / chart / "README.md"] = reference(chart)
    return made


def drifted() -> list[Path]:
    """Generated files that are not what they should be."""
    return [
        path for path, text in outputs().items() if not path.exists() or path.read_text() != text
    ]


def main(argv: list[str]) -> int:
    if argv == ["write"]:
        for path, text in outputs().items():
            path.write_text(text)
        return 0
    if argv == ["images"]:
        print("\n".join(images()))
        return 0
    if argv == ["check"]:
        for path in drifted():
            print(f"{path.relative_to(CHARTS.parent)} is stale: python charts/reference.py write")
        return 1 if drifted() else 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
