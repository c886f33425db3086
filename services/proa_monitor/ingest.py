"""From a request's body to stored and counted events, with a verdict on every line."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from proa.errors import InvalidInput
from proa.events.check import check_event, event_time
from proa.events.event import Event
from proa.http.clock import Clock, rfc3339
from proa_monitor.store import EventStore

__all__ = ["BODY_BYTES", "Ingest", "Verdict"]

BODY_BYTES: Final = 8 << 20
"""The largest body of one request: 8 MiB."""
_EVENTS: Final = 20_000
"""Events of one request at most."""
_CHUNK: Final = 200
_PAST: Final = timedelta(days=7)
_FUTURE: Final = timedelta(minutes=5)
_EMITTERS: Final = 1000
_LABELS: Final = 1000
_REASONS: Final = 50
_ERROR_CHARACTERS: Final = 300


@dataclass(slots=True)
class Verdict:
    """What became of the events of one request; lines are numbered from 1."""

    accepted: int = 0
    duplicates: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)

    def to_wire(self) -> dict[str, Any]:
        return {
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
        }


class Ingest:
    """Checks, stores and counts events, in this order; what is counted is stored.

    Args:
        also: called with the events of each batch once they are stored; none of them may raise.

    Attributes:
        accepted: events by (model, type, purpose).
        rejected: lines by the key at fault.
        replaced_times: events stored with the time of their arrival, because the key may not set
            event time and theirs lay more than 7 days back or 5 minutes ahead.
    """

    def __init__(
        self, store: EventStore, clock: Clock, also: Sequence[Callable[[list[Event]], None]]
    ) -> None:
        self._store, self._clock, self._also = store, clock, also
        self.accepted: Counter[tuple[str, str, str]] = Counter()
        self.rejected: Counter[str] = Counter()
        self.duplicates = 0
        self.replaced_times = 0
        self._dropped: OrderedDict[str, int] = OrderedDict()
        self._forgotten_drops = 0

    @property
    def dropped_by_emitters(self) -> int:
        """Events that emitters say they have dropped."""
        return self._forgotten_drops + sum(self._dropped.values())

    def report_drops(self, emitter: str, dropped: str) -> None:
        """An emitter's own count of drops since it started; nonsense is ignored."""
        if not (len(emitter) <= 64 and dropped.isascii() and dropped.isdigit()):
            return
        self._dropped[emitter] = min(int(dropped[:18]), 1 << 53)
        self._dropped.move_to_end(emitter)
        if len(self._dropped) > _EMITTERS:
            self._forgotten_drops += self._dropped.popitem(last=False)[1]

    async def take(self, body: bytes, *, may_replay: bool) -> Verdict:
        """Take JSON lines or one JSON array of events.

        Args:
            body: of the request.
            may_replay: event times may lie anywhere.

        Raises:
            InvalidInput: no events at all, too many of them, or an array that is not JSON.
            Unavailable: the disk refused. What was counted before is stored; sending all of it
                again is safe.
        """
        lines = _split(body)
        if len(lines) > _EVENTS:
            raise InvalidInput(
                f"{len(lines):,} events in one request: at most {_EVENTS:,} are allowed",
                code="too_many_events",
            )
        verdict = Verdict()
        for start in range(0, len(lines), _CHUNK):
            self._take_chunk(lines[start : start + _CHUNK], start + 1, may_replay, verdict)
            await asyncio.sleep(0)
        return verdict

    def _take_chunk(
        self, lines: list[bytes], first: int, may_replay: bool, verdict: Verdict
    ) -> None:
        now = self._clock.now()
        ingested, known = rfc3339(now), self._store.known
        bounds = None if may_replay else (rfc3339(now - _PAST), rfc3339(now + _FUTURE))
        tail = b',"ingested":"%b"}\n' % ingested.encode()
        fresh: dict[str, Event] = {}
        out: list[bytes] = []
        for number, line in enumerate(lines, first):
            if not line or line.isspace():
                continue
            try:
                event = check_event(orjson.loads(line), size=len(line))
            except (InvalidInput, orjson.JSONDecodeError) as error:
                self._reject(number, error, verdict)
                continue
            event_id = event["id"]
            if event_id in fresh or event_id in known:
                verdict.duplicates += 1
                self.duplicates += 1
                continue
            fresh[event_id] = event
            if self._settle_time(event, ingested, bounds):
                out.append(orjson.dumps(event)[:-1] + tail)
            else:
                out.append(line.rstrip()[:-1] + tail)
            event["ingested"] = ingested
        if fresh:
            self._store.append(b"".join(out), fresh)
            self._count(fresh)
            verdict.accepted += len(fresh)
        if self._store.due:
            self._store.close_file()

    def _count(self, fresh: dict[str, Event]) -> None:
        events = list(fresh.values())
        for take in self._also:
            take(events)
        accepted = self.accepted
        for event in events:
            labels = (event["model"], event["type"], event["purpose"])
            known = labels in accepted or len(accepted) < _LABELS
            accepted[labels if known else ("(other)", *labels[1:])] += 1

    def _settle_time(self, event: Event, ingested: str, bounds: tuple[str, str] | None) -> bool:
        """Bring the event's time into the stored form; True when that changed the event."""
        time = event["time"]
        canonical = time if len(time) == 27 and time[26] == "Z" else _canonical(event)
        if bounds is not None and not bounds[0] <= canonical <= bounds[1]:
            self.replaced_times += 1
            event["claimed_time"], event["time"] = canonical, ingested
            return True
        event["time"] = canonical
        return canonical is not time

    def _reject(
        self, number: int, error: InvalidInput | orjson.JSONDecodeError, verdict: Verdict
    ) -> None:
        if isinstance(error, InvalidInput):
            message, reason = error.message, (error.param or "event").partition(".")[0]
        else:
            message, reason = f"not JSON: {error}", "json"
        # Unknown keys are the sender's words: they must not become labels without end.
        known = reason in self.rejected or len(self.rejected) < _REASONS
        self.rejected[reason if known else "(other)"] += 1
        verdict.rejected.append({"line": number, "error": message[:_ERROR_CHARACTERS]})


def _canonical(event: Event) -> str:
    moment: datetime = event_time(event)
    return rfc3339(moment)


def _split(body: bytes) -> list[bytes]:
    start = body.lstrip()[:1]
    if not start:
        raise InvalidInput(
            "the request body is empty: expected JSON lines or an array of events",
            code="invalid_json",
        )
    if start != b"[":
        return body.split(b"\n")
    try:
        events = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(
            f"the request body is not valid JSON: {error}", code="invalid_json"
        ) from error
    return [orjson.dumps(event) for event in events]
