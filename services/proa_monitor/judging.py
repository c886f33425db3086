"""A language model judges a share of the answers, within a budget of tokens, off every hot path.

Which answers: a hash of the request decides, so that a restart picks them again. Each is picked
with a probability of its own: more for topics seldom asked about and for answers whose retrieval
found little, and its judgement weighs one over that probability, so that shares are of the
traffic. What a user called bad is judged always, with weight 0.

A judgement is an event like any other, stored by the monitor's own ingest, with an id made from
what is judged and how: however often it is tried, it counts once. When the day's budget is spent
nothing more is asked until the next day (UTC), and log and `/metrics` say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import orjson

from proa.errors import ProaError
from proa.events.event import Event, judgement_event
from proa.exam.scorers import Rating, Rubric
from proa.http.clock import Clock
from proa.profile.embedding import decode_vectors
from proa.profile.language import opinion_of
from proa.profile.language_reference import LanguageReference

__all__ = ["NAME", "RUBRIC", "JudgeSettings", "Judging", "Rates"]

NAME: Final = "helpful"
RUBRIC: Final = Rubric(
    ask="The answer answers the question that was asked, is right, and makes nothing up.", min=4
)
_QUEUE: Final = 500
_HELD: Final = 2_000
"""Answers remembered for feedback that may still come."""
_TEXT: Final = 3_000
"""Characters of a question and of an answer that are kept; the judge reads no more."""
_LOW_SCORE: Final = 0.35
"""A best cosine below this is a search that found little."""
_BOOST: Final = 4.0
"""At most this much more often, and this much less, than the share says."""
_TRIES: Final = 4
_PAUSE: Final = 2.0
_LONGEST_PAUSE: Final = 60.0
_CHARACTERS_PER_TOKEN: Final = 3
_FRAME_TOKENS: Final = 250
_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_log = logging.getLogger(__name__)

Take = Callable[..., Awaitable[Any]]


class Rates(Protocol):
    """Who judges: `proa.exam.judge.EngineJudge`."""

    engine: str

    @property
    def digest(self) -> str: ...

    def rate(self, *, rubric: Rubric, question: str, answer: str) -> Rating: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """Settings of the process.

    Attributes:
        share: of the answers, 0 … 1, that are judged.
        tokens_per_day: spent at most on a day in UTC, in and out together.
    """

    share: float = 0.05
    tokens_per_day: int = 200_000


@dataclass(frozen=True, slots=True)
class _Wanted:
    event: Event
    topic: int | None
    weight: float


class Judging:
    """Picks answers, has them judged one after the other, and stores what comes of it.

    Args:
        judge: asked in a thread; closed at the end.
        folder: where `judging.json` keeps what today has cost.
        reference_of: a release's language reference, None when it has none or is not known yet.
        known: ids of events that are stored.
        take: `Ingest.take`.
    """

    def __init__(
        self,
        settings: JudgeSettings,
        judge: Rates,
        *,
        folder: Path,
        reference_of: Callable[[str], LanguageReference | None],
        known: Container[str],
        take: Take,
        clock: Clock,
    ) -> None:
        self.settings, self._judge, self._clock = settings, judge, clock
        self._reference_of, self._known, self._take = reference_of, known, take
        self._file = folder / "judging.json"
        self._queue: deque[_Wanted] = deque()
        self._queued: set[str] = set()
        self._more = asyncio.Event()
        self._recent: OrderedDict[str, tuple[Event, int | None]] = OrderedDict()
        self._topics: dict[str, Counter[int | None]] = {}
        self._day, self._spent = self._saved()
        self._said_spent = ""
        self._task: asyncio.Task[None] | None = None
        self.counts: Counter[str] = Counter()
        """`judged`, `unread` (a reply that is no score), `skipped` (queue full), `failed`."""
        self._judged: Counter[tuple[str, bool]] = Counter()

    async def start(self, recent: Iterable[list[Event]] = ()) -> None:
        """Queue what of `recent` was picked and not judged before the last end, then work."""
        for events in recent:
            self.offer(events)
            await asyncio.sleep(0)
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Stop at once: what is queued is picked again at the next start."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.to_thread(self._judge.close)

    def offer(self, events: Iterable[Event]) -> None:
        """Look at stored events; never waits, and no event's content makes it fail."""
        for event in events:
            if event["kind"] != "llm":
                continue
            try:
                if event["type"] == "answer":
                    self._look_at(event)
                elif event["type"] == "feedback" and opinion_of(event["value"]) is False:
                    self._look_again(event["request"])
            except Exception:
                self.counts["failed"] += 1
                _log.exception("an event of %s could not be looked at", event["model"])

    def view(self, model: str) -> dict[str, Any] | None:
        """What the page shows: `share` that is judged, `judged` answers of a model since the start
        of this process, of which `good`; None before the first."""
        good, bad = self._judged[model, True], self._judged[model, False]
        if not good + bad:
            return None
        return {"share": self.settings.share, "judged": good + bad, "good": good / (good + bad)}

    def figures(self) -> dict[str, float]:
        """Numbers for `/metrics`: totals of this process, and how today stands."""
        today = self._spent if self._day == self._today() else 0
        return {
            **{f"{name}_total": float(self.counts[name]) for name in
               ("judged", "unread", "skipped", "failed")},
            "tokens_today": float(today),
            "tokens_per_day": float(self.settings.tokens_per_day),
            "budget_spent": float(self._said_spent == self._today()),
            "queued": float(len(self._queue)),
        }  # fmt: skip

    def _look_at(self, event: Event) -> None:
        """Pick an answer, or remember it for feedback."""
        if event["purpose"] != "user" or event["status"] >= 400 or event["refused"]:
            return
        if not event["answer"].strip() or not event["release"]:
            return
        short = {
            **event,
            "question": event["question"][:_TEXT],
            "answer": event["answer"][:_TEXT],
        }
        topic = self._topic(event)
        probability = self._probability(event, topic)
        self._recent[event["request"]] = short, topic
        if len(self._recent) > _HELD:
            self._recent.popitem(last=False)
        if _draw(event["request"]) < probability:
            self._put(_Wanted(short, topic, 1 / probability))

    def _look_again(self, request: str) -> None:
        """A user called this answer bad: judge it, whatever the hash said."""
        held = self._recent.get(request)
        if held is not None:
            self._put(_Wanted(held[0], held[1], 0.0))

    def _put(self, wanted: _Wanted) -> None:
        judgement = self._id(wanted.event)
        if judgement in self._queued or judgement in self._known:
            return
        if len(self._queue) >= _QUEUE:
            self.counts["skipped"] += 1
            return
        self._queue.append(wanted)
        self._queued.add(judgement)
        self._more.set()

    def _topic(self, event: Event) -> int | None:
        given, reference = event.get("embeddings"), self._reference_of(event["release"])
        if reference is None or not given or given.get("embedder") != reference.embedder:
            return None
        vectors = decode_vectors([given.get("question") or ""], reference.dimension)
        return int(reference.topics_of(vectors)[0]) if len(vectors) else None

    def _probability(self, event: Event, topic: int | None) -> float:
        """The share, more for a topic that is rare among those seen, and for a poor search."""
        seen = self._topics.setdefault(event["release"], Counter())
        seen[topic] += 1
        if self.settings.share >= 1:
            return 1.0
        # Of k topics in n answers each would have n / k: the root halves the distance to that.
        even = seen.total() / len(seen) / seen[topic]
        boost = math.sqrt(even)
        passages = event["retrieved"]
        score = passages[0].get("score") if passages else None
        if isinstance(score, (int, float)) and score < _LOW_SCORE:
            boost *= 2
        return min(1.0, self.settings.share * min(_BOOST, max(1 / _BOOST, boost)))

    async def _work(self) -> None:
        while True:
            self._more.clear()
            if not self._queue:
                await self._more.wait()
                continue
            wanted = self._queue[0]
            if not self._affordable(wanted):
                await asyncio.sleep(_LONGEST_PAUSE)
                continue
            try:
                await self._judge_one(wanted)
            except (ProaError, OSError) as error:
                self.counts["failed"] += 1
                _log.warning("a judgement could not be stored: %s", error)
                await asyncio.sleep(_PAUSE)
            except Exception:
                self.counts["failed"] += 1
                _log.exception("judging failed; it goes on")
            self._queue.popleft()
            self._queued.discard(self._id(wanted.event))

    async def _judge_one(self, wanted: _Wanted) -> None:
        event = wanted.event
        rating = await self._rated(event)
        if not rating.asked:
            self.counts["failed"] += 1
            _log.warning("the judge %s cannot be asked: %s", self._judge.engine, rating.why)
            return
        tokens = rating.tokens or self._estimate(event)
        self._spend(tokens)
        good = None if rating.score is None else rating.score >= RUBRIC.min
        judgement = judgement_event(
            event,
            event_id=self._id(event),
            name=NAME,
            score=rating.score,
            good=good,
            judge=self._judge.engine[:256],
            digest=self._judge.digest,
            weight=wanted.weight,
            tokens=tokens,
            topic=wanted.topic,
            why=rating.why[:200] or None,
        )
        await self._take(orjson.dumps(judgement), may_replay=True)
        self.counts["unread" if good is None else "judged"] += 1
        if good is not None:
            self._judged[event["model"], good] += 1

    async def _rated(self, event: Event) -> Rating:
        """Ask, and ask again while the engine cannot be reached."""
        pause, question, answer = _PAUSE, event["question"], event["answer"]
        rating = Rating(None, asked=False)
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(pause)
                pause = min(pause * 4, _LONGEST_PAUSE)
            rating = await asyncio.to_thread(
                self._judge.rate, rubric=RUBRIC, question=question, answer=answer
            )
            if rating.asked:
                break
        return rating

    def _affordable(self, wanted: _Wanted) -> bool:
        today = self._today()
        if self._day != today:
            self._day, self._spent = today, 0
        if self._spent + self._estimate(wanted.event) <= self.settings.tokens_per_day:
            return True
        if self._said_spent != today:
            self._said_spent = today
            _log.error(
                "judging stops until tomorrow (UTC): %d of %d tokens are spent, %d answers wait",
                self._spent, self.settings.tokens_per_day, len(self._queue),
            )  # fmt: skip
        return False

    def _estimate(self, event: Event) -> int:
        size = len(event["question"]) + len(event["answer"])
        return _FRAME_TOKENS + size // _CHARACTERS_PER_TOKEN

    def _spend(self, tokens: int) -> None:
        self._spent += tokens
        fresh = self._file.with_suffix(".tmp")
        try:
            fresh.write_bytes(orjson.dumps({"day": self._day, "tokens": self._spent}))
            fresh.replace(self._file)
        except OSError as error:  # a full disk: the budget still holds in this process
            _log.error("what judging costs could not be saved: %s", error)

    def _saved(self) -> tuple[str, int]:
        try:
            value = orjson.loads(self._file.read_bytes())
            return str(value["day"]), int(value["tokens"])
        except (OSError, ValueError, KeyError, TypeError):
            return "", 0

    def _today(self) -> str:
        return self._clock.now().isoformat()[:10]

    def _id(self, event: Event) -> str:
        """A ULID: the answer's time, then a hash of what is judged and how."""
        key = f"{event['model']}|{event['request']}|{NAME}|{self._judge.digest}"
        number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:10])
        tail = "".join(_DIGITS[number >> shift & 31] for shift in range(75, -5, -5))
        return f"{event['id'][:10]}{tail}"


def _draw(request: str) -> float:
    """A number from 0 to 1 that is the same whenever this request is looked at."""
    digest = hashlib.sha256(f"judging|{request}".encode()).digest()
    return int.from_bytes(digest[:8]) / (1 << 64)
