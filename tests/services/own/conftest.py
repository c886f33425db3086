"""One whole platform for models that people bring: real MLflow, controller, gateway, monitor.

Faked: the engine's text (`tests/standins/engine.py`), as vLLM needs a minute and 4 GB; its
tokenizer and the embedder are the real ones. The models are trained in an environment of their own,
by `tests/standins/own_models.py`, and the network in the engine's, the only one with torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proa.embedded.engine_choice import stand_in, weights_cache
from proa.embedded.home import Home
from proa.embedded.ports import PortPlan
from proa.embedded.up import down, up
from proa.fleet import Fleet, connect

STANDINS = Path(__file__).resolve().parents[2] / "standins"
ROOT = STANDINS.parents[1]
ENGINE = ROOT / ".venv-engine" / "bin" / "python"
LIBRARIES = (
    "scikit-learn==1.5.2",
    "xgboost-cpu>=3",
    "lightgbm>=4.5",
    "onnx>=1.17",
    "onnxruntime>=1.20",
    "mlflow-skinny>=3",
    "numpy<2.3",
    "pandas<3",
    "pyarrow>=20",
    "skops>=0.12",
)
"""The data scientist's own environment: older than the platform's, and without it."""


@dataclass
class Workplace:
    """A platform, and what people do with it."""

    home: Home
    fleet: Fleet
    folder: Path
    models: dict[str, dict[str, Any]] = field(default_factory=dict)

    def project(self, name: str, *lines: str) -> Path:
        """A folder with a `proa.yaml` of these lines."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "proa.yaml").write_text("\n".join([f"name: {name}", *lines]) + "\n")
        return folder

    def sample(self, label: str) -> Path:
        """The sample with this label."""
        return self.folder / "samples" / f"{label}.parquet"


def needs_engine() -> None:
    """Skip without the engine's environment, unless the lane says that it is required."""
    if not ENGINE.exists() and os.environ.get("PROA_TEST_ENGINE") != "required":
        pytest.skip("the engine's environment is not here: make setup-engine")


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    folder = tmp_path_factory.mktemp("own")
    home = Home(folder / "home")
    weights = sorted(weights_cache(os.environ).glob("smollm2-*"))
    engine = stand_in(STANDINS / "engine.py", weights=weights[-1] if weights else None)
    try:
        up(home, ports=PortPlan.parse([], auto=True), engine=engine)
        with connect(home.root) as fleet:
            yield Workplace(home, fleet, folder)
    finally:
        down(home)


@pytest.fixture(scope="package")
def trained(place: Workplace) -> Workplace:
    """The platform with somebody's models in MLflow."""
    needs_engine()
    net = place.folder / "net.onnx"
    torch = subprocess.Popen([ENGINE, "-W", "ignore", STANDINS / "own_torch.py", net])
    python = place.folder / "user" / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, python.parents[1]], check=True)
    subprocess.run([uv, "pip", "install", "-q", "--python", python, *LIBRARIES], check=True)
    assert torch.wait(300) == 0
    done = subprocess.run(
        [python, "-W", "ignore", STANDINS / "own_models.py", place.fleet.endpoints.mlflow,
         place.folder / "samples", net],
        check=False, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    place.models.update({line["kind"]: line for line in lines})
    return place
