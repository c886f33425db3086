"""Runs on Kubeflow Pipelines, over HTTP with KFP's own client.

Faked: the API server, by `tests/standins/kubeflow.py`, which is generated from that client. MLflow
is real, on a SQLite file.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from proa.errors import (
    Forbidden,
    InvalidInput,
    NotFound,
    Refused,
    Unauthenticated,
    Unavailable,
)
from proa.fleet.preset import PipelinesSection, read_preset
from proa.project.scaffold import write_project
from proa_pipelines import steps
from proa_pipelines.kubeflow import Kubeflow, Submitted
from proa_pipelines.submit import submit
from tests.standins import kubeflow
from tests.standins.kubeflow import serving

# MLflow's own use of SQLAlchemy, when its client opens the database itself
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")


@pytest.fixture
def backend() -> kubeflow.Kubeflow:
    return kubeflow.Kubeflow()


@pytest.fixture
def url(backend: kubeflow.Kubeflow) -> Iterator[str]:
    with serving(backend) as address:
        yield address


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where an MLflow of its own keeps everything: its client reads and writes the file itself."""
    folder = tmp_path_factory.mktemp("mlflow")
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture(autouse=True)
def _in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow without a server puts artifacts into ./mlruns."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_project("churn", kind="classic", folder=tmp_path / "churn")
    return tmp_path / "churn"


def section(url: str, **more: Any) -> PipelinesSection:
    return PipelinesSection(url=url, **more)


def platform_file(tmp_path: Path, mlflow: str, **pipelines: Any) -> Path:
    path = tmp_path / "platform.yaml"
    parts = dict.fromkeys(("gateway", "controller"), "http://127.0.0.1:9")
    path.write_text(yaml.safe_dump({**parts, "mlflow": mlflow, "pipelines": pipelines}))
    return path


