"""A release goes from one platform to another: two real ones on this machine.

Real on both: supervisor, gateway, controller, MLflow, and predictors with a scikit-learn model
trained here. Left out: monitor, feature server and engine, which take no part.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from proa.embedded.environments import Environment
from proa.errors import Conflict, InvalidInput, NotFound, Refused
from proa.exam.exam import Exam, load
from proa.fleet import Fleet
from proa.ledger.keys import KeyStore
from proa.release import model_files, runtime, scoring
from proa.release.manifest import Manifest
from proa.release.reference import ReleaseRef
from tests.services.controller.platform import SmallPlatform
from tests.services.controller.test_cli import proa

pytestmark = pytest.mark.timeout(900)  # two MLflow servers and six predictors start

MODEL = "boats"
PROJECT = """\
version: 1
name: boats
kind: classic
task: binary
data: {ingest: rows:build, time: at, label: late, train: {start: 2013-01-01, end: 2013-02-01}}
train: {function: rows:build}
exam: exam.yaml
rollout: {steps: [], warm_seconds: 0}
"""
EXAM = """\
version: 1
unit: day
data: {path: rows.jsonl}
primary: {metric: roc_auc, margin: 0.05, higher_is_better: true}
floors: [{metric: roc_auc, min: 0.6}]
bootstrap: {resamples: 300}
"""


@pytest.fixture(scope="module")
def staging() -> Iterator[SmallPlatform]:
    yield from started()


@pytest.fixture(scope="module")
def prod() -> Iterator[SmallPlatform]:
    yield from started()


def started() -> Iterator[SmallPlatform]:
    platform = SmallPlatform.start()
    platform.fleet.home = platform.home
    try:
        platform.start_mlflow()
        yield platform
    finally:
        platform.stop()


def sailed(seed: int, count: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    wind, crew = random.normal(size=count), random.normal(size=count)
    late = random.random(count) < 1 / (1 + np.exp(-2 * wind + crew))
    return pd.DataFrame({"wind": wind, "crew": crew, "late": late.astype(int)})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boats")
    (folder / "proa.yaml").write_text(PROJECT)
    (folder / "exam.yaml").write_text(EXAM)
    rows = [
        {
            "id": f"r{n}", "unit": f"d{n % 12}", "label": int(row["late"]),
            "inputs": {"wind": row["wind"], "crew": row["crew"]},
        }
        for n, row in enumerate(sailed(2, 1200).to_dict("records"))
    ]  # fmt: skip
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def exam(project: Path) -> Exam:
    return load(project)


def create(small: SmallPlatform, seed: int, *, rollout: dict[str, Any]) -> ReleaseRef:
    """A real model in a release, made as pipelines make it."""
    from sklearn.linear_model import LogisticRegression

    columns = [{"name": name, "type": "double"} for name in ("wind", "crew")]
    spec = {"task": "binary", "model": "model.skops", "threshold": 0.5, "columns": columns}
    value: dict[str, Any] = {
        "name": MODEL, "kind": "classic", "classic": spec,
        "runtime": runtime.describe(["numpy", "scikit-learn", "skops"]).model_dump(),
        "parameters": {"seed": seed},
    }  # fmt: skip
    parsed = Manifest.model_validate({**value, "files": []}).classic
    assert parsed is not None
    frame = sailed(seed, 2000)
    inputs = scoring.frame(parsed, scoring.checked(parsed, {k: frame[k] for k in ("wind", "crew")}))
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder)
        model_files.save(LogisticRegression().fit(inputs, frame["late"]), staged)
        return small.fleet.create_from_folder(staged, value, reason="test", rollout=rollout)


NO_CANARY = {"steps": [], "warm_seconds": 0}


def test_a_release_with_its_verdict_goes_to_another_platform(
    staging: SmallPlatform, prod: SmallPlatform, exam: Exam, project: Path
) -> None:
    fleet = staging.fleet
    with pytest.raises(InvalidInput, match="this platform itself"):
        fleet.add_environment(Environment("self", staging.home.root))
    with pytest.raises(InvalidInput, match="missing: bundles"):
        fleet.add_environment(Environment("prod", urls={"controller": "x"}))
    done = proa(staging.home.root, "environments", "add", "prod", "--home", str(prod.home.root))
    assert done.returncode == 0, done.stderr
    with pytest.raises(Conflict, match="already"):
        fleet.add_environment(Environment("prod", prod.home.root))
    assert list(fleet.environments()) == ["prod"]

    first = create(staging, 1, rollout=NO_CANARY)
    with pytest.raises(NotFound, match="never judged"):
        fleet.promote_to(first, "prod", exam=exam)
    assert fleet.gate(first, exam).value == "pass"
    with pytest.raises(NotFound, match="known: prod"):
        fleet.promote_to(first, "nowhere", exam=exam)
    # The verdict travels even though staging has promoted it meanwhile.
    fleet.promote(first)
    said: list[str] = []
    status = fleet.promote_to(first, "prod", exam=exam, reason="it did well here", say=said.append)
    assert status["champion"] == status["release"] == f"{MODEL}/1@{first.digest}"
    assert any("smoke exam of 500" in line for line in said), said
    assert status["rules"] == NO_CANARY
    answer = prod.fleet.predict(MODEL, rows=[{"wind": 3.0, "crew": 0.0}])
    assert answer.release == status["release"]
    assert answer.predictions[0]["probability"] > 0.8
    actions = [line["action"] for line in prod.fleet.history(MODEL)]
    assert actions == ["created", "rules_set", "carried", "smoked", "requested", "promoted"]
    carried = prod.fleet.history(MODEL)[2]
    judged = fleet.verdict(first)
    assert carried["details"]["evidence"] == judged.verdict["evidence"]
    assert carried["details"]["source"]["line"]["hash"] == judged.line["hash"]
    assert "in the environment" in " ".join(prod.fleet.why(MODEL))


def test_the_target_s_own_rules_apply_and_its_champion_counts(
    staging: SmallPlatform, prod: SmallPlatform, exam: Exam, project: Path
) -> None:
    fleet, there = staging.fleet, prod.fleet
    champion = ReleaseRef.parse(there.status(MODEL)["champion"])
    path = f"/v1/models/{MODEL}/releases"
    strict = {**NO_CANARY, "approval": True}
    there._controller("POST", path, {"release": str(champion), "rollout": strict})

    second = create(staging, 3, rollout=NO_CANARY)
    assert fleet.gate(second, exam).value == "pass"
    with pytest.raises(Refused, match="not been approved") as caught:
        fleet.promote_to(second, "prod", exam=exam)
    assert caught.value.code == "ApprovalMissing"
    moved = there.release(MODEL)
    assert (moved.version, moved.digest) == (2, second.digest)
    words = ["promote", second.short, "--to", "prod", "--dry-run", "--exam", str(project)]
    done = proa(staging.home.root, *words)
    assert done.returncode == 6
    assert "refused (ApprovalMissing)" in done.stdout

    store = KeyStore(prod.home.ledger)
    text = store.create(team="risk", feature="desk", rights=["read", "approve"]).text
    store.close()
    with Fleet(there.endpoints, text, person="Bert") as bert:
        bert.approve(moved, reason="the figures are good")
    # What was carried and tried stays: no second smoke exam is needed.
    assert there.promote(moved)["champion"] == str(moved)
    # A smoke exam is bound to the champion it was sat against.
    plan = there.promote(champion, dry_run=True)["plan"]
    assert [item["code"] for item in plan["refusals"]] == ["GateStale", "ApprovalMissing"]


def test_a_verdict_of_something_else_is_not_taken(
    staging: SmallPlatform, prod: SmallPlatform
) -> None:
    fleet, there = staging.fleet, prod.fleet
    first, second = (item.ref for item in fleet.releases(MODEL))
    judged = fleet.verdict(first)
    moved = next(item.ref for item in there.releases(MODEL) if item.ref.digest == second.digest)
    body = {
        "release": str(moved),
        "evidence": judged.evidence,
        "source": {"environment": "staging", "line": judged.line},
    }
    with pytest.raises(InvalidInput, match="candidate"):
        there._controller("POST", f"/v1/models/{MODEL}/carried", body)
    own = fleet.verdict(second)
    body["evidence"] = {**(own.evidence or {}), "data": "sha256:" + "0" * 64}
    body["source"] = {"environment": "staging", "line": own.line}
    with pytest.raises(InvalidInput, match="evidence"):
        there._controller("POST", f"/v1/models/{MODEL}/carried", body)
