"""The classic pipeline, for real: KFP's local runner, Feast, scikit-learn, and MLflow's server.

Only small: two weeks of flights and three trials. No platform runs, so the end is the staged
release; `test_tracking.py` has the step after it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from flight_delay import exam_data
from flight_delay.data import ZONE, ingest
from proa.errors import InvalidInput
from proa.exam.exam import Exam, Row, load
from proa.exam.leakage import leakage
from proa.project.run import run_pipeline
from proa.release import model_files, scoring
from proa.release.bundle import MANIFEST, list_files
from proa.release.manifest import Manifest, check_manifest
from proa.release.selftest import parse_cases, run_cases

ROOT = Path(__file__).parents[3]
PROJECT = ROOT / "pipelines" / "flight_delay"
SMALL = ["--set", "data.train.start=2013-02-01T00:00:00-05:00", "--set", "train.trials=3"]


def pipeline(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proa_pipelines", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, **env},
    )


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run to the staged folder, for every test that looks at what it left."""
    folder = tmp_path_factory.mktemp("run")
    result, temporary = folder / "result.json", folder / "tmp"
    temporary.mkdir()
    done = pipeline(
        *("run", PROJECT, "--home", folder / "home", "--until", "stage", "--result", result),
        *SMALL,
        TMPDIR=str(temporary),
    )
    assert done.returncode == 0, done.stderr + done.stdout
    found = {"said": done.stdout, "home": folder / "home", "temporary": temporary}
    return {**json.loads(result.read_text()), **found}


def manifest_of(staged: dict[str, Any]) -> Manifest:
    folder = Path(staged["staged"])
    value = json.loads((folder / MANIFEST).read_bytes())
    files = [file.model_dump() for file in list_files(folder)]
    return check_manifest({**value, "files": files})


def test_no_row_is_lost_and_every_step_is_timed(staged: dict[str, Any]) -> None:
    steps = {step["step"]: step for step in staged["steps"]}
    assert list(steps) == [
        "ingest",
        "validate",
        "features",
        "search",
        "train",
        "calibrate",
        "slices",
        "stage",
    ]
    assert steps["features"]["rows_in"] == steps["features"]["rows_out"] == steps["ingest"]["rows"]
    assert steps["search"]["trials"] == 3
    assert all(step["seconds"] >= step["worked"] > 0 for step in steps.values())
    assert steps["calibrate"]["metrics"]["roc_auc"] > 0.6


def test_people_read_progress_and_not_kfps_log(staged: dict[str, Any]) -> None:
    lines = staged["said"].splitlines()
    assert any(line.startswith("    trial 3/3, best log_loss 0.") for line in lines)
    assert any(line.startswith("  stage  ") for line in lines)
    assert "KFP" not in staged["said"]
    assert "proa-step" not in staged["said"]


def test_the_staged_folder_is_a_release(staged: dict[str, Any]) -> None:
    manifest = manifest_of(staged)
    classic = manifest.classic
    assert classic is not None
    assert [view.view for view in classic.feature_views] == [
        "schedule_v1",
        "weather_v1",
        "origin_delay_v1",
    ]
    assert len(classic.columns) == 18
    assert 0 < (classic.threshold or 0) < 1
    assert manifest.source.pipeline_run == staged["run"]
    assert manifest.parameters["train"] == "model:train"
    assert manifest.data is not None
    assert manifest.data.rows == next(s["rows"] for s in staged["steps"] if s["step"] == "ingest")
    assert manifest.runtime.libraries["scikit-learn"]


def test_the_release_holds_nothing_of_the_exam(staged: dict[str, Any]) -> None:
    paths = [file.path for file in manifest_of(staged).files]
    assert "code/model.py" in paths
    assert not [path for path in paths if "exam" in path]


