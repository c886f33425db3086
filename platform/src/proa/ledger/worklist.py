"""The worklist: answers that somebody or something found bad, each an item until a person decides.

Kept here and not in MLflow's review queues: those queue traces, serving makes none, and an item
must outlive an MLflow that is away. What was decided goes into the journal, without any text.
An item is made once per answer; what is found later is added while it is open.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proa.errors import Conflict, InvalidInput, NotFound
from proa.ledger.database import Database, Row, Session
from proa.ledger.sqlite import SqliteFile

__all__ = ["RESOLUTIONS", "Item", "Worklist", "item_id"]

RESOLUTIONS: Final = ("golden-task", "document", "prompt", "ignore")
"""What became of an item: a task of the exam, a document mended or added, a prompt changed."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS worklist (
    id TEXT PRIMARY KEY, model TEXT NOT NULL, made TEXT NOT NULL, body TEXT NOT NULL,
    resolution TEXT, who TEXT, reason TEXT, resolved TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS worklist_by_model ON worklist (model, made);
CREATE TABLE IF NOT EXISTS worklist_through (model TEXT PRIMARY KEY, through TEXT NOT NULL) STRICT;
"""
_COLUMNS: Final = "id, model, made, body, resolution, who, reason, resolved"
_SIGNALS: Final = 50
"""Signals that an item keeps; a thousand thumbs say no more."""


@dataclass(frozen=True, slots=True)
class Item:
    """One answer to look at.

    Attributes:
        made: when it was found, wall time.
        body: `request release time question answer retrieved signals`; a signal has `event kind
            value why time`.
        resolution: one of `RESOLUTIONS`, or None while it is open.
    """

    id: str
    model: str
    made: str
    body: Mapping[str, Any]
    resolution: str | None = None
    who: str | None = None
    reason: str | None = None
    resolved: str | None = None

    def to_json(self) -> dict[str, Any]:
        """One flat JSON object."""
        about = {name: getattr(self, name) for name in self.__slots__ if name != "body"}
        return {**about, **self.body}


class Worklist:
    """The items of every model. Methods may be called from any thread.

    Args:
        database: holds the tables; or the path of a SQLite file, which is made.
    """

    def __init__(self, database: Database | Path) -> None:
        if isinstance(database, Path):
            database.parent.mkdir(parents=True, exist_ok=True)
            database = SqliteFile(database, _SCHEMA)
        self._database = database

    def take(
        self, model: str, found: Iterable[Mapping[str, Any]], *, through: str, now: str
    ) -> int:
        """Take in what was found bad, and up to when everything was read: both or neither.

        Args:
            found: bodies of items; one that is there gets the signals it has not.

        Returns:
            how many items are new.
        """
        new = 0
        with self._database.writing("worklist") as session:
            for body in found:
                new += _put(session, model, body, now)
            values = {"model": model, "through": through}
            session.add("worklist_through", ("model", "through"), [(model, through)])
            session.ask(
                "UPDATE worklist_through SET through = :through WHERE model = :model", values
            )
        return new

    def through(self, model: str) -> str | None:
        """Up to when everything was read."""
        with self._database.reading() as session:
            rows = session.ask(
                "SELECT through FROM worklist_through WHERE model = :model", {"model": model}
            )
        return None if not rows else str(rows[0][0])

    def items(self, model: str, *, resolved: bool = False, limit: int = 200) -> list[Item]:
        """Open items, the oldest first; with `resolved`, those too."""
        which = "" if resolved else "AND resolution IS NULL"
        with self._database.reading() as session:
            rows = session.ask(
                f"SELECT {_COLUMNS} FROM worklist WHERE model = :model {which} "  # noqa: S608
                "ORDER BY made, id LIMIT :limit",
                {"model": model, "limit": limit},
            )
        return [_item(row) for row in rows]

    def open_counts(self) -> dict[str, int]:
        """Model → open items."""
        with self._database.reading() as session:
            rows = session.ask(
                "SELECT model, SUM(CASE WHEN resolution IS NULL THEN 1 ELSE 0 END) FROM worklist "
                "GROUP BY model"
            )
        return {str(model): int(count) for model, count in rows}

    def get(self, identity: str) -> Item:
        """One item, by its id or the beginning of it.

        Raises:
            NotFound: there is none.  Conflict: there are several.
        """
        with self._database.reading() as session:
            return _find(session, identity)

    def resolve(self, identity: str, resolution: str, *, who: str, reason: str, now: str) -> Item:
        """Write down what became of an item; said again by the same words, it changes nothing.

        Raises:
            InvalidInput: no such resolution.  NotFound: no such item.
            Conflict: it was resolved in another way.
        """
        if resolution not in RESOLUTIONS:
            raise InvalidInput(
                f"{resolution!r}: expected one of {', '.join(RESOLUTIONS)}", param="resolution"
            )
        with self._database.writing("worklist") as session:
            item = _find(session, identity)
            if item.resolution is not None and item.resolution != resolution:
                raise Conflict(
                    f"{item.id} was resolved by {item.who} as {item.resolution}: {item.reason}",
                    code="resolved",
                )
            if item.resolution is None:
                session.ask(
                    "UPDATE worklist SET resolution = :resolution, who = :who, reason = :reason, "
                    "resolved = :now WHERE id = :id",
                    {"resolution": resolution, "who": who, "reason": reason, "now": now,
                     "id": item.id},
                )  # fmt: skip
            return _find(session, item.id)

    def close(self) -> None:
        """Give back what is held."""
        self._database.close()


def item_id(model: str, request: str) -> str:
    """An answer's item: twelve hex digits."""
    return hashlib.sha256(f"{model} {request}".encode()).hexdigest()[:12]


def _put(session: Session, model: str, body: Mapping[str, Any], now: str) -> int:
    identity = item_id(model, str(body["request"]))
    rows = session.ask(f"SELECT {_COLUMNS} FROM worklist WHERE id = :id", {"id": identity})  # noqa: S608
    if not rows:
        kept = {**body, "signals": list(body["signals"])[:_SIGNALS]}
        text = json.dumps(kept, ensure_ascii=False).replace("\\u0000", "\\ufffd")
        columns = ("id", "model", "made", "body")
        return session.add("worklist", columns, [(identity, model, now, text)])
    item = _item(rows[0])
    known = {signal["event"] for signal in item.body["signals"]}
    fresh = [signal for signal in body["signals"] if signal["event"] not in known]
    if fresh and item.resolution is None:
        signals = [*item.body["signals"], *fresh][:_SIGNALS]
        text = json.dumps({**item.body, "signals": signals}, ensure_ascii=False)
        session.ask(
            "UPDATE worklist SET body = :body WHERE id = :id",
            {"body": text.replace("\\u0000", "\\ufffd"), "id": identity},
        )
    return 0


def _find(session: Session, identity: str) -> Item:
    if not identity.isalnum():
        raise NotFound(f"no item {identity!r:.40} is in a worklist")
    rows = session.ask(
        f"SELECT {_COLUMNS} FROM worklist WHERE id LIKE :id LIMIT 2",  # noqa: S608
        {"id": f"{identity}%"},
    )
    if not rows:
        raise NotFound(f"no item {identity} is in a worklist", hint="proa worklist NAME")
    if len(rows) > 1:
        raise Conflict(f"several items begin with {identity}: name more of it")
    return _item(rows[0])


def _item(row: Row) -> Item:
    identity, model, made, body, *rest = row
    return Item(identity, model, made, json.loads(body), *rest)
