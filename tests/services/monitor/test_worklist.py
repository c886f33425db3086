"""From a thumb down to the worklist, through a real monitor that is killed on the way; and what a
person makes of it."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from proa.errors import Conflict, InvalidInput, Unavailable
from proa.events.event import feedback_event, label_event
from proa.fleet.worklist import add_task, task_of
from proa.http.ids import new_id
from proa.ledger.worklist import Worklist
from proa_controller.findings import MonitorFindings
from proa_controller.worklist import Collector
from tests.services.monitor.monitored import Home, Monitor, answer_of

MODELS: Any = SimpleNamespace(language_models=lambda: ["python-help"])


def test_a_bad_answer_is_one_item_whatever_is_killed(
    monitor: Monitor, home: Home, tmp_path: Path
) -> None:
    pick, requests = random.Random(3), [new_id() for _ in range(6)]
    answers = [answer_of(home, pick, request=request, shown=2) for request in requests]
    monitor.take(answers)
    down = [feedback_event(model="python-help", kind="llm", request=r, value=-1, comment="no")
            for r in requests[:3]]  # fmt: skip
    up = feedback_event(model="python-help", kind="llm", request=requests[4], value=1)
    monitor.take([*down, up])
    worklist = Worklist(tmp_path / "worklist.db")

    def look() -> None:
        with closing(MonitorFindings(monitor.url, home.keys["read"])) as asks:
            Collector(MODELS, asks, worklist, 1.0).look()

    look()
    assert {item.body["request"] for item in worklist.items("python-help")} == set(requests[:3])
    late = label_event(model="python-help", kind="llm", request=requests[5], value="wrong")
    monitor.take([late, *down])
    monitor.kill()
    look()  # nobody answers: nothing happens
    monitor.start()
    for _ in range(2):
        look()
    items = {item.body["request"]: item for item in worklist.items("python-help")}
    assert set(items) == {*requests[:3], requests[5]}
    first = items[requests[0]]
    assert [signal["why"] for signal in first.body["signals"]] == ["no"]
    assert first.body["question"] == answers[0]["question"]
    assert [passage["id"] for passage in first.body["retrieved"]] == ["d0", "d1"]
    with (
        closing(MonitorFindings(monitor.url, home.keys["call"])) as asks,
        pytest.raises(Unavailable, match="answered 403"),
    ):
        asks.ask("/v1/models/m/bad", {})
    worklist.close()


def item(**more: Any) -> dict[str, Any]:
    return {"id": "abc", "question": "what is a list?", "signals": [], **more}


def test_an_item_becomes_a_task_that_people_review(tmp_path: Path) -> None:
    file = tmp_path / "dev.jsonl"
    file.write_bytes(b'{"id": "one", "suite": "answer", "question": "q", "expect": {"exact": "a"}}')
    task = task_of(item(), suite="answer", contains=["mutable"])
    assert add_task(task, file)
    assert not add_task(task, file)
    lines = [orjson.loads(line) for line in file.read_text().splitlines()]
    assert lines[1] == {
        "id": "item-abc",
        "suite": "answer",
        "question": "what is a list?",
        "expect": {"contains": ["mutable"]},
    }
    with pytest.raises(Conflict, match="has another task item-abc in line 2"):
        add_task(task_of(item(), suite="answer", refuses=True), file)
    with pytest.raises(InvalidInput, match="nobody said what the right answer is"):
        task_of(item(), suite="answer")
    told = {"kind": "label", "value": "A list is a mutable sequence."}
    named = task_of(item(signals=[told]), suite="answer").expect.similarity
    assert named is not None
    assert named.to == told["value"]
