"""Of several controllers one leads: it alone writes; the others answer what is read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from proa.cluster.lease import Election
from proa.errors import Unavailable
from proa.http.bodies import Receive, Scope, Send, send_error

__all__ = ["LeaderOnly", "Leadership"]

log = logging.getLogger("proa.controller")

_READS = frozenset({"GET", "HEAD"})


class Refreshed(Protocol):
    """A part of this process that keeps a copy of what the API says."""

    def refresh(self) -> None:
        """See everything that was written before now, by whomever."""


class Leadership:
    """Whether this controller may act: elected, and its copies as new as the election.

    Args:
        take_over: forgets what only held while this process led before.
    """

    def __init__(
        self,
        election: Election,
        copies: Sequence[Refreshed],
        *,
        take_over: Callable[[], None],
    ) -> None:
        self._election = election
        self._copies = copies
        self._take_over = take_over
        self._taken = False

    @property
    def leading(self) -> bool:
        """Elected, and ready to act."""
        return self._taken and self._election.leading

    def to_json(self) -> dict[str, Any]:
        """Who leads, who this is, and whether it does."""
        return {
            "leader": self.holder,
            "identity": self._election.identity,
            "leading": self.leading,
        }

    @property
    def holder(self) -> str | None:
        """Who leads, as last read."""
        return self._election.holder

    def ready(self) -> bool:
        """Whether to act now; the first time after an election all copies are renewed first.

        Raises:
            Unavailable: they could not be; ask again.
        """
        if not self._election.leading:
            if self._taken:
                log.warning("this controller leads no more")
            self._taken = False
            return False
        if not self._taken:
            for part in self._copies:
                part.refresh()
            self._take_over()
            self._taken = True
        return self.leading


class LeaderOnly:
    """An app whose writes are refused, before anything is done, while this process does not lead.

    The answer closes its connection, so that the next try may land on the one that does.
    """

    def __init__(self, app: Any, leadership: Leadership) -> None:
        self._app = app
        self._leadership = leadership

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writes = scope["type"] == "http" and scope["method"] not in _READS
        if writes and not self._leadership.leading:
            holder = self._leadership.holder
            error = Unavailable(
                f"this controller does not lead: {holder or 'nobody'} does; nothing was done",
                code="not_leader",
                hint="send it again, over a new connection",
            )
            await send_error(send, error, headers=[(b"connection", b"close")])
            return
        await self._app(scope, receive, send)
