"""What each model cost lately, from the calls in the ledger: asked seldom, kept a while."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from proa.errors import ProaError
from proa.http.clock import Clock, WallClock, rfc3339
from proa.ledger.open import Ledger
from proa.ledger.store import Cost

__all__ = ["Bill", "Bills"]

DAYS: Final = 30
_KEPT_SECONDS: Final = 60.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bill:
    """The bill of the last 30 days of wall-clock time.

    Attributes:
        since: RFC 3339.
        models: model to its line; one that nobody called has none.
        note: why there is no bill; None when there is one.
    """

    since: str
    models: Mapping[str, Cost]
    note: str | None = None


@dataclass(slots=True)
class Bills:
    """Asks the ledger at most once a minute, beside the event loop; while it is away the page
    says so and shows the rest.

    Args:
        currency: what the prices of calls are in.
    """

    ledger: Ledger
    currency: str = "USD"
    clock: Clock = field(default_factory=WallClock)
    _kept: tuple[float, Bill] | None = None
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def newest(self) -> Bill:
        """The bill, a minute old at most."""
        async with self._one:
            if self._kept is None or time.monotonic() - self._kept[0] > _KEPT_SECONDS:
                self._kept = (time.monotonic(), await asyncio.to_thread(self._ask))
            return self._kept[1]

    def _ask(self) -> Bill:
        since = rfc3339(self.clock.now() - timedelta(days=DAYS))
        try:
            costs = self.ledger.calls.costs(by="model", since=since)
        except ProaError as error:
            _log.warning("no costs for the page: %s", error.message)
            return Bill(since, {}, f"costs are not known now: {error.message}")
        return Bill(since, {cost.key: cost for cost in costs if cost.key is not None})
