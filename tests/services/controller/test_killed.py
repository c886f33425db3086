"""Real processes: the controller killed at every write of a rollout, stopped for long at the worst
moment, canaries ended under load, long answers under way while their process is replaced.

Real: supervisor, gateway, controller, journal, files. Faked: the releases are processes of
tests/standins/release_server.py (their runtime is `image`), and `kill -9` comes from within
(tests/standins/mortal_controller.py), since a person's hand is too slow to hit every write.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from proa.embedded.files import read_json, write_json
from proa.embedded.workloads import WorkloadFiles, read_workload
from proa.errors import ProaError
from proa.ledger.journal import Journal
from proa.release.bundle import BundleStore
from proa.release.canonical import digest_file
from proa.release.manifest import check_manifest
from proa.release.reference import ReleaseRef
from tests.processes import free_port, wait_until
from tests.services.controller.platform import SERVER, SmallPlatform
from tests.services.controller.test_rollout import Users, actions

MORTAL = Path(__file__).resolve().parents[2] / "standins" / "mortal_controller.py"


def policy(**changes: Any) -> dict[str, Any]:
    """Margins that a few calls can show, in one place."""
    wide = {"error_margin": 0.7, "latency_ratio": 50, "minimum_units": 20}
    return {"steps": [20, 50], "max_seconds": 60, "warm_seconds": 60, **wide, **changes}


@pytest.fixture
def mortal(small: SmallPlatform) -> Iterator[SmallPlatform]:
    """The platform with a controller that can be told to die."""
    before = read_workload(small.home, "controller")
    assert before is not None
    command = before.template.command
    at = command.index("-m")
    dying = (*command[:at], str(MORTAL), *command[at + 2 :])
    files = WorkloadFiles(small.home)
    files.apply(replace(before, template=replace(before.template, command=dying)))
    wait_until(lambda: small.complete("controller"), deadline=60)
    yield small
    (small.home.root / "mortal.json").unlink(missing_ok=True)
    files.apply(before)
    wait_until(lambda: small.complete("controller"), deadline=60)


class Nurse:
    """Has a dead controller started again without the supervisor's growing patience."""

    def __init__(self, small: SmallPlatform) -> None:
        self.small, self.files = small, WorkloadFiles(small.home)

    def until(self, condition: Any, what: str) -> None:
        def held() -> bool:
            status = self.files.status("controller")
            if status is not None and status.pid is None:
                workload = read_workload(self.small.home, "controller")
                assert workload is not None
                self.files.apply(workload, again=True)
                return False
            try:
                return bool(condition(self.small))
            except (ProaError, httpx.HTTPError):
                return False

        wait_until(held, deadline=240, what=what, every=0.1)


def asked(act: Any) -> None:
    """A wish whose answer never came is asked again; one that was heard is not."""
    try:
        act()
    except ProaError:
        return


def test_kill_9_at_every_write_of_a_rollout_forth_and_back(mortal: SmallPlatform) -> None:
    name, nurse = "mortal", Nurse(mortal)
    first = mortal.champion(name)
    second = mortal.release(name)
    mortal.gate(second)
    told = mortal.home.root / "mortal.json"
    write_json(told, {"model": name, "died": []})

    def is_champion(ref: ReleaseRef, action: str) -> Any:
        def check(small: SmallPlatform) -> bool:
            status = small.fleet.status(name)
            if status["phase"] == "idle" and status["champion"] != str(ref):
                if action == "promoted":
                    asked(lambda: small.promote(second, **policy()))
                else:
                    asked(lambda: small.ask("POST", f"/v1/models/{name}/rollback", {}))
            return bool(
                status["phase"] == "idle" and status["champion"] == str(ref) and status["routed"]
            )

        return check

    with Users(mortal, name, count=2) as users:
        nurse.until(is_champion(second, "promoted"), "promotion")
        nurse.until(is_champion(first, "rolled_back"), "rollback")
        nurse.until(lambda small: small.complete("controller"), "controller")
    died = read_json(told)["died"]
    assert not users.faults
    assert users.answers[str(second)] > 0
    for phase in ("canary 0 False", "canary 0 True", "canary 1 True", "promoting", "returning"):
        assert any(cause.startswith(f"state {phase}") for cause in died), (phase, died)
    assert len([cause for cause in died if cause.startswith(("apply", "delete"))]) >= 3
    assert actions(mortal, name)[4:] == [
        *("created", "judged", "requested", "step", "step_passed", "step", "step_passed"),
        *("promoted", "rollback_requested", "rolled_back"),
    ]
    keys = [line["key"] for line in mortal.fleet.history(name)]
    assert len(keys) == len(set(keys))
    assert Journal(mortal.home.journal).verify() > 0


def test_a_controller_that_is_away_when_the_new_process_takes_over_fails_no_call(
    small: SmallPlatform,
) -> None:
    """Its routes name the old process, which must not end before they are written again."""
    name = "away"
    small.champion(name)
    second = small.release(name)
    small.gate(second)
    files = WorkloadFiles(small.home)
    pid = small.pid("controller")
    with Users(small, name, count=2) as users:
        small.promote(second, **policy(steps=[], warm_seconds=0))
        wait_until(lambda: read_workload(small.home, name).template.release == str(second), 30)
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: files.status(name).release == str(second), deadline=30)
            settle = read_workload(small.home, name).template.settle_seconds
            gone = time.monotonic() + settle + 2
            wait_until(lambda: users.faults or time.monotonic() > gone, deadline=30)
        finally:
            os.kill(pid, signal.SIGCONT)
        small.fleet.settle(name, seconds=60)
        wait_until(lambda: users.answers[str(second)] > 5, deadline=30)
        wait_until(lambda: files.status(name).draining == 0, deadline=30, what="the old one ends")
    assert not users.faults


