"""Answers that wait for their truth, and labels that wait for their answer, in SQL tables.

Everything here is a function of which events there are, never of when or how often they came: an
event counts once by its id, a label finds its row by `proa.quality.join`'s rule, carried out in
SQL, and a day's state is made again from its rows whenever one of them changed. A day that is too
old for its rows keeps its state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NamedTuple

import orjson

from proa.events.event import Event
from proa.http.clock import parse_time, rfc3339
from proa.ledger.database import Database, Session
from proa.quality.answered import entities_of, entity_word, form_of, word_of
from proa.quality.state import VERSION
from proa_monitor.cohort import Cohort, cohort_of

__all__ = ["TABLES", "CohortKey", "Taken", "TruthCounts", "Truths"]

TABLES: Final = """
CREATE TABLE IF NOT EXISTS monitor_truth_rows (
  event {word} NOT NULL, place bigint NOT NULL, places bigint NOT NULL, model {word} NOT NULL,
  release {word} NOT NULL, track {word} NOT NULL, day {word} NOT NULL, time {word} NOT NULL,
  request {word} NOT NULL, entity {word}, form {word} NOT NULL, said double precision,
  decided {word}, parts {word}, grouped {word}, reasons {word},
  PRIMARY KEY (event, place)
);
CREATE INDEX IF NOT EXISTS monitor_truth_rows_request ON monitor_truth_rows (request, model);
CREATE INDEX IF NOT EXISTS monitor_truth_rows_entity
  ON monitor_truth_rows (entity, model, time, request, place) WHERE entity IS NOT NULL;
CREATE INDEX IF NOT EXISTS monitor_truth_rows_day
  ON monitor_truth_rows (model, release, track, day);
CREATE TABLE IF NOT EXISTS monitor_truth_labels (
  event {word} PRIMARY KEY, model {word} NOT NULL, request {word}, entity {word},
  time {word} NOT NULL, value {word} NOT NULL, fresh bigint NOT NULL, call {word}, place bigint
);
CREATE INDEX IF NOT EXISTS monitor_truth_labels_fresh
  ON monitor_truth_labels (fresh) WHERE fresh = 1;
CREATE INDEX IF NOT EXISTS monitor_truth_labels_request
  ON monitor_truth_labels (request, model) WHERE request IS NOT NULL;
CREATE INDEX IF NOT EXISTS monitor_truth_labels_entity
  ON monitor_truth_labels (entity, model, time) WHERE request IS NULL;
CREATE INDEX IF NOT EXISTS monitor_truth_labels_call ON monitor_truth_labels (call, place);
CREATE INDEX IF NOT EXISTS monitor_truth_labels_time ON monitor_truth_labels (model, time);
CREATE TABLE IF NOT EXISTS monitor_truth_days (
  model {word} NOT NULL, release {word} NOT NULL, track {word} NOT NULL, day {word} NOT NULL,
  stale bigint NOT NULL, frozen bigint NOT NULL, version bigint NOT NULL, state {word},
  PRIMARY KEY (model, release, track, day)
);
CREATE TABLE IF NOT EXISTS monitor_truth_met (
  model {word} NOT NULL, request {word}, entity {word}, time {word} NOT NULL
);
CREATE TABLE IF NOT EXISTS monitor_truth_through (
  one bigint PRIMARY KEY, number bigint NOT NULL
);
"""
_LOCK: Final = "monitor-truth"
_ROWS: Final = (
    *("event", "place", "places", "model", "release", "track", "day", "time", "request"),
    *("entity", "form", "said", "decided", "parts", "grouped", "reasons"),
)
_LABELS: Final = ("event", "model", "request", "entity", "time", "value", "fresh")
_DAYS: Final = ("model", "release", "track", "day", "stale", "frozen", "version")
_DAY: Final = 10
"""Characters of a UTC day in a stored time."""
_ROOM: Final = 1.25
"""A model has at most so many times `keep_rows`, until something is forgotten."""
_MOST_READ: Final = 1000
"""States that are held parsed."""
_MOST_DAYS: Final = 800
"""Days whose state is kept after their rows are gone."""


class CohortKey(NamedTuple):
    """Answers of one release in one place of its rollout on one UTC day."""

    model: str
    release: str
    track: str
    day: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What `take` did.

    Attributes:
        rows, labels: that were new.
        too_late: rows of days that keep no rows any more.
        too_many: rows of a model that has as many as it may have.
    """

    rows: int = 0
    labels: int = 0
    too_late: int = 0
    too_many: int = 0


