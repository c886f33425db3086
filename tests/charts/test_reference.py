"""values.schema.json and README.md of every chart are what values.yaml and schemas.yaml say."""

from __future__ import annotations

import importlib.util
import json
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.charts import render


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    path = render.CHARTS / "reference.py"
    spec = importlib.util.spec_from_file_location("charts_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_nothing_has_drifted(reference: ModuleType) -> None:
    assert reference.drifted() == [], "run: python charts/reference.py write"


@pytest.mark.parametrize("chart", render.NAMES)
def test_every_setting_is_explained(reference: ModuleType, chart: str) -> None:
    silent = [setting.key for setting in reference.settings(chart) if not setting.comment]
    assert not silent


@pytest.mark.parametrize("chart", render.NAMES)
def test_values_and_schema_have_the_same_keys(reference: ModuleType, chart: str) -> None:
    """What the schema takes is written down in values.yaml with its default, and the reverse."""
    values = yaml.safe_load((render.CHARTS / chart / "values.yaml").read_text())
    schema = reference.schema_of(chart)
    assert _missing(values, schema["properties"], "") == []


# One line of values.yaml says what these are; writing out each would hide the rest.
BRIEF = (
    "scheduling",
    "resources",
    "affinity",
    "requests",
    "limits",
    "labels",
    "request",
    "pipelines",
)


def _missing(values: dict[str, Any], schema: dict[str, Any], path: str) -> list[str]:
    found = [f"{path}{key}: not in the schema" for key in values if key not in schema]
    for key, node in schema.items():
        if key in ("global", "library"):
            continue
        if key not in values:
            found.append(f"{path}{key}: not in values.yaml")
        elif "properties" in node and key not in BRIEF and node["type"] == "object":
            found += _missing(values[key], node["properties"], f"{path}{key}.")
    return found


SAME = {"predictor", "assistant", "vllm"}


def test_the_same_thing_has_the_same_key(reference: ModuleType) -> None:
    """Keys that all three workload charts have in common, and their meaning."""
    keys = {chart: {s.key for s in reference.settings(chart)} for chart in SAME}
    shared = set.intersection(*keys.values())
    for key in (
        "model.name",
        "image.digest",
        "replicas",
        "startup.timeoutSeconds",
        "drain.lingerSeconds",
        "drain.timeoutSeconds",
        "rollout.strategy",
        "autoscaling.enabled",
        "scheduling.nodeSelector",
        "disruption.maxUnavailable",
        "platform.namespace",
        "monitoring.podMonitor",
        "networkPolicy.enabled",
        "extraArgs",
        "extraEnv",
        "podLabels",
    ):
        assert key in shared, key
    classic, llm = keys["predictor"], keys["assistant"]
    assert classic - llm == {"platform.features"}
    assert llm - classic == {"platform.engine", "embedder.existingClaim"}


def test_the_list_of_images_is_whole(reference: ModuleType) -> None:
    """What is copied to a mirror is what pods ask for, in every case with the default images."""
    listed = (render.CHARTS / "images.txt").read_text().split()
    asked = set()
    for case in render.cases():
        if '"repository"' in json.dumps(case.values):
            continue
        for _, pod in render.pods(render.objects(case)):
            named = {c["image"].partition("@")[0] for c in render.containers(pod)}
            asked |= {name.removeprefix("registry.example.org/proa/") for name in named}
    # The case on a CPU brings an image of its own.
    assert asked | {"vllm/vllm-openai-cpu:v0.32.0"} == set(listed)
    assert reference.images() == listed
