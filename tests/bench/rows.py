"""A benchmark's figures: printed for people, written to `build/bench/NAME.json` for machines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

_OUT = Path(__file__).resolve().parents[2] / "build" / "bench"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, what a peer or the direct call gives in the same run, and its bar."""

    figure: str
    value: float
    unit: str
    peer: float | None = None
    bar: float | None = None
    ok: bool | None = None


def show(row: Row) -> None:
    """One line of the table."""
    peer = "" if row.peer is None else f"   direct or peer {row.peer:,.4g}"
    bar = "" if row.bar is None else f"   bar {row.bar:,.4g} {'ok' if row.ok else 'MISSED'}"
    print(f"{row.figure:<62} {row.value:>12,.4g} {row.unit}{peer}{bar}", flush=True)


def write(name: str, rows: Iterable[Row]) -> None:
    """`build/bench/NAME.json`."""
    _OUT.mkdir(parents=True, exist_ok=True)
    (_OUT / f"{name}.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def finish(name: str, rows: Iterable[Row]) -> int:
    """Show each row as it comes, write all; 0, since a benchmark asserts nothing."""
    kept = []
    for row in rows:
        show(row)
        kept.append(row)
    write(name, kept)
    return 0