@dataclass(frozen=True, slots=True)
class TruthCounts:
    """What is kept of a model: rows that wait or have their truth, labels, and those of a row."""

    rows: int
    labels: int
    matched: int


class Truths:
    """The tables. Methods may be called from any thread; each is one transaction.

    Args:
        database: holds `TABLES`.
        slices_of: release → input columns whose values are segments; asked once per release and
            call.
        keep_days: event-time days that rows and labels are kept for.
        keep_rows: rows of a model; whole days are forgotten, the oldest first, never the newest.
    """

    def __init__(
        self,
        database: Database,
        *,
        slices_of: Callable[[str], Sequence[str]] = lambda _: (),
        keep_days: int = 180,
        keep_rows: int = 1_000_000,
    ) -> None:
        self._database = database
        self._slices_of = slices_of
        self._keep_days, self._keep_rows = keep_days, keep_rows
        self._read: dict[CohortKey, tuple[str, Cohort]] = {}
        self._known: dict[str, int] = {}

    def take(self, events: Iterable[Event]) -> Taken:
        """Keep the answers and labels among stored events; any number of times, in any order.

        Raises:
            Unavailable: the database is away; nothing was kept, and asking again is safe.
        """
        slices: dict[str, tuple[str, ...]] = {}
        rows: list[tuple[Any, ...]] = []
        labels: list[tuple[Any, ...]] = []
        for event in events:
            if event["type"] == "label" and event["kind"] == "classic":
                labels.append(_label_row(event))
            elif event["type"] == "prediction" and event["purpose"] in ("user", "agent"):
                release = event["release"]
                if release not in slices:
                    slices[release] = tuple(self._slices_of(release))
                rows += _answer_rows(event, slices[release])
        if not rows and not labels:
            return Taken()
        with self._database.writing(_LOCK) as session:
            rows, too_late = _without_frozen(session, rows)
            rows, too_many = self._within_bounds(session, rows)
            new_rows = session.add("monitor_truth_rows", _ROWS, rows) if rows else 0
            new_labels = session.add("monitor_truth_labels", _LABELS, labels) if labels else 0
            if new_rows:
                _mark(session, {CohortKey(r[3], r[4], r[5], r[6]) for r in rows})
                _reopen_labels(session, rows)
            if new_rows or new_labels:
                _join(session)
        return Taken(new_rows, new_labels, too_late, too_many)

    def _within_bounds(
        self, session: Session, rows: list[tuple[Any, ...]]
    ) -> tuple[list[tuple[Any, ...]], int]:
        """Rows there is room for: a day without end must not fill the disk."""
        full = set()
        for model, count in Counter(row[3] for row in rows).items():
            known = self._known.get(model)
            if known is None:
                known = _rows_of(session, model)
            if known + count > self._keep_rows * _ROOM:
                newest = max(row[7] for row in rows if row[3] == model)
                self._let_go(session, model, newest)
                known = self._known[model]
                if known + count > self._keep_rows * _ROOM:
                    full.add(model)
            # one that is taken a second time counts twice, until it is counted again
            self._known[model] = known + (0 if model in full else count)
        if not full:
            return rows, 0
        kept = [row for row in rows if row[3] not in full]
        return kept, len(rows) - len(kept)

    def cohorts(
        self, model: str, release: str, track: str, *, since: str = "", until: str = "~"
    ) -> list[Cohort]:
        """The days of a release with since ≤ day < until, oldest first, up to date."""
        values = {
            "model": model, "release": release, "track": track, "since": since, "until": until,
            "version": VERSION,
        }  # fmt: skip
        with self._database.reading() as session:
            stale = session.ask(f"SELECT 1 {_OF_RELEASE} {_STALE} LIMIT 1", values)
        if stale:
            with self._database.writing(_LOCK) as session:
                days = session.ask(f"SELECT day {_OF_RELEASE} {_STALE}", values)
                for (day,) in days:
                    _count(session, CohortKey(model, release, track, day))
        with self._database.reading() as session:
            found = session.ask(
                f"SELECT day, state {_OF_RELEASE} AND state IS NOT NULL AND version = :version "
                "ORDER BY day",
                values,
            )
        return [self._parsed(CohortKey(model, release, track, day), text) for day, text in found]

    def _parsed(self, key: CohortKey, text: str) -> Cohort:
        """A state read; most have not changed since they were last read."""
        known = self._read.get(key)
        if known is not None and known[0] == text:
            return known[1]
        cohort = Cohort.from_json(key.day, orjson.loads(text))
        if len(self._read) >= _MOST_READ:
            self._read.clear()
        self._read[key] = (text, cohort)
        return cohort

    def releases(self, model: str) -> list[tuple[str, str, str]]:
        """(release, track, newest day) of a model, the newest first."""
        with self._database.reading() as session:
            found = session.ask(
                "SELECT release, track, MAX(day) FROM monitor_truth_days WHERE model = :model "
                "GROUP BY release, track ORDER BY MAX(day) DESC, release DESC, track",
                {"model": model},
            )
        return [(str(release), str(track), str(day)) for release, track, day in found]

    def counts(self, model: str) -> TruthCounts:
        """How much is kept of a model."""
        values = {"model": model}
        with self._database.reading() as session:
            ((rows,),) = session.ask(
                "SELECT COUNT(*) FROM monitor_truth_rows WHERE model = :model", values
            )
            ((labels, matched),) = session.ask(
                "SELECT COUNT(*), COUNT(call) FROM monitor_truth_labels WHERE model = :model",
                values,
            )
        return TruthCounts(rows, labels, matched)

    def forget(self, model: str, now: str) -> int:
        """Let go of rows and labels beyond what is kept; the states of their days stay.

        Args:
            now: event time, RFC 3339.

        Returns:
            rows let go.
        """
        with self._database.writing(_LOCK) as session:
            return self._let_go(session, model, now)

    def _let_go(self, session: Session, model: str, now: str) -> int:
        oldest = rfc3339(parse_time(now) - timedelta(days=self._keep_days))[:_DAY]
        ancient = rfc3339(parse_time(now) - timedelta(days=_MOST_DAYS))[:_DAY]
        values = {"model": model}
        days = session.ask(
            "SELECT release, track, day, COUNT(*) FROM monitor_truth_rows "
            "WHERE model = :model GROUP BY release, track, day ORDER BY day DESC",
            values,
        )
        newest, kept, gone = days[0][2] if days else "", 0, 0
        for release, track, day, rows in days:
            kept += rows
            if day == newest or (day >= oldest and kept <= self._keep_rows):
                continue
            _freeze(session, CohortKey(model, release, track, day))
            gone += rows
        session.ask(
            "DELETE FROM monitor_truth_labels "
            "WHERE model = :model AND call IS NULL AND time < :oldest",
            {**values, "oldest": oldest},
        )
        session.ask(
            "DELETE FROM monitor_truth_days WHERE model = :model AND frozen = 1 AND day < :ancient",
            {**values, "ancient": ancient},
        )
        self._known[model] = kept - gone
        return gone

    def taken_through(self) -> int:
        """The number of the last file of events whose events are all taken; 0 before the first."""
        with self._database.reading() as session:
            found = session.ask("SELECT number FROM monitor_truth_through")
        return int(found[0][0]) if found else 0

    def mark_through(self, number: int) -> None:
        """Every event up to file `number` is taken: note that."""
        with self._database.writing(_LOCK) as session:
            session.add("monitor_truth_through", ("one", "number"), [(1, number)])
            session.ask("UPDATE monitor_truth_through SET number = :number", {"number": number})


