"""Runs as child processes: started once, found again, started anew when they die, shown when they
fail.

Faked: the pipeline, by a script that notes each start and then does as its order says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proa.embedded.files import write_json
from proa.embedded.home import Home
from proa.errors import NotFound
from proa_controller.process_runs import ProcessRuns
from proa_controller.runs import Look, Order
from tests.processes import wait_until

RUN = "1-abcd/1"
PIPELINE = """
import json, os, pathlib, subprocess, sys, time
words = sys.argv
result = pathlib.Path(words[words.index("--result") + 1])
sets = dict(words[n + 1].split("=", 1) for n, word in enumerate(words) if word == "--set")
pathlib.Path(sets["note"]).open("a").write(json.dumps({
    "pid": os.getpid(), "words": words[1:], "key": os.environ.get("PROA_KEY"),
    "secret": os.environ.get("SECRET_TOKEN")}) + "\\n")
if sets["do"] == "wait":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pathlib.Path(sets["note"]).with_name("child").write_text(str(child.pid))
    time.sleep(600)
if sets["do"] == "die":
    print("no space left", file=sys.stderr, flush=True)
    os.kill(os.getpid(), 9)
if sets["do"] == "away":
    error = {"message": "MLflow is away", "type": "unavailable"}
    result.write_text(json.dumps({"error": error}))
    raise SystemExit(8)
if sets["do"] == "fail":
    result.write_text(json.dumps({"error": {"message": "late is missing"}, "log": "/a/log"}))
    raise SystemExit(2)
result.write_text(json.dumps({"release": "m/2", "reason": "4 checks passed"}))
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.create()
    home.key("pipelines").write_text("the-key-of-pipelines\n")
    write_json(home.projects / "m.json", {"folder": "/projects/m"})
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    return home


@pytest.fixture
def runs(home: Home) -> Iterator[Callable[[], ProcessRuns]]:
    """`runs()` is what the next controller has."""
    made: list[ProcessRuns] = []

    def make() -> ProcessRuns:
        command = (sys.executable, str(home.root.parent / "pipeline.py"))
        made.append(ProcessRuns(home, command, again_seconds=0.2))
        return made[-1]

    yield make
    last = make()
    last.look("m", RUN)
    last.close()


def order(home: Home, do: str) -> Order:
    sets = {"do": do, "note": str(home.root / "notes")}
    return Order("m", RUN, sets, {"cause": "quality: off [retraining 1-abcd/1]"})


def notes(home: Home) -> list[dict[str, object]]:
    import json

    path = home.root / "notes"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def alive(pid: object) -> bool:
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rpartition(")")[2].split()[0] != "Z"


def ended(runs: ProcessRuns) -> Look:
    wait_until(lambda: runs.look("m", RUN).word == "ended", 20)
    return runs.look("m", RUN)


def test_a_run_is_started_once_with_its_own_key_and_its_result_is_read(
    home: Home, runs: Callable[[], ProcessRuns], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "not for children")
    one = runs()
    assert one.look("m", RUN) == Look("absent")
    for _ in range(3):
        one.start(order(home, "pass"))
    assert ended(one) == Look("ended", "4 checks passed")
    one.start(order(home, "pass"))
    (note,) = notes(home)
    assert (note["key"], note["secret"]) == ("the-key-of-pipelines", None)
    assert isinstance(note["words"], list)
    assert note["words"][:6] == ["run", "/projects/m", "--home", str(home.root), "--until", "gate"]
    assert "cause=quality: off [retraining 1-abcd/1]" in note["words"]
    assert "the-key-of-pipelines" not in str(note["words"])


def test_the_next_controller_finds_it_and_a_stopped_one_ends_it(
    home: Home, runs: Callable[[], ProcessRuns]
) -> None:
    runs().start(order(home, "wait"))
    child = home.root / "child"
    wait_until(child.exists, 20)
    wait_until(lambda: bool(child.read_text()), 20)
    after_a_kill = runs()
    assert after_a_kill.look("m", RUN) == Look("running")
    after_a_kill.start(order(home, "wait"))
    assert len(notes(home)) == 1
    after_a_kill.close()
    assert not alive(notes(home)[0]["pid"])
    wait_until(lambda: not alive(child.read_text()), 20)
    next_one = runs()
    for _ in range(5):  # being stopped is no fault of the run
        assert next_one.look("m", RUN) == Look("absent")
        next_one.start(order(home, "wait"))
        assert next_one.look("m", RUN) == Look("running")
        next_one.close()


def test_a_run_that_dies_is_started_again_twice_and_then_says_its_last_words(
    home: Home, runs: Callable[[], ProcessRuns]
) -> None:
    one = runs()
    for count in (1, 2, 3):
        assert one.look("m", RUN).word == "absent"
        one.start(order(home, "die"))
        wait_until(lambda count=count: len(notes(home)) == count, 20)  # type: ignore[misc]
        wait_until(lambda: one.look("m", RUN).word != "running", 20)
    said = one.look("m", RUN)
    assert said.word == "ended"
    assert "3 times; it said last:" in said.said
    assert "no space left" in said.said


def test_what_a_failed_run_said_is_shown(home: Home, runs: Callable[[], ProcessRuns]) -> None:
    one = runs()
    one.start(order(home, "fail"))
    assert ended(one).said == "late is missing (its log: /a/log)"


def test_what_met_a_part_that_was_away_is_tried_again_after_a_while(
    home: Home, runs: Callable[[], ProcessRuns]
) -> None:
    one = runs()
    for count in (1, 2, 3):
        wait_until(lambda: one.look("m", RUN).word == "absent", 20)
        one.start(order(home, "away"))
        wait_until(lambda count=count: len(notes(home)) == count, 20)  # type: ignore[misc]
    assert ended(one).said.startswith("MLflow is away")
    patient = ProcessRuns(home, again_seconds=600)
    (home.root / "retraining" / "m" / "1-abcd-1" / "starts").write_text("1")
    assert patient.look("m", RUN).word == "running"


def test_without_a_project_nothing_is_started(home: Home, runs: Callable[[], ProcessRuns]) -> None:
    (home.projects / "m.json").unlink()
    with pytest.raises(NotFound, match="no project of m is known on this machine"):
        runs().start(order(home, "pass"))
    assert runs().look("m", RUN) == Look("absent")
