"""Releases that bring their own Python packages: compiled, built once, served; else refused.

The environments are real: uv resolves and installs from the package index that `make setup` uses
(about half a minute with a cold cache). Models are trained inside them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from proa.errors import Refused
from proa.release import runtime
from proa.release.bundle import BundleStore, list_files
from proa.release.canonical import digest_file
from proa.release.manifest import Manifest, check_manifest
from proa.release.reference import ReleaseRef
from tests.processes import Processes

ROWS: list[dict[str, Any]] = [
    {"carrier": "UA", "wind": 3.5},
    {"carrier": "DL", "wind": None},
    {"carrier": "ZZ", "wind": 30.0},
]
NUMBERS = [{"hour": 7.0, "wind": 3.5}, {"hour": 22.0, "wind": 30.0}]

# Runs inside the environment: trains, stores the model, prints what it answers for the rows.
TRAIN = """
import json, sys
from pathlib import Path
import numpy as np
from proa.release import model_files, scoring
from proa.release.manifest import ClassicSpec

how, folder, spec, rows = sys.argv[1], Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
spec = ClassicSpec.model_validate_json(spec)
random = np.random.default_rng(0)
wind, hour = random.gamma(2.0, 5.0, 400), random.integers(5, 23, 400)
late = wind + hour + random.normal(size=400) * 4 > 24
data = {
    "carrier": random.choice(["UA", "DL"], 400).tolist(), "wind": wind.tolist(),
    "hour": hour.tolist(),
}
columns = {column.name: data[column.name] for column in spec.columns}
frame = scoring.frame(spec, scoring.checked(spec, columns))
if how == "skops":
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    encode = ColumnTransformer([("texts", encoder, ["carrier"])], remainder="passthrough")
    trees = HistGradientBoostingClassifier(max_iter=10)
    model = Pipeline([("encode", encode), ("trees", trees)]).fit(frame, late)
    model_files.save(model, folder / "model")
elif how == "lightgbm":
    import lightgbm
    model = lightgbm.train(
        {"objective": "binary", "verbose": -1}, lightgbm.Dataset(frame.to_numpy(), late), 10
    )
    (folder / "model").mkdir()
    model.save_model(folder / spec.model)
elif how == "xgboost":
    import xgboost
    model = xgboost.XGBClassifier(n_estimators=10).fit(frame, late)
    (folder / "model").mkdir()
    model.save_model(folder / spec.model)
elif how == "onnx":
    import skl2onnx
    from sklearn.linear_model import LogisticRegression
    model = LogisticRegression().fit(frame.to_numpy(), late)
    values = frame.to_numpy()[:1]
    found = skl2onnx.to_onnx(model, values, options={"zipmap": False})
    (folder / "model").mkdir()
    (folder / spec.model).write_bytes(found.SerializeToString())
else:
    import mlflow.sklearn
    from sklearn.linear_model import LogisticRegression
    model = LogisticRegression().fit(frame, late)
    mlflow.sklearn.save_model(
        model, folder / spec.model, serialization_format="cloudpickle",
        pip_requirements=["scikit-learn==1.5.2"],
    )
asked = scoring.checked(spec, scoring.columns_of_rows(spec, rows))
data = scoring.frame(spec, asked)
if how == "lightgbm":
    print(json.dumps(model.predict(data.to_numpy()).tolist()))
elif how == "onnx":
    print(json.dumps(model.predict_proba(data.to_numpy())[:, 1].tolist()))
else:
    print(json.dumps(model.predict_proba(data)[:, 1].tolist()))
