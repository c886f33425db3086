"""A gate that is killed, a slot that is lost, MLflow that is down: no verdict is lost.

Real: supervisor, gateway, controller, the command line as a process of its own, `kill -9`. Faked:
the releases (`tests/standins/rows_server.py`), which write down what they were asked.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proa.embedded.parts import static_workloads
from proa.embedded.platform_file import read_platform
from proa.errors import Conflict, NotFound, Refused
from proa.exam.exam import Exam, load
from proa.exam.runner import BATCH
from proa.fleet import Fleet
from proa.fleet.slot import HeldSlot
from proa.release.bundle import BundleStore
from proa.release.manifest import check_manifest
from proa.release.reference import ReleaseRef
from tests.processes import Processes, wait_until
from tests.services.controller.platform import SmallPlatform

SERVER = Path(__file__).resolve().parents[2] / "standins" / "rows_server.py"
ROWS = 8 * BATCH
PROJECT = """\
version: 1
name: {name}
kind: classic
task: binary
data: {{ingest: rows:build, time: at, label: late, train: {{start: 2013-01-01, end: 2013-02-01}}}}
train: {{function: rows:build}}
exam: exam.yaml
"""
EXAM = """\
version: 1
unit: day
data: {path: rows.jsonl}
primary: {metric: roc_auc, margin: 0.02, higher_is_better: true}
floors: [{metric: roc_auc, min: 0.65}]
bootstrap: {resamples: 300}
"""


def rows() -> Iterator[dict[str, Any]]:
    for n in range(ROWS):
        x = (n * 7919 % 1000) / 1000
        late = int((n * 104729 % 997) / 997 < x)
        yield {"id": f"r{n}", "unit": f"d{n % 14}", "label": late, "inputs": {"x": x, "n": n}}


@dataclass
class World:
    """A platform with one model per test, whose exams take about half a second a side."""

    small: SmallPlatform
    folder: Path
    made: dict[str, int] = field(default_factory=dict)

    @property
    def fleet(self) -> Fleet:
        """The fleet with its home, as the command line has it."""
        if self.small.fleet.home is None:
            self.small.fleet.home = self.small.home
        return self.small.fleet

    def project(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "proa.yaml").write_text(PROJECT.format(name=name))
        (folder / "exam.yaml").write_text(EXAM)
        (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows())))
        return folder

    def exam(self, name: str) -> Exam:
        return load(self.project(name))

    def release(self, name: str, *options: str) -> ReleaseRef:
        self.made[name] = self.made.get(name, 0) + 1
        number = self.made[name]
        argv = [sys.executable, str(SERVER), "--port", "{port}", "--log", str(self.log(name))]
        manifest = check_manifest(
            {
                "name": name, "kind": "classic", "parameters": {"number": number},
                "runtime": {"kind": "image", "python": "3.11", "command": [*argv, *options]},
                "classic": {"task": "binary", "model": "model", "columns": []},
            }
        )  # fmt: skip
        digest = BundleStore(self.small.home.bundles).put(manifest, self.small.home.root)
        ref = ReleaseRef(name, number, digest)
        body = {"release": str(ref), "reason": "test"}
        self.small.ask("POST", f"/v1/models/{name}/releases", body)
        return ref

    def champion(self, name: str) -> ReleaseRef:
        ref = self.release(name)
        assert self.fleet.gate(ref, self.exam(name)).value == "pass"
        self.small.promote(ref)
        assert self.fleet.settle(name, seconds=60)["champion"] == str(ref)
        return ref

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def asked(self, name: str, ref: ReleaseRef) -> Counter[int]:
        """How often each row was asked of a release in a batch."""
        lines = self.log(name).read_text().splitlines() if self.log(name).exists() else []
        found: Counter[int] = Counter()
        for line in map(json.loads, lines):
            if line["release"] == str(ref) and len(line["rows"]) > 1:
                found.update(line["rows"])
        return found

    def cli(self, *words: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "proa.cli", "--home", str(self.small.home.root), *words]
        argv[1:3] = ["-c", "from proa.cli import main; main()"]
        return subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder
        )

    def judged(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.fleet.history(name) if line["action"] == "judged"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    small = SmallPlatform.start()
    yield World(small, tmp_path_factory.mktemp("gates"))
    small.stop()


def test_a_killed_gate_goes_on_and_comes_to_the_same_verdict(world: World) -> None:
    champion = world.champion("boats")
    candidate = world.release("boats", "--noise", "0.02", "--delay-ms", "120")
    gate = world.cli("gate", str(candidate), "--exam", str(world.project("boats")))
    wait_until(lambda: len(world.asked("boats", candidate)) >= 3 * BATCH, 60, what="three batches")
    gate.kill()
    assert gate.wait(10) == -signal.SIGKILL
    gate.communicate()
    assert world.fleet.status("boats")["phase"] == "gating", "the dead gate's slot"
    before = world.asked("boats", candidate)
    kept = next(world.small.home.exams.glob("boats-*.answers"))
    answered = kept.read_text().count("row:r")
    assert BATCH <= answered < ROWS

    again = world.cli("gate", str(candidate), "--exam", str(world.project("boats")))
    said, notes = again.communicate(timeout=90)
    assert again.returncode == 0, notes
    assert f"{answered:,} answers are kept" in notes
    assert said.splitlines()[-1].startswith("pass: roc_auc ")
    after = world.asked("boats", candidate)
    assert (after - before).total() == ROWS - answered, "only the rest"
    assert set(after) == set(range(ROWS))
    assert world.fleet.status("boats")["phase"] == "idle"
    assert not kept.exists(), "discarded after the verdict"

    resumed = world.fleet.verdict(candidate)
    whole = world.fleet.gate(candidate, world.exam("boats"))
    assert resumed.verdict["checks"] == whole.to_json()["checks"], "values and intervals"
    assert resumed.evidence is not None
    other = world.fleet.verdict(candidate).evidence
    assert other is not None
    for side in ("candidate_results", "champion_results"):
        assert _answers(resumed.evidence[side]) == _answers(other[side])
    assert resumed.evidence["champion"] == champion.digest


def _answers(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: item[key] for key in item if key != "latency_ms"} for item in results]


def test_a_gate_killed_after_its_verdict_was_written_repeats_nothing(world: World) -> None:
    """The answer of the controller is lost: the same slot and evidence make the same line."""
    candidate = world.release("barks")
    exam = world.exam("barks")
    sent: list[Any] = []
    real = world.fleet._controller

    def broken(method: str, path: str, body: Any = None) -> Any:
        if method == "DELETE":
            raise KeyboardInterrupt  # as if it were killed before it could give the slot back
        answer = real(method, path, body)
        if path.endswith("/verdicts"):
            sent.append(answer)
            raise KeyboardInterrupt
        return answer

    world.fleet._controller = broken  # type: ignore[method-assign]
    try:
        with pytest.raises(KeyboardInterrupt):
            world.fleet.gate(candidate, exam)
    finally:
        world.fleet._controller = real  # type: ignore[method-assign]
    assert len(sent) == 1
    asked = world.asked("barks", candidate)
    verdict = world.fleet.gate(candidate, exam)
    assert world.asked("barks", candidate) == asked, "nothing was asked again"
    assert verdict.evidence == sent[0]["evidence"]
    assert len(world.judged("barks")) == 1


def test_a_second_gate_is_refused_while_the_first_one_lives(world: World) -> None:
    candidate = world.release("dhows", "--delay-ms", "120")
    gate = world.cli("gate", str(candidate), "--exam", str(world.project("dhows")))
    try:
        wait_until(lambda: world.asked("dhows", candidate), 60, what="the first batch")
        with pytest.raises(Conflict, match="another gate of the same release runs"):
            world.fleet.gate(candidate, world.exam("dhows"))
        other = world.release("dhows")
        with pytest.raises(Conflict, match=r"cannot gate dhows/2: dhows is gating with dhows/1"):
            world.fleet.gate(other, world.exam("dhows"))
    finally:
        _, notes = gate.communicate(timeout=60)
    assert gate.returncode == 0, notes


def test_a_gate_that_lost_its_slot_stops_asking(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr("proa.fleet.slot.BEAT_SECONDS", 0.05)
    candidate = world.release("junks", "--delay-ms", "120")
    exam = world.exam("junks")

    def lose(side: str, done: int, total: int) -> None:
        slot = world.small.home.rollout("junks")
        held = json.loads(slot.read_text())["slot"]
        if held:
            world.small.ask("DELETE", f"/v1/models/junks/gate/{held}")

    with pytest.raises(Conflict, match="the gate lost the challenger slot"):
        world.fleet.gate(candidate, exam, progress=lose)
    assert len(world.asked("junks", candidate)) < ROWS
    assert world.judged("junks") == []
    assert world.fleet.gate(candidate, exam).value == "pass", "it goes on with what it has"
    assert max(world.asked("junks", candidate).values()) == 1


def test_a_slot_is_kept_by_signs_of_life_and_had_back_by_its_name(world: World) -> None:
    candidate = world.release("yawls")
    ask = world.fleet._controller
    with HeldSlot(ask, candidate, None) as slot:
        ask("PUT", f"/v1/models/yawls/gate/{slot.id}", {})
        with pytest.raises(Conflict) as error:
            ask("PUT", "/v1/models/yawls/gate/other", {})
        assert error.value.code == "slot_lost"
        again = ask("POST", "/v1/models/yawls/gate", {"release": str(candidate), "slot": slot.id})
        assert again["slot"] == slot.id
        body = {"release": str(candidate), "slot": "other"}
        with pytest.raises(Conflict, match="yawls is gating"):
            ask("POST", "/v1/models/yawls/gate", body)
    assert world.fleet.status("yawls")["phase"] == "idle"


def test_a_budget_is_refused_before_anything_is_asked(world: World) -> None:
    candidate = world.release("ketch")
    words = ("gate", str(candidate), "--exam", str(world.project("ketch")))
    refused = world.cli(*words, "--budget", "0.001")
    _, notes = refused.communicate(timeout=60)
    assert refused.returncode == Refused.exit_code
    assert "would cost about 0.0022 USD, the budget is 0.001" in notes
    assert not world.asked("ketch", candidate)
    assert world.fleet.status("ketch")["phase"] == "idle"
    done = world.cli(*words, "--budget", "0.001", "--yes")
    _, notes = done.communicate(timeout=60)
    assert done.returncode == 0, notes
    assert "cost: 108 questions, about 0.0022 USD" in notes


def test_a_verdict_is_read_again_without_asking(world: World) -> None:
    world.champion("prams")
    candidate = world.release("prams", "--noise", "4")
    with pytest.raises(NotFound, match="prams/2 was never judged"):
        world.fleet.verdict(candidate)
    gate = world.cli("gate", str(candidate), "--exam", str(world.project("prams")), "--explain")
    said, notes = gate.communicate(timeout=60)
    assert gate.returncode == Refused.exit_code
    page = world.folder / "build" / "verdict" / "prams-2" / "verdict.html"
    assert "page: build/verdict/prams-2/verdict.html" in notes
    assert "rows that cost most (log loss" in said
    assert "prams/2" in page.read_text()
    asked = world.asked("prams", candidate)
    target = world.folder / "x" / "v.html"
    read = world.cli("verdict", str(candidate), "--explain", "--html", str(target))
    again, _ = read.communicate(timeout=60)
    assert read.returncode == 0
    assert [line for line in again.splitlines() if line.startswith("fail: ")] == [
        line for line in said.splitlines() if line.startswith("fail: ")
    ]
    assert "Rows that cost most" in target.read_text()
    assert "prams/1" in target.read_text()
    assert world.asked("prams", candidate) == asked
    as_json = world.cli("verdict", str(candidate), "--json")
    value = json.loads(as_json.communicate(timeout=60)[0])
    assert value["line"]["details"]["value"] == "fail"


def test_evidence_of_another_name_is_not_read(world: World) -> None:
    for name in ("sha256:" + "0" * 64, "..%2f..%2fkeys%2fadmin.key", "sha256:xyz"):
        with pytest.raises(NotFound):
            world.small.ask("GET", f"/v1/evidence/{name}")


def test_mlflow_that_is_down_loses_no_verdict_and_gets_it_later(
    world: World, processes: Processes
) -> None:
    """The last test: this platform has no MLflow before."""
    from mlflow import MlflowClient

    first = world.release("sloop")
    told: list[str] = []
    verdict = world.fleet.gate(first, world.exam("sloop"), say=told.append)
    assert world.judged("sloop")[-1]["details"]["value"] == verdict.value == "pass"
    assert any("MLflow did not take the exam of sloop/1" in line for line in told)
    waiting = list(world.small.home.exams.glob("*.unlogged.json"))
    mine = {"release": str(first), "evidence": verdict.evidence}
    assert mine in [json.loads(path.read_text()) for path in waiting]

    platform = read_platform(world.small.home)
    workloads = static_workloads(world.small.home, platform.ports)
    template = next(one.template for one in workloads if one.name == "mlflow")
    processes.start(
        [part.replace("{host}", "127.0.0.1") for part in template.command], template.env,
        ready=template.ready, port=int(platform.urls["mlflow"].rpartition(":")[2]), deadline=180,
    )  # fmt: skip
    second = world.fleet.gate(world.release("sloop"), world.exam("sloop"), say=told.append)
    assert list(world.small.home.exams.glob("*.unlogged.json")) == []
    client = MlflowClient(tracking_uri=world.fleet.endpoints.mlflow)
    experiment = client.get_experiment_by_name("sloop")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.data.tags["proa.evidence"] for run in runs} == {
        verdict.evidence, second.evidence,
    }  # fmt: skip
    assert {run.info.status for run in runs} == {"FINISHED"}
    (dataset,) = client.search_datasets(experiment_ids=[experiment.experiment_id])
    assert dataset.tags["proa.exam"] == verdict.exam
