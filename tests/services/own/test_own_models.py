"""Models made elsewhere: four lines of yaml, a sample, and they are judged, promoted and asked.

Each library's model goes the whole way on a real platform: MLflow → release in a runtime of its own
requirements → exam → champion → gateway. What the gateway answers is compared with what the model
said in the environment in which its author trained it.
"""

from __future__ import annotations

from typing import Any

import httpx
import pandas as pd
import pytest

from proa.errors import Refused
from proa.release.page import release_page
from proa.release.reference import ReleaseRef
from tests.services.own.conftest import STANDINS, Workplace

pytestmark = pytest.mark.timeout(1800)
INPUTS = ["age", "usage", "calls"]
KINDS = {
    "other-sklearn": ("skops", {"scikit-learn": "1.5.2"}),
    "boosted-spend": ("xgboost-ubj", {"xgboost-cpu"}),
    "light-churn": ("lightgbm-text", {"lightgbm"}),
    "torch-churn": ("onnx", {"onnxruntime"}),
    "house-rules": ("mlflow", {"mlflow-skinny"}),
}


def create(place: Workplace, kind: str, *more: str, until: str = "promote") -> dict[str, Any]:
    """Four lines of yaml, then the verb."""
    model = place.models[kind]
    lines = [f"task: {model['task']}", f"label: {model['label']}", "unit: customer"]
    project = place.project(f"my-{kind}", *lines, *more)
    data = place.sample(model["label"])
    return place.fleet.create_own(project, uri=model["uri"], data=data, until=until)


