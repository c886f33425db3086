"""What a key may do. A key carries a set of these words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CALL: Final = "call"
"""Call models through the user door."""
ENGINE: Final = "engine"
"""Call engines through the engine door."""
INTERNAL: Final = "internal"
"""A service of the platform: may forward team, feature, purpose and parent of its caller."""
EVENTS: Final = "events"
"""Send events to the monitor."""
JUDGE: Final = "judge"
"""Pin a track, send exam traffic, hand in verdicts."""
PROMOTE: Final = "promote"
"""Request, pause, abort, roll back and undo rollouts."""
APPROVE: Final = "approve"
"""Approve somebody else's request."""
READ: Final = "read"
"""Read calls, costs, findings, status."""
REPLAY: Final = "replay"
"""Set event time."""
PROTECTED: Final = "protected"
"""Read figures by group of a protected attribute."""
ADMIN: Final = "admin"
"""Everything, and make keys."""

ALL: Final = frozenset(
    {CALL, ENGINE, INTERNAL, EVENTS, JUDGE, PROMOTE, APPROVE, READ, REPLAY, PROTECTED, ADMIN}
)

PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "admin": (ADMIN,),
    "assistant": (ENGINE, INTERNAL, EVENTS),
    "predictor": (EVENTS, REPLAY),
    "controller": (READ,),
    "monitor": (ENGINE, JUDGE),
    "pipelines": (CALL, ENGINE, READ, JUDGE, PROMOTE),
}
"""What the platform's own keys may do, by the part that has it: each the least."""
PARTS_TEAM: Final = "platform"
"""The team of these keys; their feature is the part's name."""