def test_a_second_controller_is_refused(small: SmallPlatform) -> None:
    command = [sys.executable, "-m", "proa_controller", "--home", str(small.home.root)]
    done = subprocess.run(
        [*command, "--port", str(free_port())], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 5
    assert "another controller writes" in done.stderr
    assert "Traceback" not in done.stderr
    assert small.complete("controller")


@pytest.mark.parametrize("end", ["abort", "rollback", "undo"])
def test_a_canary_that_is_ended_under_load_fails_no_call(small: SmallPlatform, end: str) -> None:
    name = f"ended-by-{end}"
    first = small.champion(name)
    champion = small.release(name)
    small.gate(champion)
    small.promote(champion, **policy(steps=[], warm_seconds=0))
    small.fleet.settle(name, seconds=60)
    new = small.release(name)
    small.gate(new)
    with Users(small, name, count=2) as users:
        small.promote(new, **policy(steps=[50], minimum_units=100_000))
        wait_until(lambda: users.answers[str(new)] > 20, deadline=60)
        if end == "undo":
            small.fleet.undo(name, reason="I say so")
        else:
            small.ask("POST", f"/v1/models/{name}/{end}", {"reason": "seen enough of it"})
        status = small.fleet.settle(name, seconds=60)
        kept = first if end == "undo" else champion
        before = users.answers[str(kept)]
        wait_until(lambda: users.answers[str(kept)] > before + 20, deadline=30)
        challenger = f"{name}-challenger"
        wait_until(lambda: WorkloadFiles(small.home).status(challenger) is None, deadline=30)
    assert status["champion"] == str(kept)
    assert not users.faults


def test_a_streamed_answer_outlives_the_process_that_is_replaced(small: SmallPlatform) -> None:
    """A promotion and a rollback while long answers are under way: each comes whole."""
    name, pieces = "talking", 60
    refs = [language_release(small, name, pieces) for _ in range(2)]
    for ref in refs:
        small.gate(ref)
        if ref is refs[0]:
            small.promote(ref)
            small.fleet.settle(name, seconds=60)
    answers: list[tuple[str, str]] = []
    under_way = threading.Semaphore(0)

    def talk() -> None:
        answers.append(stream(small, name, under_way))

    threads = [threading.Thread(target=talk) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert under_way.acquire(timeout=20)
    small.promote(refs[1], **policy(steps=[], warm_seconds=0))
    small.fleet.settle(name, seconds=60)
    threads.append(threading.Thread(target=talk))
    threads[-1].start()
    assert under_way.acquire(timeout=20)
    small.fleet.rollback(name, reason="taken back while it talks")
    for thread in threads:
        thread.join(60)
    whole = "".join(f"{number} " for number in range(pieces))
    assert answers.count((str(refs[0]), whole)) == 3
    assert answers.count((str(refs[1]), whole)) == 1


def language_release(small: SmallPlatform, name: str, pieces: int) -> ReleaseRef:
    """A language release whose process is the stand-in; its engine is only named."""
    small.versions += 1
    platform = read_json(small.home.platform_file)
    platform["engines"]["standin"] = {
        "url": "http://127.0.0.1:9",
        "key_file": None,
        "base_model": "none",
        "max_model_len": 100,
        "prices": None,
    }
    write_json(small.home.platform_file, platform)
    command = [sys.executable, str(SERVER), "--port", "{port}", "--pieces", str(pieces)]
    engine = {"identity": "standin", "base_model": "none", "revision": "0", "max_model_len": 100}
    folder = small.home.root
    (folder / "words.txt").write_text("words")
    file = {"path": "words.txt", "sha256": digest_file(folder / "words.txt"), "size": 5}
    manifest = check_manifest(
        {
            "name": name,
            "kind": "llm",
            "runtime": {"kind": "image", "python": "3.11", "command": command},
            "llm": {
                "engine": engine,
                "prompt": {"name": f"{name}.system", "version": 1, "path": "words.txt"},
                "context": {"system": 10, "retrieved": 0, "history": 0, "question": 10},
                "tokenizer": "words.txt",
            },
            "parameters": {"number": small.versions},
            "files": [file],
        }
    )
    digest = BundleStore(small.home.bundles).put(manifest, folder)
    ref = ReleaseRef(name, small.versions, digest)
    small.ask("POST", f"/v1/models/{name}/releases", {"release": str(ref), "reason": "test"})
    return ref


def stream(small: SmallPlatform, name: str, under_way: threading.Semaphore) -> tuple[str, str]:
    """One streamed chat: which release answered, and every piece of it."""
    key = small.home.key("admin").read_text().strip()
    text, told = "", False
    with httpx.stream(
        "POST",
        f"{small.fleet.endpoints.gateway}/v1/chat/completions",
        json={"model": name, "stream": True, "messages": [{"role": "user", "content": "talk"}]},
        headers={"authorization": f"Bearer {key}"},
        timeout=60,
    ) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            choices = json.loads(line.removeprefix("data: "))["choices"]
            text += "".join(choice["delta"].get("content", "") for choice in choices)
            if not told:
                told = True
                under_way.release()
        return answer.headers["x-proa-release"], text
