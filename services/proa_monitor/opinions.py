"""What a judge and what people said of the same answers, however late either comes.

Kept in the monitor's state database, one row per answer and source, and joined by request. A later
word of the same source replaces the earlier one; events count once by what they say of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from proa.events.event import Event
from proa.findings.observation import Observation
from proa.ledger.database import Database
from proa.profile.language import opinion_of

if TYPE_CHECKING:
    from proa.exam.agreement import Agreement

__all__ = ["TABLES", "Opinions", "judge_agreement"]

TABLES: Final = """
CREATE TABLE IF NOT EXISTS monitor_opinions (
  model {word} NOT NULL, request {word} NOT NULL, source {word} NOT NULL, release {word} NOT NULL,
  time {word} NOT NULL, good bigint NOT NULL, PRIMARY KEY (model, request, source)
);
CREATE INDEX IF NOT EXISTS monitor_opinions_time ON monitor_opinions (model, source, time);
"""
_LOCK: Final = "opinions"
_MOST: Final = 20_000
"""Answers compared at once: the newest."""
_LEAST: Final = 30
"""Answers that both must have seen before anything is said."""
WANTED: Final = 0.4
"""Kappa below which a judge and people do not agree (Landis and Koch 1977: "fair" at best)."""

_PUT: Final = """
INSERT INTO monitor_opinions (model, request, source, release, time, good)
VALUES (:model, :request, :source, :release, :time, :good)
ON CONFLICT (model, request, source)
DO UPDATE SET release = excluded.release, time = excluded.time, good = excluded.good
WHERE excluded.time >= monitor_opinions.time
"""
_BOTH: Final = """
SELECT person.good, judge.good FROM monitor_opinions judge JOIN monitor_opinions person
  ON person.model = judge.model AND person.request = judge.request
WHERE judge.model = :model AND judge.source = 'judge' AND person.source = :source
  AND (judge.release = :release OR :release = '')
ORDER BY judge.time DESC, judge.request LIMIT :most
"""
_FORGET: Final = "DELETE FROM monitor_opinions WHERE model = :model AND time < :time"


class Opinions:
    """Opinions of judges (`judge`) and of people (`label`, `feedback`) about answers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, events: Iterable[Event]) -> int:
        """Keep what judgements, labels and feedback say; returns how many said something.

        The same events may come any number of times, in any order.
        """
        rows = [row for row in map(_row, events) if row is not None]
        if rows:
            with self._database.writing(_LOCK) as session:
                for row in rows:
                    session.ask(_PUT, row)
        return len(rows)

    def agreement(
        self, model: str, *, source: str = "label", release: str | None = None
    ) -> Agreement:
        """The judge beside people, over the newest answers that both have seen.

        Args:
            source: `label` (somebody read the answer) or `feedback` (a user's thumb).
            release: of one release only.
        """
        from proa.exam.agreement import agreement

        values = {"model": model, "source": source, "release": release or "", "most": _MOST}
        with self._database.reading() as session:
            pairs = session.ask(_BOTH, values)
        return agreement([bool(person) for person, _ in pairs], [bool(judge) for _, judge in pairs])

    def forget(self, model: str, before: str) -> None:
        """Leave out opinions older than `before` (RFC 3339)."""
        with self._database.writing(_LOCK) as session:
            session.ask(_FORGET, {"model": model, "time": before})


def judge_agreement(found: Agreement, source: str) -> Observation:
    """Whether a judge and people see the same: proven not to, proven to, or nobody knows."""
    evidence = {
        "n": found.scored,
        "accuracy": round(found.accuracy, 4),
        "kappa": round(found.kappa, 4),
        "low": round(found.low, 4),
        "high": round(found.high, 4),
    }
    if found.scored < _LEAST:
        return Observation(
            "judge_agreement", source, None, found.kappa if found.scored else None, WANTED, "kappa",
            f"{found.scored} answers with a {source} and a judgement: at least {_LEAST} are needed",
            evidence=evidence,
        )  # fmt: skip
    message = (
        f"judge and {source} agree on {found.accuracy:.0%} of {found.scored} answers, Cohen's "
        f"kappa {found.kappa:.2f} [{found.low:.2f}, {found.high:.2f}]; {WANTED:g} is wanted"
    )
    return Observation(
        "judge_agreement", source, found.high < WANTED, found.kappa, WANTED, "kappa", message,
        evidence=evidence,
    )  # fmt: skip


def _row(event: Event) -> Mapping[str, Any] | None:
    """What an event says of an answer; None when it says nothing of one."""
    if event["kind"] != "llm" or not event["request"]:
        return None
    if event["type"] == "judgement":
        good, source = event["good"], "judge"
    elif event["type"] in ("label", "feedback"):
        good, source = opinion_of(event["value"]), event["type"]
    else:
        return None
    if good is None:
        return None
    return {
        "model": event["model"],
        "request": event["request"],
        "source": source,
        "release": event["release"] or "",
        "time": event["time"],
        "good": int(good),
    }