def test_a_run_is_submitted_as_the_platform_file_says(
    backend: kubeflow.Kubeflow, url: str, mlflow: str, project: Path, tmp_path: Path
) -> None:
    backend.namespaces = frozenset({"team-a"})
    settings = {
        "url": url,
        "namespace": "team-a",
        "service_account": "runner",
        "image": "registry.example/proa-pipelines:9",
        "claim": "proa-home",
        "mlflow_secret": "proa-mlflow",
        "node_selector": {"disk": "fast"},
        "gpu": 1,
    }
    said: list[str] = []
    done = submit(
        str(project),
        platform_file(tmp_path, mlflow, **settings),
        overrides={"train.parameters.max_iter": "20"},
        until="gate",
        wait=False,
        cause={"cause": "drift: psi 0.3", "requested_by": "ada", "evidence": "finding-7"},
        say=said.append,
    )
    run = backend.runs[done["run"]]
    assert done["url"] == f"{url}/#/runs/details/{done['run']}"
    assert backend.experiments[0]["namespace"] == "team-a"
    assert backend.experiments[0]["display_name"] == "churn"
    assert run["service_account"] == "runner"
    parameters = run["runtime_config"]["parameters"]
    assert parameters["project"] == done["package"]
    assert json.loads(parameters["overrides"]) == {"train.parameters.max_iter": "20"}
    assert parameters["cause"] == "drift: psi 0.3"
    assert (parameters["requested_by"], parameters["evidence"]) == ("ada", "finding-7")
    spec = run["pipeline_spec"]["pipeline_spec"]
    executors = spec["deploymentSpec"]["executors"]
    assert {e["container"]["image"] for e in executors.values()} == {settings["image"]}
    assert "exec-promote" not in executors  # it was asked for until the gate
    assert executors["exec-train"]["container"]["resources"]["accelerator"]["resourceCount"] == "1"
    assert "accelerator" not in executors["exec-gate"]["container"]["resources"]
    assert not [t for t in spec["root"]["dag"]["tasks"].values() if t["cachingOptions"]]
    pods = run["pipeline_spec"]["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]
    assert set(pods["executors"]) == set(executors)
    pod = pods["executors"]["exec-register"]
    assert [item["secretName"] for item in pod["secretAsVolume"]] == [
        "proa-pipelines-key",
        "proa-mlflow",
    ]
    assert pod["pvcMount"][0]["constant"] == "proa-home"
    assert pod["podMetadata"]["labels"]["proa.dev/client"] == "true"
    assert pod["nodeSelector"]["labels"] == {"disk": "fast"}


def test_a_step_runs_what_was_submitted(
    url: str,
    mlflow: str,
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The package is packed here and fetched as a pod fetches it; and a model's name is enough."""
    platform = platform_file(tmp_path, mlflow, url=url)
    first = submit(str(project), platform, wait=False, say=lambda _: None)
    again = submit("churn", platform, wait=False, say=lambda _: None)
    assert again["package"] == first["package"]
    for path in project.iterdir():
        path.unlink()  # what runs is what was submitted
    monkeypatch.setenv("PROA_PLATFORM", str(platform))
    overrides = '{"data.train.end": "2026-01-08"}'
    steps.run(
        "classic",
        "ingest",
        project=first["package"],
        overrides=overrides,
        tables=str(tmp_path / "tables"),
    )
    assert (tmp_path / "tables" / "examples.parquet").is_file()
    assert '"step": "ingest", "event": "end"' in capsys.readouterr().out
    with pytest.raises(NotFound, match="no project of 'nobody' was submitted"):
        submit("nobody", platform, wait=False)


def test_a_recurring_run_replaces_the_one_before_and_can_be_ended(
    backend: kubeflow.Kubeflow, url: str, mlflow: str, project: Path, tmp_path: Path
) -> None:
    backend.page = 1
    platform = platform_file(tmp_path, mlflow, url=url)
    first = submit(str(project), platform, every="0 3 * * 1", say=lambda _: None)
    other = {"experiment_id": backend.experiments[0]["experiment_id"], "display_name": "another"}
    backend.recurring.append({**other, "recurring_run_id": "other"})
    second = submit(str(project), platform, every="0 0 4 * * *", say=lambda _: None)
    assert first["recurring"] != second["recurring"]
    kept = {item["recurring_run_id"]: item for item in backend.recurring}
    assert set(kept) == {"other", second["recurring"]}
    made = kept[second["recurring"]]
    assert made["trigger"]["cron_schedule"]["cron"] == "0 0 4 * * *"
    assert made["no_catchup"] is True
    with pytest.raises(InvalidInput, match="expected five fields"):
        submit(str(project), platform, every="soon", say=lambda _: None)
    assert second["recurring"] in [item["recurring_run_id"] for item in backend.recurring]
    assert submit(str(project), platform, every="none", say=lambda _: None)["ended"] == 1
    assert [item["recurring_run_id"] for item in backend.recurring] == ["other"]


def task(name: str, state: str, **more: Any) -> dict[str, Any]:
    return {"task_id": name, "display_name": name, "state": state, **more}


def watched(backend: kubeflow.Kubeflow, url: str) -> list[str]:
    """What is said while a run goes through the script."""
    backend.runs["r"] = {"run_id": "r"}
    said: list[str] = []
    client = Kubeflow(section(url), poll=0.001)
    client.watch(Submitted("r", f"{url}/#/runs/details/r"), said.append)
    return said


def test_every_state_is_said_once(backend: kubeflow.Kubeflow, url: str) -> None:
    times = {"start_time": "2026-11-21T12:00:00Z", "end_time": "2026-11-21T12:00:07Z"}
    root = task("root", "RUNNING")
    backend.script = [
        {"state": "PENDING"},
        {"state": "RUNNING", "run_details": {"task_details": [root, task("ingest", "RUNNING")]}},
        {"state": "RUNNING", "run_details": {"task_details": [root, task("ingest", "RUNNING")]}},
        {
            "state": "SUCCEEDED",
            "run_details": {"task_details": [root, task("ingest", "SUCCEEDED", **times)]},
        },
    ]
    assert watched(backend, url) == [
        "run pending",
        "  ingest  running",
        "run running",
        "  ingest  succeeded  7 s",
        "run succeeded",
    ]


def test_a_failed_run_names_the_step_its_message_and_the_page(
    backend: kubeflow.Kubeflow, url: str
) -> None:
    failed = task("train", "FAILED", error={"code": 2, "message": "main: exit code 2"})
    backend.script = [
        {
            "state": "FAILED",
            "error": {"message": "one of its steps"},
            "run_details": {"task_details": [task("root", "FAILED"), failed]},
        }
    ]
    with pytest.raises(Refused, match="run r failed in step train: main: exit code 2") as raised:
        watched(backend, url)
    assert raised.value.hint == f"its log: {url}/#/runs/details/r"
    backend.script = [{"state": "CANCELED"}]
    backend._looks.clear()
    with pytest.raises(Refused, match="run r was cancelled: Kubeflow says no more"):
        watched(backend, url)


def test_the_token_is_read_again_for_every_request(
    backend: kubeflow.Kubeflow, url: str, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    backend.token = "one"
    client = Kubeflow(section(url, token_file=str(token)))
    client.experiment("a")
    backend.token = "two"
    with pytest.raises(Unauthenticated, match="not logged in: the token is not valid") as raised:
        client.experiment("b")
    assert raised.value.hint is not None
    assert "pipelines.token_file" in raised.value.hint
    token.write_text("two")
    client.experiment("b")
    assert {authorization for *_, authorization in backend.seen} == {"Bearer one", "Bearer two"}


def test_what_the_api_refuses_names_the_namespace(backend: kubeflow.Kubeflow, url: str) -> None:
    backend.namespaces = frozenset({"team-a"})
    with pytest.raises(Forbidden, match="not allowed in namespace team-b: User may not use"):
        Kubeflow(section(url, namespace="team-b")).experiment("m")
    with pytest.raises(InvalidInput, match=r"has profiles: pipelines\.namespace is missing"):
        Kubeflow(section(url))
    with pytest.raises(NotFound, match="run gone: there is none: Run gone not found"):
        Kubeflow(section(url, namespace="team-a")).watch(Submitted("gone", ""), lambda _: None)


def test_nobody_there_and_somebody_else_there(url: str, free_port: Any) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match=f"Kubeflow Pipelines at {address} did not answer"):
        Kubeflow(section(address))
    with pytest.raises(NotFound, match="no operation GET /elsewhere/apis"):
        Kubeflow(section(f"{url}/elsewhere"))


def test_tls_is_verified_unless_it_is_switched_off(
    backend: kubeflow.Kubeflow, tmp_path: Path
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=kfp -addext"
    subprocess.run(
        [*command.split(), "subjectAltName=IP:127.0.0.1", "-keyout", str(key),
         "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    both = tmp_path / "both.pem"
    both.write_text(key.read_text() + certificate.read_text())
    with serving(backend, certificate=both) as address:
        with pytest.raises(Unavailable, match=r"(?i)certificate verify failed"):
            Kubeflow(section(address))
        assert backend.seen == []  # not even a token went to somebody unknown
        assert Kubeflow(section(address, ca_file=str(certificate))).experiment("m")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("GET", "/apis/v1/runs", None, 404, "no operation"),
        ("GET", "/apis/v2beta1/runs?colour=red", None, 400, "no parameter colour"),
        ("POST", "/apis/v2beta1/runs", {"display_nam": "x"}, 400, "has no field display_nam"),
        ("POST", "/apis/v2beta1/runs", {"display_name": 3}, 400, "expected text"),
        ("POST", "/apis/v2beta1/recurringruns", {"mode": "ON"}, 400, "is none of"),
        ("POST", "/apis/v2beta1/runs", None, 400, "a body is missing"),
    ],
)
def test_the_stand_in_refuses_what_kfps_document_does_not_know(
    backend: kubeflow.Kubeflow, method: str, path: str, body: Any, status: int, said: str
) -> None:
    with pytest.raises(kubeflow.RefusedRequest, match=said) as raised:
        backend.answer(method, path, None, body)
    assert raised.value.status == status


def test_the_stand_in_refuses_a_pipeline_and_parameters_that_do_not_fit(
    project: Path, tmp_path: Path
) -> None:
    from proa_pipelines.compiling import compile_pipeline

    compile_pipeline("own", tmp_path / "own.yaml")
    spec = yaml.safe_load((tmp_path / "own.yaml").read_text())
    kubeflow.check_pipeline(spec, {"project": "x"})
    with pytest.raises(kubeflow.RefusedRequest, match="parameter project is missing"):
        kubeflow.check_pipeline(spec, {})
    with pytest.raises(kubeflow.RefusedRequest, match="parameter colour is no input"):
        kubeflow.check_pipeline(spec, {"project": "x", "colour": "red"})
    with pytest.raises(kubeflow.RefusedRequest, match="pipeline_spec"):
        kubeflow.check_pipeline({**spec, "rooot": {}}, {"project": "x"})


def test_a_platform_file_without_pipelines_says_so(tmp_path: Path) -> None:
    path = tmp_path / "platform.yaml"
    parts = dict.fromkeys(("gateway", "controller", "mlflow"), "http://127.0.0.1:9")
    path.write_text(yaml.safe_dump(parts))
    assert read_preset(path).pipelines is None
    with pytest.raises(InvalidInput, match="pipelines is missing"):
        submit(str(tmp_path), path)