def infer(place: Workplace, name: str, frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Ask through the other door; outputs by name."""
    key = place.home.key("admin").read_text().strip()
    inputs = [
        {"name": column, "shape": [len(frame)], "datatype": "FP64", "data": frame[column].tolist()}
        for column in INPUTS
    ]
    url = f"{place.fleet.endpoints.gateway}/v2/models/{name}/infer"
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.post(url, json={"inputs": inputs}, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return {tensor["name"]: tensor for tensor in answer.json()["outputs"]}


@pytest.mark.parametrize("kind", [*KINDS])
def test_a_librarys_model_goes_the_whole_way(trained: Workplace, kind: str) -> None:
    own_code = ["trust: own-code"] if kind == "house-rules" else []
    result = create(trained, kind, *own_code)
    model = trained.models[kind]
    assert (result["verdict"], result["promoted"]) == ("pass", True)
    ref = ReleaseRef.parse(result["release"])
    manifest = trained.fleet.manifest(ref)
    assert manifest.classic is not None
    model_format, libraries = KINDS[kind]
    assert manifest.classic.model_format == model_format
    assert manifest.runtime.kind == "requirements"
    assert set(libraries) <= set(manifest.runtime.libraries)
    if isinstance(libraries, dict):
        assert libraries.items() <= manifest.runtime.libraries.items()
    assert manifest.source.mlflow_run is not None
    told = " ".join(manifest.not_watched)
    assert all(word in told for word in ("features:", "leakage:", "days:", "slices:"))

    frame = pd.read_parquet(trained.sample(model["label"]))[INPUTS].head(5)
    rows = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
    found = trained.fleet.predict(ref.name, rows=rows)
    assert found.release == str(ref)
    name = {"binary": "probability", "multiclass": "probabilities"}.get(model["task"], "prediction")
    for answer, truth in zip(found.predictions, model["answers"], strict=False):
        assert answer[name] == pytest.approx(truth, abs=1e-5)
    tensor = infer(trained, ref.name, frame)[name]
    assert tensor["datatype"] == "FP64"
    if model["task"] == "multiclass":
        assert manifest.classic.classes == ["basic", "pro", "team"]
        assert tensor["shape"] == [5, 3]
        assert tensor["parameters"]["classes"] == ["basic", "pro", "team"]
        assert found.predictions[0]["label"] in manifest.classic.classes
    else:
        assert tensor["data"] == [answer[name] for answer in found.predictions]


def test_code_is_run_only_when_somebody_said_so(trained: Workplace) -> None:
    with pytest.raises(Refused, match="runs when it is loaded") as caught:
        create(trained, "house-rules", until="register")
    assert caught.value.code == "pickle_refused"
    assert "trust: own-code" in str(caught.value.hint)


def test_trust_is_shown_on_the_page_and_in_the_diff(trained: Workplace) -> None:
    """After the whole way: the two releases of these models are there already."""
    code = trained.fleet.release("my-house-rules@champion")
    plain = trained.fleet.release("my-light-churn@champion")
    assert "own-code" in release_page(trained.fleet.manifest(code), links={})
    changes = {change.key: change for change in trained.fleet.diff(plain, code)[0]}
    assert changes["classic.trust"].after == "own-code"


def test_the_next_release_sits_the_same_exam_and_no_new_runtime_is_built(
    trained: Workplace,
) -> None:
    home = trained.home
    exam = (home.projects / "my-light-churn" / "exam" / "exam.jsonl").read_bytes()
    runtimes = {path.name for path in home.runtimes.iterdir() if path.is_dir()}
    result = create(trained, "light-churn", "threshold: 0.3", until="register")
    assert ReleaseRef.parse(result["release"]) != trained.fleet.release("my-light-churn@champion")
    assert (home.projects / "my-light-churn" / "exam" / "exam.jsonl").read_bytes() == exam
    assert {path.name for path in home.runtimes.iterdir() if path.is_dir()} == runtimes
    runtime = next(step for step in result["steps"] if step["step"] == "runtime")
    assert runtime["seconds"] < result["seconds"]


def test_a_requirement_that_cannot_be_met_is_named_and_nothing_is_registered(
    trained: Workplace,
) -> None:
    model = trained.models["light-churn"]
    lines = ["task: binary", "label: churned", "unit: customer"]
    project = trained.project("unmet", *lines, "runtime: {requirements: requirements.txt}")
    (project / "requirements.txt").write_text("lightgbm==99.9\n")
    with pytest.raises(Refused, match=r"lightgbm==99\.9: there is no such version") as caught:
        trained.fleet.create_own(project, uri=model["uri"], data=trained.sample("churned"))
    assert caught.value.code == "RuntimeBroken"
    assert "lightgbm==99.9" in str(caught.value.hint)
    assert trained.fleet.releases("unmet") == []


def test_without_labels_it_is_registered_but_not_promoted(trained: Workplace) -> None:
    model = trained.models["light-churn"]
    data = trained.folder / "no-labels.parquet"
    pd.read_parquet(trained.sample("churned")).drop(columns="churned").to_parquet(data)
    project = trained.project("unlabelled", "task: binary", "label: churned", "unit: customer")
    with pytest.raises(Refused, match="it has no exam to sit") as caught:
        trained.fleet.create_own(project, uri=model["uri"], data=data, until="promote")
    assert "label" in str(caught.value.hint)
    ref = trained.fleet.release("unlabelled")
    assert any("exam: " in line for line in trained.fleet.manifest(ref).not_watched)
    with pytest.raises(Refused):
        trained.fleet.promote(ref)


def test_a_process_of_any_kind_goes_the_whole_way(place: Workplace) -> None:
    """`tests/standins/plain_model.py`: forty lines of the standard library."""
    project = place.project(
        "by-hand",
        "task: binary",
        "label: churned",
        "trust: own-code",
        'serve: {command: ["{python}", model.py, --port, "{port}"], files: [model.py]}',
    )
    (project / "model.py").write_text((STANDINS / "plain_model.py").read_text())
    random = [{"age": float(18 + i % 60), "usage": float(i % 13)} for i in range(200)]
    rows = [{**row, "churned": int(row["age"] / 20 - row["usage"] / 2 > 0)} for row in random]
    data = place.folder / "by-hand.csv"
    pd.DataFrame(rows).to_csv(data, index=False)
    result = place.fleet.create_own(project, data=data, until="promote")
    assert (result["verdict"], result["promoted"]) == ("pass", True)
    assert any(line.startswith("events:") for line in result["not_watched"])
    found = place.fleet.predict("by-hand", rows=[{"age": 45.0, "usage": 5.0}])
    assert found.release == result["release"]
    assert found.predictions[0]["probability"] == pytest.approx(0.5)
    manifest = place.fleet.manifest(ReleaseRef.parse(result["release"]))
    assert manifest.runtime.command[0] == "{python}"
    assert "model.py" in {file.path for file in manifest.files}


def test_a_process_that_does_not_start_makes_no_release(place: Workplace) -> None:
    project = place.project(
        "broken-process",
        "task: binary",
        "trust: own-code",
        """serve: {command: ["{python}", -c, "import sys; sys.exit('no weights here')"]}""",
    )
    data = place.folder / "two.csv"
    data.write_text("age,usage\n40,2.5\n30,9\n")
    with pytest.raises(Refused, match=r"serve\.command ended with 1.*no weights here") as caught:
        place.fleet.create_own(project, data=data, overrides={"description": "x"})
    assert caught.value.code == "RuntimeBroken"
    assert place.fleet.releases("broken-process") == []
