"""Answered calls without an event, and events without a call: something was lost, or made up.

The ledger holds the calls that gateways wrote, in order of their start by the wall clock; events
carry the same request ids. Looked at a while after the fact, because gateways write in
batches and emitters try again. Bounded: so many requests are remembered, so many calls read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from proa.errors import ProaError
from proa.events.event import Event
from proa.findings.book import BookKey
from proa.findings.observation import Observation
from proa.http.clock import Clock, parse_time, rfc3339
from proa.ledger.call import Call
from proa.ledger.store import MAX_LIMIT, CallStore
from proa_monitor.finding_store import FindingStore
from proa_monitor.store import EventStore

__all__ = ["Unmatched"]

MOST: Final = 200_000
"""Requests that are remembered, of events and of calls each."""
_BACK: Final = timedelta(minutes=15)
_log = logging.getLogger(__name__)


class Unmatched:
    """Compares the two.

    Args:
        calls: the ledger's; None where there is no gateway, and then nothing is compared.
        late: seconds after which a call's event has come, or never comes.

    Attributes:
        events, calls: events without a call, calls without an event; by model.
    """

    def __init__(
        self,
        calls: CallStore | None,
        store: EventStore,
        findings: FindingStore,
        clock: Clock,
        *,
        late: float,
    ) -> None:
        self._ledger, self._store, self._findings = calls, store, findings
        self._clock, self._late = clock, timedelta(seconds=late)
        self._every = late / 2
        self._seen: OrderedDict[str, tuple[str, str, str]] = OrderedDict()
        self._through: datetime | None = None
        self._over = asyncio.Event()
        self.events: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def offer(self, events: Iterable[Event]) -> None:
        """Events were stored."""
        if self._ledger is None:
            return
        for event in events:
            self._remember(event)
        while len(self._seen) > MOST:
            self._seen.popitem(last=False)

    async def run(self) -> None:
        """Compare until `stop`."""
        if self._ledger is None:
            return
        began = self._clock.now()
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), self._every)
                return
            try:
                await self._look(began)
            except ProaError as error:
                _log.warning("calls and events are compared later: %s", error.message)
            except Exception:
                _log.exception("calls and events could not be compared; tried again")

    def stop(self) -> None:
        """End `run` soon."""
        self._over.set()

    async def _look(self, began: datetime) -> None:
        until = self._clock.now() - self._late
        if self._through is None:
            # What came before this process: read once, so that a restart hides nothing.
            since = began - _BACK
            earlier = await asyncio.to_thread(self._earlier, since)
            for event in earlier:
                self._remember(event)
            self._through = since
        if until <= self._through:
            return
        found = await asyncio.to_thread(self._read, self._through - self._late)
        if len(found) >= MAX_LIMIT:  # the rest comes next time
            until = min(until, parse_time(found[-1].started))
        if until > self._through:
            await asyncio.to_thread(self._compare, found, self._through, until)
            self._through = until

    def _earlier(self, since: datetime) -> list[Event]:
        names = "ingested,model,purpose,request,type,kind,track,status"
        return list(self._store.select(names, since=rfc3339(since), model=None))

    def _read(self, since: datetime) -> Sequence[Call]:
        assert self._ledger is not None
        return self._ledger.calls(since=rfc3339(since), limit=MAX_LIMIT)

    def _remember(self, event: Event) -> None:
        if event["type"] not in ("prediction", "answer") or event["purpose"] != "user":
            return
        if event["track"] and (event["status"] or 0) < 400:
            self._seen[event["request"]] = (event["model"], event["kind"], event["ingested"])

    def _compare(self, calls: Sequence[Call], since: datetime, until: datetime) -> None:
        """Calls that began, and events that came, from `since` to `until`."""
        start, end = rfc3339(since), rfc3339(until)
        known = {call.request for call in calls}
        kinds: dict[str, str] = {}
        lost: Counter[str] = Counter()
        for call in calls:
            if call.door != "user" or call.purpose != "user" or call.model is None:
                continue
            if call.status != 200 or not call.complete or not start <= call.started < end:
                continue
            kinds[call.model] = call.kind
            lost[call.model] += call.request not in self._seen
        stray: Counter[str] = Counter()
        for request, (model, kind, ingested) in list(self._seen.items()):
            if start <= ingested < end:
                kinds.setdefault(model, kind)
                stray[model] += request not in known
        for model, kind in kinds.items():
            self.calls[model] += lost[model]
            self.events[model] += stray[model]
            seen = [
                _observation("call_without_event", lost[model], "answered calls have no event"),
                _observation("event_without_call", stray[model], "events have no call"),
            ]
            key = BookKey(model, kind, "", "")
            self._findings.see(key, f"calls {start[:16]}Z", start, end, seen)


def _observation(kind: str, count: int, what: str) -> Observation:
    return Observation(
        kind,
        "",
        count > 0,
        float(count),
        0.0,
        "calls",
        f"{count} {what} at the monitor" if count else f"none of the {what.split()[0]}: all match",
        "critical" if kind == "call_without_event" else "warning",
        {"count": count},
    )
