"""Charts give each process only settings that it has, and every engine in a shape gateways read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from proa.fleet.preset import PipelinesSection, read_preset
from proa_gateway.engines import parse_engines
from tests.charts import render

MODULES = {
    "proa_gateway",
    "proa_predictor",
    "proa_assistant",
    "proa_monitor",
    "proa_controller",
    "proa.features.server",
    "proa.release.fetch",
    "proa_controller.migrate",
    "proa_controller.secrets",
}


def rendered() -> dict[str, set[str]]:
    """Python module → every flag that any case gives it."""
    found: dict[str, set[str]] = {}
    for case in render.cases():
        given = set(case.values.get("extraArgs", []))
        for _, pod in render.pods(render.objects(case)):
            for container in render.containers(pod):
                command = container.get("command", [])
                if command[:2] == ["python", "-m"]:
                    flags = {a.partition("=")[0] for a in container["args"] if a not in given}
                    found.setdefault(command[2], set()).update(flags)
    return found


def known(module: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(re.findall(r"--[a-z][-a-z]+", done.stdout))


def test_the_list_is_whole() -> None:
    assert set(rendered()) == MODULES


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_process_takes_what_the_chart_gives(module: str) -> None:
    there = known(module)
    assert there, "it says what it takes"
    assert rendered()[module] - there == set()


@pytest.mark.parametrize("case", [c for c in render.cases() if c.chart == "vllm"], ids=str)
def test_gateways_read_the_engine(case: render.Case, tmp_path: Path) -> None:
    name = f"{case.values['model']['name']}-engine"
    config = render.one(render.objects(case), "ConfigMap", name)
    engines = json.loads(config["data"]["engines.json"])
    key = tmp_path / "engine.key"
    key.write_text("a key")
    for entry in engines.values():
        # Where the chart proa mounts it in a gateway; here is no gateway.
        assert entry["key_file"] == "/etc/proa/engine-key/engine.key"
        entry["key_file"] = str(key)
    table = parse_engines(json.dumps({"engines": engines}).encode())
    assert set(table.engines) == set(engines)
    for identity in engines:
        engine = table.engine(identity)
        assert engine.url == f"http://{case.values['model']['name']}.{render.NAMESPACE}.svc:8000"
        assert engine.continuous_usage


def test_gateways_mount_the_engines_key() -> None:
    case = render.Case("proa", "least", render.least("proa"))
    gateway = render.one(render.objects(case), "Deployment", "proa-gateway")
    spec = gateway["spec"]["template"]["spec"]
    mount = next(m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "engine-key")
    assert mount["mountPath"] == "/etc/proa/engine-key"
    volume = next(v for v in spec["volumes"] if v["name"] == "engine-key")
    assert volume["secret"]["secretName"] == "proa-engine-key"
    engine = render.Case("vllm", "least", render.least("vllm"))
    secret = render.settings(engine)["apiKey"]
    assert secret == {"existingSecret": "proa-engine-key", "key": "engine.key"}


def test_the_platform_file_is_one(tmp_path: Path) -> None:
    """What `kubectl proa` and pipelines read, as they read it."""
    case = next(c for c in render.cases() if str(c) == "proa-plain-behind-tls")
    config = render.one(render.objects(case), "ConfigMap", "proa-platform")
    path = tmp_path / "platform.yaml"
    path.write_text(config["data"]["platform.yaml"])
    preset = read_preset(path)
    assert preset.endpoints.gateway == f"http://proa-gateway.{render.NAMESPACE}.svc:8080"
    assert preset.endpoints.bundles == "s3://releases/proa"
    assert preset.pipelines is not None
    assert preset.pipelines.resources.memory_limit == "8Gi"
    schema = json.loads((render.CHARTS / "proa/values.schema.json").read_text())
    assert set(schema["properties"]["pipelines"]["properties"]) == set(
        PipelinesSection.model_fields
    )
