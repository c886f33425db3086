"""Charts give each process only settings that it has, and every engine in a shape gateways read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from proa_gateway.engines import parse_engines
from tests.charts import render

PENDING: dict[str, set[str]] = {
    # Settings which charts already render and processes still have to learn (issue 5). Whoever
    # builds one takes it out of here: the test fails until then.
    "proa_gateway": {"--ledger-file", "--metrics-port"},
    "proa_monitor": {"--ledger-file", "--metrics-port"},
    "proa_predictor": {"--metrics-port"},
    "proa_assistant": {"--metrics-port"},
    "proa_controller": {
        *("--metrics-port", "--workloads", "--engines", "--routes", "--lease", "--ledger-file"),
        *("--mlflow", "--bundles", "--gateways", "--key-file", "--drain-seconds"),
    },
    "proa.features.server": set(),
}
MODULES_TO_COME = {"proa.release.fetch", "proa_controller.migrate", "proa_controller.secrets"}


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
    assert set(rendered()) == set(PENDING) | MODULES_TO_COME


@pytest.mark.parametrize("module", sorted(PENDING))
def test_a_process_takes_what_the_chart_gives(module: str) -> None:
    there = known(module)
    strange = rendered()[module] - there
    assert strange == PENDING[module], "charts and process have drifted apart"


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
