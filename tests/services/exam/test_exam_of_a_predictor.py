"""A classic exam over HTTP against real predictors with real scikit-learn models.

Left out: gateway and monitor (the exam of an assistant goes through the real gateway); the
predictor answers on the same path and names its release in the same header.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from proa.exam.asking import GatewayAsk
from proa.exam.exam import Exam, load
from proa.exam.runner import Side, hold
from proa.exam.verdict import judge
from proa.release import model_files, runtime, scoring
from proa.release.bundle import BundleStore, list_files
from proa.release.manifest import Manifest, check_manifest
from proa.release.reference import ReleaseRef
from tests.processes import Started

MODEL = "boats"
PROJECT = """\
version: 1
name: boats
kind: classic
task: binary
data: {ingest: rows:build, time: at, label: late, train: {start: 2013-01-01, end: 2013-02-01}}
train: {function: rows:build}
exam: exam.yaml
"""
EXAM = """\
version: 1
unit: day
data: rows:build
primary: {metric: roc_auc, margin: 0.02, higher_is_better: true}
floors: [{metric: roc_auc, min: 0.65}, {metric: accuracy, min: 0.6}]
guardrails: [{metric: log_loss, margin: 0.05, higher_is_better: false}]
slices: [harbour]
bootstrap: {resamples: 500}
"""
ROWS = """\
import numpy as np
import pandas as pd


def frame(seed, rows):
    random = np.random.default_rng(seed)
    wind, crew = random.normal(size=rows), random.integers(1, 9, rows)
    harbour = random.choice(["north", "south"], rows)
    chance = 1 / (1 + np.exp(-(1.5 * wind - 0.3 * (crew - 4) + (harbour == "north"))))
    return pd.DataFrame({
        "id": [f"{seed}-{n}" for n in range(rows)],
        "unit": [f"day-{n % 14}" for n in range(rows)],
        "label": (random.random(rows) < chance).astype(int),
        "wind": np.where(random.random(rows) < 0.05, np.nan, wind),
        "crew": crew, "harbour": harbour,
    })


def build():
    return frame(2, 1400)
"""
SPEC: dict[str, Any] = {
    "task": "binary", "model": "model.skops", "threshold": 0.5,
    "columns": [
        {"name": "wind", "type": "double"}, {"name": "crew", "type": "long"},
        {"name": "harbour", "type": "string"},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boats")
    for name, text in (("proa.yaml", PROJECT), ("exam.yaml", EXAM), ("rows.py", ROWS)):
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def exam(project: Path) -> Exam:
    return load(project)


def make_release(folder: Path, frame: pd.DataFrame, *, version: int, shuffled: bool) -> ReleaseRef:
    """Fit and bundle a model, on shuffled labels when asked."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    staged = folder / "staged"
    staged.mkdir(parents=True)
    value: dict[str, Any] = {
        "name": MODEL, "kind": "classic", "classic": SPEC,
        "runtime": runtime.describe(["numpy", "scikit-learn", "skops"]).model_dump(),
    }  # fmt: skip
    spec = Manifest.model_validate({**value, "files": []}).classic
    assert spec is not None
    columns = {name: frame[name] for name in ("wind", "crew", "harbour")}
    inputs = scoring.frame(spec, scoring.checked(spec, columns))
    label = frame["label"].to_numpy()
    if shuffled:
        label = np.random.default_rng(1).permutation(label)
    encode = make_column_transformer((OrdinalEncoder(), ["harbour"]), remainder="passthrough")
    model = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=40, random_state=version))
    model_files.save(model.fit(inputs, label), staged)
    files = [file.model_dump() for file in list_files(staged)]
    digest = BundleStore(folder / "bundles").put(check_manifest({**value, "files": files}), staged)
    return ReleaseRef(MODEL, version, digest)


def test_shuffled_labels_fail_and_a_like_model_passes(
    exam: Exam,
    project: Path,
    tmp_path: Path,
    start_process: Callable[..., Started],
) -> None:
    scope: dict[str, Any] = {}
    exec(ROWS, scope)  # noqa: S102 - the text above
    train = scope["frame"](1, 3000)
    sides = {}
    for version, (name, shuffled) in enumerate(
        [("champion", False), ("like", False), ("shuffled", True)], start=1
    ):
        data = train.iloc[:2900] if name == "like" else train
        ref = make_release(tmp_path / name, data, version=version, shuffled=shuffled)
        url = start_process(
            [
                "python", "-m", "proa_predictor", "--release", str(ref),
                "--bundles", f"file://{tmp_path / name / 'bundles'}",
                "--workdir", tmp_path / name / "work", "--port", "{port}",
            ],
            deadline=60,
        ).url  # fmt: skip
        ask = GatewayAsk(url=url, key="none", model=MODEL, track="champion", release=str(ref))
        sides[name] = Side(ref.digest, ask)
    verdicts = {}
    try:
        for name in ("like", "shuffled"):
            evidence = hold(
                exam, model=MODEL, runtime="sha256:" + "d" * 64, candidate=sides[name],
                champion=sides["champion"],
            )  # fmt: skip
            assert all(item["error"] is None for item in evidence["candidate_results"])
            verdicts[name] = judge(evidence)
        again = hold(
            exam, model=MODEL, runtime="sha256:" + "d" * 64, candidate=sides["shuffled"],
            champion=sides["champion"],
        )  # fmt: skip
    finally:
        for side in sides.values():
            side.ask.close()  # type: ignore[attr-defined]
    assert verdicts["like"].value == "pass", verdicts["like"].reason
    assert judge(again).checks == verdicts["shuffled"].checks, "two runs agree, intervals included"
    timed = [item["latency_ms"] for item in again["candidate_results"] if "latency_ms" in item]
    assert len(timed) > 50
    assert min(timed) > 0
    assert verdicts["shuffled"].value == "fail"
    assert "roc_auc: 0." in verdicts["shuffled"].reason
    assert {check.name for check in verdicts["like"].checks if check.kind == "slice"} == {
        "harbour=north", "harbour=south",
    }  # fmt: skip