_OF_RELEASE: Final = """
FROM monitor_truth_days WHERE model = :model AND release = :release AND track = :track
AND day >= :since AND day < :until
"""
# a state of another version is made again while the day has its rows; a frozen one is left alone
_STALE: Final = "AND (stale = 1 OR frozen = 0 AND version <> :version)"


def _answer_rows(event: Event, slices: Sequence[str]) -> list[tuple[Any, ...]]:
    """A prediction's rows as they are kept; none when no truth can be set against them."""
    size, outputs, inputs = event["rows"], event["outputs"], event["inputs"]
    form = form_of(outputs)
    if form is None or not size:
        return []
    said = outputs.get("probability" if form == "probability" else "prediction")
    decided = outputs.get("label") if form != "number" else None
    entities = entities_of(size, event["entity"], event["unit"])
    attributes, reasons = event.get("attributes") or {}, event["reasons"]
    head = (
        size,
        *(event["model"], event["release"], event["track"] or ""),
        *(event["time"][:_DAY], event["time"], event["request"]),
    )
    found = []
    for row in range(size):
        parts = {name: _segment(inputs[name][row]) for name in slices if name in inputs}
        groups = {name: _segment(values[row]) for name, values in attributes.items()}
        label = None if decided is None else decided[row]
        found.append(
            (
                *(event["id"], row, *head, entities[row], form),
                *(_number(said[row]) if said is not None else None,),
                *(None if label is None else _short(word_of(label)),),
                *(_text(parts), _text(groups)),
                *(None if reasons is None else _text(_contributions(reasons[row], inputs)),),
            )
        )
    return found


