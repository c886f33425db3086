"""Made-up data for tests of the profile: independent rows, and days that hang together."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from proa.findings.observation import Observation
from proa.profile.reference import Profile, build, parse_profile
from proa.profile.window import WindowState

NUMBERS = 16
LEVELS = [f"c{k}" for k in range(10)]
ZIPF = 1 / np.arange(1, 11) / (1 / np.arange(1, 11)).sum()
TYPES: dict[str, Any] = {f"x{k}": "double" for k in range(NUMBERS)} | {
    f"c{k}": "string" for k in range(4)
}
Columns = dict[str, list[Any]]


def independent(rng: np.random.Generator, rows: int, shift: float = 0.0) -> Columns:
    """Rows that know nothing of each other; `shift` moves the first number by that many sigmas."""
    columns: Columns = {
        f"x{k}": rng.normal(shift if k == 0 else 0.0, 1.0, rows).tolist() for k in range(NUMBERS)
    }
    return columns | {
        f"c{k}": [LEVELS[level] for level in rng.choice(10, rows, p=ZIPF)] for k in range(4)
    }


def day(rng: np.random.Generator, rows: int, shift: float = 0.0) -> Columns:
    """Rows of one day: each number has a level of the day that all its rows share."""
    columns = independent(rng, rows)
    for k in range(NUMBERS):
        level = rng.normal(0.0, 0.5) + (shift if k == 0 else 0.0)
        columns[f"x{k}"] = rng.normal(level, 1.0, rows).tolist()
    return columns


def together(parts: Sequence[Columns]) -> Columns:
    """The rows of all parts."""
    return {name: list(itertools.chain(*(part[name] for part in parts))) for name in parts[0]}


def profile_of(columns: Columns, blocks: list[str] | None = None, **more: Any) -> Profile:
    """The parsed profile of some rows."""
    return parse_profile(orjson.dumps(build(columns, TYPES, blocks=blocks, **more)))


def dates(count: int, rows: int) -> list[str]:
    """Block names: `rows` rows for each of `count` days from 1 January 2013 on."""
    first = np.datetime64("2013-01-01")
    return [str(first + k // rows) for k in range(count * rows)]


def window_of(profile: Profile, columns: Mapping[str, Sequence[Any]]) -> WindowState:
    """One event with these rows."""
    window = WindowState.of(profile)
    window.add(profile, [event_of(columns)])
    return window


def event_of(columns: Mapping[str, Sequence[Any]], **more: Any) -> dict[str, Any]:
    """A prediction of these rows."""
    rows = len(next(iter(columns.values()), []))
    return {"status": 200, "rows": rows, "inputs": dict(columns), "outputs": {}} | more


def held(observations: Sequence[Observation]) -> set[tuple[str, str]]:
    """(type, subject) of what holds."""
    return {(o.type, o.subject) for o in observations if o.holds}


def found(observations: Sequence[Observation], kind: str, subject: str = "") -> Observation:
    """The only observation of that type and subject."""
    (one,) = [o for o in observations if (o.type, o.subject) == (kind, subject)]
    return one
