"""A database on a Postgres server: there, or made by whoever may."""

from __future__ import annotations

from typing import Any, Final

from proa.errors import Refused, Unavailable
from proa.ledger.postgres import settings_of

__all__ = ["ensure_database"]

_EVERY_SERVER_HAS: Final = "postgres"
_SECONDS: Final = 30.0


def ensure_database(url: str) -> bool:
    """Make the database of a URL unless it is there.

    Returns:
        whether it was made.

    Raises:
        Unavailable: the server does not answer, or lets this user in nowhere.
        Refused: the database is missing and this user may not make it.
        InvalidInput: the URL cannot be read.
    """
    import psycopg
    from psycopg import sql

    settings = settings_of(url, _SECONDS)
    name = str(settings.get("dbname") or settings.get("user") or "")
    away = _fault(settings)
    if away is None:
        return False
    try:
        with psycopg.connect(**{**settings, "dbname": _EVERY_SERVER_HAS}) as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = %s"
            if connection.execute(query, [name]).fetchone():
                raise Unavailable(f"the database {name} cannot be used: {away}")
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.errors.InsufficientPrivilege as error:
        raise Refused(
            f"the database {name} is missing, and {settings.get('user')} may not make it",
            hint=f"CREATE DATABASE {name} OWNER {settings.get('user')}",
            code="database_missing",
        ) from error
    except psycopg.errors.DuplicateDatabase:  # another one was faster
        return False
    except psycopg.Error as error:
        raise Unavailable(f"the database {name} cannot be used: {away}") from error
    return True


def _fault(settings: dict[str, Any]) -> str | None:
    import psycopg

    try:
        psycopg.connect(**settings).close()
    except psycopg.OperationalError as error:
        return " ".join(str(error).split())
    return None