def _label_row(event: Event) -> tuple[Any, ...]:
    entity = event["entity"]
    return (
        *(event["id"], event["model"], event["request"]),
        *(None if entity is None else entity_word(entity), event["time"]),
        *(orjson.dumps(_short(event["value"])).decode(), 1),
    )


def _contributions(reasons: Any, inputs: Any) -> dict[str, float]:
    """Feature → contribution, of the features that the model has."""
    if not isinstance(reasons, list):
        return {}
    return {
        reason["feature"]: float(reason["contribution"])
        for reason in reasons
        if isinstance(reason, dict)
        and reason.get("feature") in inputs
        and _number(reason.get("contribution")) is not None
    }


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) else None


def _short(value: Any) -> Any:
    """No class has a longer name; what somebody sends may be a mebibyte."""
    return value[:256] if isinstance(value, str) else value


def _segment(value: Any) -> str:
    """A value as the name of a segment."""
    return "(none)" if value is None else word_of(value)[:64]


def _text(value: dict[str, Any]) -> str | None:
    return orjson.dumps(value).decode() if value else None


def _rows_of(session: Session, model: str) -> int:
    sql = "SELECT COUNT(*) FROM monitor_truth_rows WHERE model = :model"
    return int(session.ask(sql, {"model": model})[0][0])


def _without_frozen(
    session: Session, rows: list[tuple[Any, ...]]
) -> tuple[list[tuple[Any, ...]], int]:
    """Rows of days that still keep rows: another would be counted beside a state without it."""
    models = {row[3] for row in rows}
    frozen = {
        CohortKey(model, *key)
        for model in models
        for key in session.ask(
            "SELECT release, track, day FROM monitor_truth_days "
            "WHERE model = :model AND frozen = 1",
            {"model": model},
        )
    }
    if not frozen:
        return rows, 0
    kept = [row for row in rows if CohortKey(row[3], row[4], row[5], row[6]) not in frozen]
    return kept, len(rows) - len(kept)


def _mark(session: Session, keys: Iterable[CohortKey]) -> None:
    """These days have to be counted again."""
    listed = sorted(set(keys))
    session.add("monitor_truth_days", _DAYS, [(*key, 1, 0, VERSION) for key in listed])
    for key in listed:
        session.ask(
            "UPDATE monitor_truth_days SET stale = 1 WHERE model = :model AND release = :release "
            "AND track = :track AND day = :day AND frozen = 0",
            key._asdict(),
        )