"""


class Built(NamedTuple):
    """An environment: the lock it was built from, its folder of environments and its Python."""

    lock: Path
    root: Path
    python: Path


def build(folder: Path, *requirements: str) -> Built:
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "requirements.txt"
    source.write_text("\n".join(requirements))
    lock = runtime.compile_requirements(source, folder / "lock")
    root = folder / "runtimes"
    return Built(lock, root, runtime.build(lock, root))


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """An environment with scikit-learn 1.5.2."""
    return build(tmp_path_factory.mktemp("older"), "scikit-learn==1.5.2")


def release(
    folder: Path, built: Built, how: str, section: dict[str, Any], rows: list[dict[str, Any]]
) -> tuple[ReleaseRef, Manifest, BundleStore, list[float]]:
    """Train inside the environment and bundle what it wrote, with its lock."""
    staging = folder / "staging"
    staging.mkdir(parents=True)
    argv = [built.python, "-W", "ignore", "-c", TRAIN, how, staging]
    argv += [json.dumps(section), json.dumps(rows)]
    done = subprocess.run(argv, check=True, capture_output=True, timeout=120)
    answers = json.loads(done.stdout.splitlines()[-1])
    (staging / runtime.LOCK).write_bytes(built.lock.read_bytes())
    cases = [
        {"input": {"rows": [row]}, "output": {"probability": answer}}
        for row, answer in zip(rows, answers, strict=True)
    ]
    (staging / "selftest.json").write_text(json.dumps({"cases": cases}))
    pinned = runtime.described_by(built.lock, path=runtime.LOCK)
    manifest = check_manifest(
        {
            "name": "flight-delay",
            "kind": "classic",
            "runtime": pinned.model_dump(),
            "classic": section,
            "selftest": "selftest.json",
            "files": [file.model_dump() for file in list_files(staging)],
        }
    )
    store = BundleStore(folder / "store")
    digest = store.put(manifest, staging)
    return ReleaseRef("flight-delay", 1, digest), manifest, store, answers


def serve(
    processes: Processes, python: list[str], ref: ReleaseRef, store: BundleStore, work: Path,
    *, wait: bool = True,
) -> Any:  # fmt: skip
    argv = [
        *python,
        "--release",
        str(ref),
        "--bundles",
        f"file://{store.blobs.root}",
        "--workdir",
        work,
    ]
    ready = "/readyz" if wait else None
    return processes.start([*argv, "--port", "{port}"], ready=ready, deadline=120)


def section(model_format: str, path: str, *columns: tuple[str, str]) -> dict[str, Any]:
    return {
        "task": "binary",
        "model": path,
        "model_format": model_format,
        "columns": [{"name": name, "type": kind} for name, kind in columns],
    }


def test_a_model_of_another_scikit_learn_is_served_there_and_refused_here(
    processes: Processes, older: Built, tmp_path: Path
) -> None:
    columns = (("carrier", "string"), ("wind", "double"))
    asked = section("skops", "model/model.skops", *columns)
    ref, manifest, store, answers = release(tmp_path, older, "skops", asked, ROWS)
    assert manifest.runtime.libraries["scikit-learn"] == "1.5.2"
    folder = tmp_path / "work" / ref.digest.removeprefix("sha256:")
    store.materialize(ref.digest, folder)

    python = runtime.python_for(manifest, folder, older.root)
    assert python[0] == str(older.python)
    url = serve(processes, python, ref, store, tmp_path / "work").url
    body = httpx.post(f"{url}/v1/predict", json={"rows": ROWS}).json()
    assert [row["probability"] for row in body["predictions"]] == answers
    state = httpx.get(f"{url}/release").json()
    assert state["runtime"] == manifest.runtime.fingerprint()
    assert state["selftest"] == {"cases": 3, "passed": True}

    here = [sys.executable, "-m", "proa_predictor"]
    refused = serve(processes, here, ref, store, tmp_path / "work", wait=False).proc
    assert refused.wait(60) == 78
    said = processes.log(refused)
    assert "needs the runtime built from sha256:" in said
    assert "this process runs on the platform" in said


def test_libraries_that_the_platform_lacks_are_served(processes: Processes, tmp_path: Path) -> None:
    """lightgbm, xgboost and ONNX files without pickle; an MLflow model, whose pickle only a
    runtime of the user's own may load."""
    libraries = ["lightgbm>=4.5", "xgboost-cpu>=3", "skl2onnx>=1.18", "onnxruntime>=1.20"]
    built = build(tmp_path / "env", "scikit-learn==1.5.2", "mlflow-skinny>=3", *libraries)
    columns = (("hour", "double"), ("wind", "double"))
    for how, asked in {
        "lightgbm": section("lightgbm-text", "model/model.txt", *columns),
        "xgboost": section("xgboost-json", "model/model.json", *columns),
        "onnx": section("onnx", "model/model.onnx", *columns),
        "mlflow": {**section("mlflow", "model", *columns), "trust": "own-code"},
    }.items():
        home = tmp_path / how
        ref, manifest, store, answers = release(home, built, how, asked, NUMBERS)
        folder = home / "work" / ref.digest.removeprefix("sha256:")
        store.materialize(ref.digest, folder)
        python = runtime.python_for(manifest, folder, built.root)
        url = serve(processes, python, ref, store, home / "work").url
        body = httpx.post(f"{url}/v1/predict", json={"rows": NUMBERS}).json()
        found = [row["probability"] for row in body["predictions"]]
        assert found == pytest.approx(answers, abs=1e-7), how


