"""A line of a journal, for tests to which most of it is all the same."""

from __future__ import annotations

from typing import Any

from proa.ledger.journal import Journal, Line


def write(journal: Journal, key: str, **changes: Any) -> Line:
    """Append a line under `key`; `changes` are what the test is about."""
    values: dict[str, Any] = {
        "key": key,
        "time": "2026-11-21T10:00:00Z",
        "model": "m",
        "action": "promoted",
        "release": None,
        "who": "ann",
        "reason": "why",
        "details": {"value": 0.25},
    }
    return journal.append(**{**values, **changes})