def _reopen_labels(session: Session, rows: Sequence[tuple[Any, ...]]) -> None:
    """Labels that these new rows may be meant by: of their requests, or not older and of their
    entities."""
    earliest: dict[str, str] = {}
    for row in rows:
        earliest[row[3]] = min(row[7], earliest.get(row[3], row[7]))
    meant = [
        session.ask(
            "SELECT 1 FROM monitor_truth_labels WHERE model = :model AND fresh = 0 "
            "AND (time >= :time OR request IS NOT NULL) LIMIT 1",
            {"model": model, "time": time},
        )
        for model, time in earliest.items()
    ]
    if not any(meant):
        return
    met = {(row[3], row[8], row[9], row[7]) for row in rows}
    session.add("monitor_truth_met", ("model", "request", "entity", "time"), sorted(met, key=str))
    for condition in (
        "l.request = m.request AND l.model = m.model",
        "l.request IS NULL AND l.entity = m.entity AND l.model = m.model AND l.time >= m.time",
    ):
        session.ask(
            "UPDATE monitor_truth_labels SET fresh = 1 WHERE event IN (SELECT l.event "  # noqa: S608
            f"FROM monitor_truth_met m CROSS JOIN monitor_truth_labels l WHERE {condition})"
        )
    session.ask("DELETE FROM monitor_truth_met")


_TOUCHED: Final = """
SELECT DISTINCT r.model, r.release, r.track, r.day
FROM monitor_truth_labels l CROSS JOIN monitor_truth_rows r
WHERE l.fresh = 1 AND r.event = l.call AND r.place = l.place
"""
_BY_REQUEST: Final = """
UPDATE monitor_truth_labels SET (call, place) = (
  SELECT r.event, r.place FROM monitor_truth_rows r
  WHERE r.request = monitor_truth_labels.request AND r.model = monitor_truth_labels.model
    AND (r.places = 1 OR r.entity = monitor_truth_labels.entity)
  ORDER BY r.time DESC, r.event DESC, r.place LIMIT 1)
WHERE fresh = 1 AND request IS NOT NULL
"""
_BY_ENTITY: Final = """
UPDATE monitor_truth_labels SET (call, place) = (
  SELECT r.event, r.place FROM monitor_truth_rows r
  WHERE r.entity = monitor_truth_labels.entity AND r.model = monitor_truth_labels.model
    AND r.time <= monitor_truth_labels.time
  ORDER BY r.time DESC, r.request DESC, r.place DESC, r.event DESC LIMIT 1)
WHERE fresh = 1 AND request IS NULL
"""


def _join(session: Session) -> None:
    """Find the row of every label that is new or may have another row now."""
    before = session.ask(_TOUCHED)
    session.ask(_BY_REQUEST)
    session.ask(_BY_ENTITY)
    after = session.ask(_TOUCHED)
    _mark(session, {CohortKey(*key) for key in (*before, *after)})
    session.ask("UPDATE monitor_truth_labels SET fresh = 0 WHERE fresh = 1")


def _count(session: Session, key: CohortKey) -> None:
    """Make a day's state again from its rows."""
    rows = session.ask(
        "SELECT r.event, r.place, r.form, r.said, r.decided, r.parts, r.grouped, r.reasons, "
        "r.time, l.value, l.time, l.event FROM monitor_truth_rows r LEFT JOIN "
        "monitor_truth_labels l ON l.call = r.event AND l.place = r.place "
        "WHERE r.model = :model AND r.release = :release AND r.track = :track AND r.day = :day",
        key._asdict(),
    )
    state = orjson.dumps(cohort_of(key.day, rows).to_json()).decode()
    session.ask(
        "UPDATE monitor_truth_days SET state = :state, stale = 0, version = :version "
        "WHERE model = :model AND release = :release AND track = :track AND day = :day",
        {**key._asdict(), "state": state, "version": VERSION},
    )


def _freeze(session: Session, key: CohortKey) -> None:
    """Count a day a last time, and let its rows and their labels go."""
    values = key._asdict()
    stale = session.ask(
        "SELECT 1 FROM monitor_truth_days WHERE model = :model AND release = :release "
        "AND track = :track AND day = :day AND stale = 1",
        values,
    )
    if stale:
        _count(session, key)
    of_day = "model = :model AND release = :release AND track = :track AND day = :day"
    session.ask(
        "DELETE FROM monitor_truth_labels WHERE call IN "  # noqa: S608
        f"(SELECT event FROM monitor_truth_rows WHERE {of_day})",
        values,
    )
    session.ask(f"DELETE FROM monitor_truth_rows WHERE {of_day}", values)  # noqa: S608
    session.ask(f"UPDATE monitor_truth_days SET frozen = 1 WHERE {of_day}", values)  # noqa: S608
