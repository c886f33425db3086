"""The ledger's tables on Postgres, and how an older ledger gets them: numbered, forwards only.

A step is never changed once it was released; it only adds, so that processes of the version before
run on while a new one is rolled out, and after a step back. SQLite files, which one process owns,
make their tables when they are opened.
"""

from __future__ import annotations

from typing import Final

from proa.errors import Conflict
from proa.http.clock import WallClock, rfc3339
from proa.ledger.database import Database, Session
from proa.ledger.postgres import SCHEMA, Postgres
from proa.ledger.store import make_identity

__all__ = ["LATEST", "migrate", "sizes", "version"]

# Text is compared byte by byte, as SQLite does: times sort, and bills come in one order.
_FIRST: Final = """
CREATE DOMAIN word AS text COLLATE "C";
CREATE TABLE identity (
  one int PRIMARY KEY CHECK (one = 1), id word NOT NULL, created word NOT NULL
);
CREATE TABLE keys (
  id word PRIMARY KEY, hash bytea NOT NULL, team word NOT NULL, feature word NOT NULL,
  rights word NOT NULL, models word, created word NOT NULL, expires word, revoked word
);
CREATE TABLE keys_generation (one int PRIMARY KEY DEFAULT 1 CHECK (one = 1), n bigint NOT NULL);
INSERT INTO keys_generation (n) VALUES (0);
CREATE TABLE calls (
  schema_version bigint NOT NULL, request word NOT NULL, parent word, door word NOT NULL,
  started word NOT NULL, latency_ms double precision NOT NULL, ttft_ms double precision,
  key word NOT NULL, team word NOT NULL, feature word NOT NULL, "user" word, unit word,
  purpose word NOT NULL, kind word NOT NULL, model word, release word, track word, engine word,
  status bigint NOT NULL, error word, tokens_in bigint, tokens_out bigint,
  cost_micro bigint NOT NULL, price word, rows bigint, stream boolean NOT NULL,
  complete boolean NOT NULL, trace word, bins word, finish_reason word, refused boolean,
  guard_hits bigint, agreed double precision,
  PRIMARY KEY (request, door)
);
CREATE INDEX calls_by_time ON calls (started);
CREATE INDEX calls_by_model ON calls (model, started);
CREATE INDEX calls_by_parent ON calls (parent) WHERE parent IS NOT NULL;
CREATE TABLE evidence (digest word PRIMARY KEY, text word NOT NULL);
CREATE TABLE journal (
  seq bigint PRIMARY KEY, key word NOT NULL UNIQUE, time word NOT NULL, model word NOT NULL,
  action word NOT NULL, release word, who word NOT NULL, reason word NOT NULL,
  details word NOT NULL, prev word NOT NULL UNIQUE, hash word NOT NULL
);
CREATE INDEX journal_by_model ON journal (model, seq);
CREATE TABLE journal_head (
  one int PRIMARY KEY CHECK (one = 1), seq bigint NOT NULL, hash word NOT NULL
);
CREATE FUNCTION journal_only_grows() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'the journal is append-only'; END $$;
CREATE TRIGGER journal_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON journal
  FOR EACH STATEMENT EXECUTE FUNCTION journal_only_grows();
"""
_WORKLIST: Final = """
CREATE TABLE worklist (
  id word PRIMARY KEY, model word NOT NULL, made word NOT NULL, body word NOT NULL,
  resolution word, who word, reason word, resolved word
);
CREATE INDEX worklist_by_model ON worklist (model, made);
CREATE TABLE worklist_through (model word PRIMARY KEY, through word NOT NULL);
"""
_STEPS: Final = (
    (1, "keys, calls, journal and evidence", _FIRST),
    (2, "worklist of bad answers", _WORKLIST),
)
LATEST: Final = _STEPS[-1][0]
"""The number of the last step this code knows."""


def version(session: Session) -> int:
    """The last step that was taken; 0 for a database without a ledger."""
    ((table,),) = session.ask(f"SELECT to_regclass('{SCHEMA}.migrations')::text")
    if table is None:
        return 0
    ((number,),) = session.ask(f"SELECT COALESCE(MAX(number), 0) FROM {SCHEMA}.migrations")  # noqa: S608
    return int(number)


def migrate(database: Postgres) -> int:
    """Take the steps that were not taken yet, all or none; harmless when there are none.

    Two at once: the second waits for the first and finds nothing left to do.

    Returns:
        how many were taken.

    Raises:
        Conflict: the database is newer than this code.
        Unavailable: it is away, or another one is at work for long.
    """
    with database.writing("migrations") as session:
        session.ask(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        session.ask(
            f"CREATE TABLE IF NOT EXISTS {SCHEMA}.migrations (number int PRIMARY KEY,"
            " name text NOT NULL, applied text NOT NULL)"
        )
        there = version(session)
        if there > LATEST:
            raise Conflict(
                f"the ledger {database.name} is at step {there}, this proa knows steps up to "
                f"{LATEST}: it was migrated by a later version, and steps are not taken back",
                code="ledger_newer",
                hint="run that version, or restore the backup made before it",
            )
        taken = [step for step in _STEPS if step[0] > there]
        for number, name, sql in taken:
            session.ask(sql)
            session.ask(
                f"INSERT INTO {SCHEMA}.migrations VALUES (:number, :name, :applied)",  # noqa: S608
                {"number": number, "name": name, "applied": rfc3339(WallClock().now())},
            )
        make_identity(session)
        return len(taken)


def sizes(database: Database) -> dict[str, int]:
    """Rows of every table that people care about, by name: to compare before and after."""
    with database.reading() as session:
        return {
            table: int(session.ask(f"SELECT COUNT(*) FROM {table}")[0][0])  # noqa: S608
            for table in ("calls", "keys", "evidence", "journal")
        }
