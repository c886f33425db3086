"""The pipelines in pipelines/compiled are what the code compiles to; nothing in them is cached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from proa.fleet.preset import PipelinesSection
from proa_pipelines import compiling, pods

FOLDER = Path(__file__).parents[3] / "pipelines" / "compiled"


@pytest.mark.parametrize("kind", compiling.KINDS)
def test_what_is_checked_in_is_what_the_code_says(kind: str, tmp_path: Path) -> None:
    target = tmp_path / f"{kind}.yaml"
    compiling.compile_pipeline(kind, target)
    assert target.read_text() == (FOLDER / target.name).read_text(), "run: make pipelines"


def test_there_is_no_other_file() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(compiling.KINDS)


@pytest.mark.parametrize("kind", compiling.KINDS)
def test_no_step_is_cached(kind: str) -> None:
    tasks = dict(_tasks(yaml.safe_load((FOLDER / f"{kind}.yaml").read_text())))
    assert tasks
    cached = [n for n, task in tasks.items() if task.get("cachingOptions", {}).get("enableCache")]
    assert cached == []


def _tasks(spec: dict[str, Any]) -> Any:
    graphs = [spec["root"], *spec["components"].values()]
    for graph in graphs:
        for name, task in graph.get("dag", {}).get("tasks", {}).items():
            if not name.startswith("condition-"):
                yield name, task


@pytest.mark.parametrize("kind", compiling.KINDS)
def test_a_run_has_its_cause_as_parameters(kind: str) -> None:
    spec = yaml.safe_load((FOLDER / f"{kind}.yaml").read_text())
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    assert {name for name, item in inputs.items() if not item.get("isOptional")} == {"project"}
    assert {"cause", "requested_by", "evidence"} <= set(inputs)


def test_kubeflows_page_has_numbers_curves_and_pages() -> None:
    shown = {}
    for kind in compiling.KINDS:
        spec = yaml.safe_load((FOLDER / f"{kind}.yaml").read_text())
        for name, component in spec["components"].items():
            outputs = component.get("outputDefinitions", {}).get("artifacts", {})
            types = {item["artifactType"]["schemaTitle"] for item in outputs.values()}
            shown[f"{kind} {name.removeprefix('comp-')}"] = types
    assert "system.ClassificationMetrics" in shown["classic calibrate"]
    assert "system.Metrics" in (shown["classic calibrate"] & shown["classic gate"])
    for step in ("classic validate", "classic register", "classic gate", "llm documents",
                 "llm register", "llm gate", "own bring"):  # fmt: skip
        assert "system.Markdown" in shown[step], step


def test_a_pod_gets_files_and_no_secret_in_its_environment() -> None:
    section = PipelinesSection(url="http://kfp", mlflow_secret="m", bundles_secret="b")
    environment = pods.environment(section)
    assert environment == {
        "HOME": "/tmp",
        "PROA_PLATFORM": "/etc/proa/platform/platform.yaml",
        "AWS_SHARED_CREDENTIALS_FILE": "/etc/proa/bundles/credentials",
    }
    one = pods.placed(section, ["exec-a"])["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    mounts = {item["secretName"]: item["mountPath"] for item in one["exec-a"]["secretAsVolume"]}
    assert mounts == {
        "proa-pipelines-key": "/etc/proa/keys",
        "m": "/tmp/.mlflow",
        "b": "/etc/proa/bundles",
    }
    assert one["exec-a"]["emptyDirMounts"] == [
        {"volumeName": "proa-home", "mountPath": "/var/lib/proa"}
    ]


def test_claims_are_mounted_where_steps_look() -> None:
    section = PipelinesSection(url="http://kfp", claim="home", bundles_claim="proa-bundles")
    executors = pods.placed(section, ["e"])["platforms"]["kubernetes"]["deploymentSpec"]
    one = executors["executors"]["e"]
    assert {item["constant"]: item["mountPath"] for item in one["pvcMount"]} == {
        "home": "/var/lib/proa",
        "proa-bundles": "/bundles",
    }
    assert "emptyDirMounts" not in one