def _told(staged: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the gate would say of these rows as an exam of the staged release."""
    examined = tuple(Row(**{key: row[key] for key in _ROW_KEYS}) for row in rows)
    folder = Path(staged["staged"])
    exam = Exam(load(PROJECT).rules, "sha256:" + "0" * 64, rows=examined)
    return leakage(exam, manifest_of(staged), lambda path: (folder / path).read_bytes())


_ROW_KEYS = ("id", "unit", "label", "inputs", "slices", "time")


def test_an_exam_of_its_own_flights_is_a_leak(staged: dict[str, Any]) -> None:
    """The exam's own builder over the last day of training, over the day after, and by id only."""
    zone = ZoneInfo(ZONE)
    end = datetime(2013, 2, 15, tzinfo=zone)

    def built(start: datetime, until: datetime) -> list[dict[str, Any]]:
        return exam_data.rows(exam_data.known_at_departure(ingest(start, until)))

    day = timedelta(days=1)
    seen, after = built(end - day, end), built(end, end + day)
    told = _told(staged, seen)
    assert told["checked"]
    assert told["leaked"] == told["times"] == told["rows"] == len(seen) > 500
    told = _told(staged, after)
    assert (told["checked"], told["leaked"], told["times"]) == (True, 0, 0)
    later = [{**row, "time": "2013-04-01T00:00:00+00:00"} for row in seen[:3]]
    told = _told(staged, [*after, *later])
    assert (told["leaked"], told["times"]) == (3, 0)
    assert told["ids"] == [row["id"] for row in later]


def test_the_projects_exam_is_none_of_its_training(staged: dict[str, Any]) -> None:
    exam, folder = load(PROJECT), Path(staged["staged"])
    told = leakage(exam, manifest_of(staged), lambda path: (folder / path).read_bytes())
    assert (told["checked"], told["leaked"], told["times"]) == (True, 0, 0)
    assert told["rows"] == len(exam.rows)


def test_the_stored_model_answers_its_selftest(staged: dict[str, Any]) -> None:
    folder, manifest = Path(staged["staged"]), manifest_of(staged)
    classic = manifest.classic
    assert classic is not None
    assert manifest.selftest is not None
    model = model_files.load(manifest, folder)
    scoring.check_model(model, classic)
    cases = parse_cases(json.loads((folder / manifest.selftest).read_bytes()))
    assert run_cases(cases, lambda case: scoring.answer_case(model, classic, case)) == 64
    probabilities = {case.output["probability"] for case in cases}
    assert len(probabilities) > 50
    last = cases[-1].input["rows"][0]
    assert set(last.values()) == {None}, "the last case proves the missing-value policy"


def test_the_profile_watches_every_column(staged: dict[str, Any]) -> None:
    from proa.profile.reference import parse_profile

    manifest = manifest_of(staged)
    assert manifest.profile is not None
    assert manifest.classic is not None
    profile = parse_profile((Path(staged["staged"]) / manifest.profile).read_bytes())
    watched = {feature.name for feature in profile.features}
    assert watched == {column.name for column in manifest.classic.columns} | {
        "outputs.probability",
        "outputs.label",
    }
    assert manifest.data is not None
    assert profile.rows == manifest.data.rows


def test_the_training_set_equals_the_exams_own_join(staged: dict[str, Any]) -> None:
    """Feast's point-in-time join against pandas': same flights, same values, no later value."""
    import pandas as pd

    code = (
        "import sys, pandas as pd; from datetime import datetime;"
        "from flight_delay import data, exam_data;"
        "window = [datetime.fromisoformat(t) for t in sys.argv[1:3]];"
        "exam_data.known_at_departure(data.ingest(*window)).to_parquet(sys.argv[3])"
    )
    window = manifest_of(staged).parameters["window"]
    mine = Path(staged["home"]) / "mine.parquet"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, window["start"], window["end"], str(mine)],
        check=True,
        timeout=120,
    )
    expected = pd.read_parquet(mine).set_index("flight_id").sort_index()
    sample = pd.read_parquet(Path(staged["staged"]) / "profile" / "reference_sample.parquet")
    assert len(sample) > 1000
    ordered = expected.reset_index().sort_values(["scheduled_departure", "flight_id"])
    step = -(-len(ordered) // 2000)
    for name in ("departure_delay_2h", "departures_2h", "temp", "pressure", "distance"):
        pd.testing.assert_series_equal(
            sample[name],
            ordered[name].iloc[::step].reset_index(drop=True),
            check_names=False,
        )


def test_the_run_leaves_only_what_is_kept(staged: dict[str, Any]) -> None:
    kept = {path.name for path in (Path(staged["home"]) / "projects" / "flight-delay").iterdir()}
    assert kept == {"staged", f"pipeline-{staged['run']}.log"}
    assert list(staged["temporary"].iterdir()) == []


@pytest.fixture
def broken_project(tmp_path: Path) -> Path:
    """A project of one file whose train function has a bug."""
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "proa.yaml").write_text(
        """\
version: 1
name: broken
kind: classic
task: binary
data:
  ingest: model:ingest
  time: at
  label: late
  train: {start: 2013-01-01, end: 2013-02-01}
train: {function: model:train}
"""
    )
    (folder / "model.py").write_text(
        """\
import pandas as pd


def ingest(start, end):
    at = pd.date_range(start, periods=100, freq="6h")
    return {"examples": pd.DataFrame({"at": at, "x": range(100), "late": at.hour == 0})}


def train(data, parameters):
    raise RuntimeError("out of apples")
"""
    )
    return folder


