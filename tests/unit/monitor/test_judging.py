"""The judge's worker: what it picks, what it costs, and what survives.

Faked: the judge (a function), the monitor's ingest (a list), and the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from proa.events.check import check_event
from proa.events.event import feedback_event
from proa.exam.scorers import Rating, Rubric
from proa.http.ids import is_id
from proa_monitor import judging
from proa_monitor.judging import JudgeSettings, Judging
from tests.unit.profile.questions import answer, ask, reference

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        return self.moment


class Judge:
    """Says 5 of every answer, and counts."""

    engine, digest = "judge-engine", "sha256:judge"

    def __init__(self, say: Callable[[int], Rating] = lambda _: Rating(5, tokens=300)) -> None:
        self.say, self.asked, self.closed = say, 0, False

    def rate(self, *, rubric: Rubric, question: str, answer: str) -> Rating:
        assert rubric.ask
        assert question
        assert answer
        self.asked += 1
        return self.say(self.asked)

    def close(self) -> None:
        self.closed = True


class World:
    """A worker with an ingest that is a list; `known` are the ids in it."""

    def __init__(self, folder: Path, judge: Judge, **settings: Any) -> None:
        self.stored: list[Any] = []
        self.known: set[str] = set()
        self.clock, self.judge = Clock(), judge
        self.folder, self.settings = folder, JudgeSettings(**settings)

    def worker(self) -> Judging:
        return Judging(
            self.settings,
            self.judge,
            folder=self.folder,
            reference_of=lambda _: reference(),
            known=self.known,
            take=self.take,
            clock=self.clock,
        )

    async def take(self, body: bytes, *, may_replay: bool) -> None:
        event = check_event(orjson.loads(body), size=len(body))
        assert may_replay
        assert is_id(event["id"])
        if event["id"] not in self.known:
            self.known.add(event["id"])
            self.stored.append(event)


def run(
    world: World, work: Callable[[Judging], None], until: Callable[[], bool], recent: Any = ()
) -> Judging:
    """Start a worker, give it work, stop it once `until` holds."""

    async def go() -> Judging:
        worker = world.worker()
        await worker.start(recent)
        work(worker)
        async with asyncio.timeout(10):
            while not until():  # noqa: ASYNC110 - what is waited for sets no event
                await asyncio.sleep(0.005)
        await worker.stop()
        return worker

    return asyncio.run(go())


def answers(count: int, **more: Any) -> list[Any]:
    vectors = ask(2, count)
    return [answer(k, vector=vectors[k], **more) | {"id": f"{k:026d}"} for k in range(count)]


def test_an_answer_is_judged_once_however_often_it_comes(tmp_path: Path) -> None:
    world = World(tmp_path, Judge(), share=1.0)
    events = answers(3)
    worker = run(world, lambda w: w.offer(events * 2), lambda: len(world.stored) == 3)
    assert worker.figures()["judged_total"] == 3
    assert worker.figures()["tokens_today"] == 900
    assert worker.view("python-help") == {"share": 1.0, "judged": 3, "good": 1.0}
    assert worker.view("other") is None
    assert world.judge.closed
    event = next(e for e in world.stored if e["request"] == events[0]["request"])
    assert (event["score"], event["good"], event["judge"]) == (5, True, "judge-engine")
    assert (event["time"], event["release"]) == (events[0]["time"], events[0]["release"])
    assert event["weight"] == 1.0
    assert event["topic"] == int(reference().topics_of(ask(2, 1))[0])
    run(world, lambda w: None, lambda: True, recent=[events])
    assert world.judge.asked == 3


def test_what_waited_at_the_end_is_judged_after_the_next_start(tmp_path: Path) -> None:
    gate = Judge()
    world, events = World(tmp_path, gate, share=1.0), answers(20)
    run(world, lambda w: w.offer(events), lambda: len(world.stored) >= 3)
    left = 20 - len(world.stored)
    assert left
    run(world, lambda _: None, lambda: len(world.stored) == 20, recent=[events])
    assert len({event["request"] for event in world.stored}) == 20


def test_a_share_is_picked_and_weighs_what_it_stands_for(tmp_path: Path) -> None:
    world = World(tmp_path, Judge(), share=0.2)
    events = answers(1500)
    worker = world.worker()
    worker.offer(events[:1500])
    picked = list(worker._queue)
    assert 200 < len(picked) < 420
    assert sum(wanted.weight for wanted in picked) == pytest.approx(1500, rel=0.15)


def test_poor_searches_are_looked_at_more_often(tmp_path: Path) -> None:
    world = World(tmp_path, Judge(), share=0.1)
    poor = {"retrieved": [{"id": "a", "title": "A", "score": 0.1}]}
    events = [e | (poor if k % 2 else {}) for k, e in enumerate(answers(2000))]
    worker = world.worker()
    worker.offer(events)
    poorly = sum(w.event["retrieved"][0]["score"] < 0.2 for w in worker._queue)
    assert poorly > 1.4 * (len(worker._queue) - poorly)


@pytest.mark.parametrize(
    "more", [{"purpose": "gate"}, {"status": 500}, {"refused": True}, {"answer": " "}]
)
def test_what_is_no_answer_to_a_user_is_not_judged(tmp_path: Path, more: dict[str, Any]) -> None:
    worker = World(tmp_path, Judge(), share=1.0).worker()
    worker.offer(answers(5, **more))
    assert not worker._queue


def test_what_a_user_called_bad_is_always_judged_and_weighs_nothing(tmp_path: Path) -> None:
    world, events = World(tmp_path, Judge(), share=0.0001), answers(50)
    thumbs = [
        feedback_event(model="python-help", kind="llm", request=e["request"], value=v)
        for e, v in zip(events, [-1] * 5 + [1] * 45, strict=True)
    ]
    run(world, lambda w: w.offer([*events, *thumbs]), lambda: len(world.stored) >= 5)
    bad = {e["request"] for e in events[:5]}
    assert {e["request"] for e in world.stored if e["weight"] == 0} == bad


def test_the_budget_stops_it_loudly_until_tomorrow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "_LONGEST_PAUSE", 0.01)
    world, events = World(tmp_path, Judge(), share=1.0, tokens_per_day=1000), answers(8)

    def spent(worker: Judging) -> bool:
        return worker.figures()["budget_spent"] == 1.0

    workers: list[Judging] = []

    def work(worker: Judging) -> None:
        workers.append(worker)
        worker.offer(events)

    run(world, work, lambda: spent(workers[0]))
    assert len(world.stored) == 3
    assert "judging stops until tomorrow" in caplog.text
    run(world, work, lambda: spent(workers[1]))  # a new process knows what the day has cost
    assert len(world.stored) == 3
    world.clock.moment = NOW.replace(day=22)
    run(world, work, lambda: len(world.stored) == 6)


def test_a_reply_that_is_no_score_is_kept_as_that(tmp_path: Path) -> None:
    world = World(tmp_path, Judge(lambda _: Rating(None, "not JSON: 'well'", 280)), share=1.0)
    worker = run(world, lambda w: w.offer(answers(2)), lambda: len(world.stored) == 2)
    assert (world.stored[0]["good"], world.stored[0]["why"]) == (None, "not JSON: 'well'")
    assert worker.figures()["unread_total"] == 2


def test_an_engine_that_is_away_is_asked_again_and_then_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "_PAUSE", 0.001)
    away = Rating(None, "the engine did not answer", asked=False)
    judge = Judge(lambda number: away if number <= 6 else Rating(2, tokens=10))
    world = World(tmp_path, judge, share=1.0)
    worker = run(world, lambda w: w.offer(answers(2)), lambda: len(world.stored) == 1)
    assert judge.asked == 7
    assert worker.figures()["failed_total"] == 1
    assert world.stored[0]["good"] is False


def test_more_than_it_can_hold_is_counted(tmp_path: Path) -> None:
    worker = World(tmp_path, Judge(), share=1.0).worker()
    worker.offer(answers(520))
    assert worker.figures()["skipped_total"] == 20
    assert worker.figures()["queued"] == 500


def test_a_disk_that_refuses_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "_PAUSE", 0.001)
    world = World(tmp_path, Judge(), share=1.0)
    fails, store = iter([True, False, False]), world.take

    async def take(body: bytes, *, may_replay: bool) -> None:
        if next(fails):
            raise OSError("no space left on device")
        await store(body, may_replay=may_replay)

    monkeypatch.setattr(world, "take", take)
    worker = run(world, lambda w: w.offer(answers(3)), lambda: len(world.stored) == 2)
    assert worker.figures()["failed_total"] == 1