def test_the_same_requirements_are_built_once(older: Built, tmp_path: Path) -> None:
    """The second time nothing is installed; the environment's files stay as they are."""
    said: list[str] = []
    assert older.python.parts[-3] == runtime.environment(digest_file(older.lock))
    before = older.python.lstat().st_mtime_ns
    assert runtime.build(older.lock, older.root, progress=said.append) == older.python
    assert said == []
    assert older.python.lstat().st_mtime_ns == before


def small_lock(older: Built, folder: Path) -> Path:
    """A lock with one tiny package, cut out of a real one."""
    found = re.search(r"^idna==.*?(?=^\S|\Z)", older.lock.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    lock = folder / "small.lock"
    lock.write_text(found[0])
    return lock


def test_builders_at_once_make_one_environment(older: Built, tmp_path: Path) -> None:
    lock, root = small_lock(older, tmp_path), tmp_path / "runtimes"
    said: list[str] = []
    guard = threading.Lock()

    def progress(line: str) -> None:
        with guard:
            said.append(line)

    with ThreadPoolExecutor(4) as pool:
        pythons = set(pool.map(lambda _: runtime.build(lock, root, progress=progress), range(4)))
    assert len(pythons) == 1
    assert sum("installed 1 package" in line for line in said) == 1
    assert sum("100 %" in line for line in said) == 1
    assert sum("another process builds it; waiting" in line for line in said) == 3
    assert runtime.progress_of(root, digest_file(lock)) is None
    assert [path.name for path in root.iterdir() if path.is_dir()] == [pythons.pop().parts[-3]]


def test_a_build_that_died_is_built_again(older: Built, tmp_path: Path) -> None:
    """What `kill -9` in the middle leaves: a staging folder, or an environment without its mark."""
    lock, root = small_lock(older, tmp_path), tmp_path / "runtimes"
    python = runtime.build(lock, root)
    folder = python.parent.parent
    (folder / "proa-runtime.json").unlink()
    (folder / "lib" / "half").mkdir()
    (root / f".building-{folder.name}" / "bin").mkdir(parents=True)
    assert runtime.build(lock, root) == python
    assert not (folder / "lib" / "half").exists()
    assert not list(root.glob(".building-*"))
    done = subprocess.run([python, "-c", "import idna, proa, proa_predictor"], timeout=60)
    assert done.returncode == 0


def test_an_environment_whose_interpreter_is_gone_is_built_again(
    older: Built, tmp_path: Path
) -> None:
    lock, root = small_lock(older, tmp_path), tmp_path / "runtimes"
    python = runtime.build(lock, root)
    python.unlink()
    python.symlink_to(tmp_path / "an-interpreter-that-was-removed")
    assert runtime.build(lock, root) == python
    assert subprocess.run([python, "-c", "import idna"], timeout=60).returncode == 0


def test_how_far_a_build_is_can_be_read_by_others(older: Built, tmp_path: Path) -> None:
    lock, root = small_lock(older, tmp_path), tmp_path / "runtimes"
    wanted = digest_file(lock)
    seen: list[str | None] = []
    runtime.build(lock, root, progress=lambda _: seen.append(runtime.progress_of(root, wanted)))
    assert seen[0] is not None
    assert " 5 %" in seen[0].replace("(", " ")
    assert runtime.progress_of(root, wanted) is None


def test_a_changed_package_is_not_installed(older: Built, tmp_path: Path) -> None:
    lock = small_lock(older, tmp_path)
    lock.write_text(re.sub("sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, lock.read_text()))
    with pytest.raises(Refused, match=r"idna==.*another hash than the lock says") as caught:
        runtime.build(lock, tmp_path / "runtimes")
    assert caught.value.code == "RuntimeBroken"
    assert "://" not in caught.value.message
    assert not [path for path in (tmp_path / "runtimes").iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["scikit-learn==99.1"], "scikit-learn==99.1: there is no such version"),
        (["scikit-learnn"], "scikit-learnn: there is no such package"),
        (["numpy<1.20", "scikit-learn==1.5.2"], "numpy<1.20: it excludes what the predictor needs"),
    ],
)
def test_requirements_that_cannot_be_met_are_named(
    lines: list[str], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text("\n".join(lines))
    with pytest.raises(Refused, match=r"requirements\.txt cannot be met") as caught:
        runtime.compile_requirements(path, tmp_path / "lock")
    assert words in caught.value.message
    assert "://" not in caught.value.message
    assert str(tmp_path) not in caught.value.message
    assert not (tmp_path / "lock" / runtime.LOCK).exists()


def test_a_lock_names_no_address(older: Built) -> None:
    text = older.lock.read_text()
    assert "scikit-learn==1.5.2" in text
    assert "--hash=sha256:" in text
    assert "://" not in text
    assert "--index" not in text