def test_a_bug_in_the_project_is_one_line_and_an_exit_code(
    broken_project: Path, tmp_path: Path
) -> None:
    result = tmp_path / "result.json"
    done = pipeline(
        "run", broken_project, "--home", tmp_path, "--until", "stage", "--result", result
    )
    assert done.returncode == 70
    body = json.loads(result.read_text())
    assert body["error"]["message"] == "step train: RuntimeError: out of apples"
    assert body["error"]["hint"].startswith("the whole")
    assert done.stderr.splitlines() == [
        f"error: {body['error']['message']}",
        f"hint: {body['error']['hint']}",
    ]
    assert [step["step"] for step in body["steps"]] == [
        "ingest",
        "validate",
        "features",
        "search",
        "train",
    ]
    assert 'raise RuntimeError("out of apples")' in Path(body["log"]).read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--set", "train.trials=none"], 2, "train.trials = 'none'"),
        (["--set", "trials"], 2, "--set 'trials': expected KEY=VALUE"),
        (["--set", "data.train.end=2013-01-02"], 2, "examples are outside"),
    ],
)
def test_a_users_mistake_is_named(
    broken_project: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    done = pipeline("run", broken_project, "--home", tmp_path, "--until", "stage", *arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_who_raises_what_the_result_says_does_not_print_it_too(
    broken_project: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    with pytest.raises(InvalidInput, match=r"train\.trials = 'none'"):
        run_pipeline(
            broken_project, home=tmp_path, overrides={"train.trials": "none"}, until="register",
            cause={}, on_line=said.append,
        )  # fmt: skip
    assert said == []


def test_it_compiles_for_a_cluster(tmp_path: Path) -> None:
    import yaml

    target = tmp_path / "classic.yaml"
    assert pipeline("compile", "classic", target).returncode == 0
    spec = yaml.safe_load(target.read_text())
    assert {"ingest", "gate", "condition-1"} <= set(spec["root"]["dag"]["tasks"])
    condition = spec["root"]["dag"]["tasks"]["condition-1"]["triggerPolicy"]["condition"]
    assert condition == "inputs.parameter_values['pipelinechannel--gate-Output'] == 'pass'"
    images = {e["container"]["image"] for e in spec["deploymentSpec"]["executors"].values()}
    assert images == {"proa-pipelines"}
    assert "pip install" not in target.read_text()


def test_a_regression_on_raw_columns_needs_no_features_and_no_calibration(
    broken_project: Path, tmp_path: Path
) -> None:
    """LinearRegression refuses missing values: the selftest goes without that case and says so."""
    (broken_project / "model.py").write_text(
        """\
import pandas as pd
from sklearn.linear_model import LinearRegression


def ingest(start, end):
    at = pd.date_range(start, periods=100, freq="6h")
    return {"examples": pd.DataFrame({"at": at, "x": range(100), "late": range(0, 300, 3)})}


def train(data, parameters):
    return LinearRegression().fit(data.features, data.label)
"""
    )
    result = tmp_path / "result.json"
    done = pipeline(
        *("run", broken_project, "--home", tmp_path, "--until", "stage", "--result", result),
        *("--set", "task=regression", "--set", "train.metric=rmse"),
    )
    assert done.returncode == 0, done.stderr
    assert "no selftest of missing values" in done.stdout
    body = json.loads(result.read_text())
    metrics = next(s["metrics"] for s in body["steps"] if s["step"] == "calibrate")
    assert metrics["rmse"] == pytest.approx(0.0, abs=1e-6)
    staged = Path(body["staged"])
    case = json.loads((staged / "selftest.json").read_text())["cases"][3]
    x = case["input"]["rows"][0]["x"]
    assert case["output"]["prediction"] == pytest.approx(3 * x)
    manifest = check_manifest(
        {
            **json.loads((staged / MANIFEST).read_bytes()),
            "files": [file.model_dump() for file in list_files(staged)],
        }
    )
    assert manifest.classic is not None
    assert [(c.name, c.type) for c in manifest.classic.columns] == [("x", "long")]
    assert manifest.classic.threshold is None
