"""The figures of the cluster's tests: `build/cluster/report.json` and `report.md`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One measured figure.

    Attributes:
        peer: what it is compared with, in words; empty: nothing.
        bar: what it had to be, in words; empty: it is only told.
    """

    figure: str
    value: float | str
    unit: str
    peer: str
    bar: str
    ok: bool


class Report:
    """Rows of this run, written after each, over those of other runs with the same figure."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: dict[str, Row] = {}
        file = folder / "report.json"
        if file.exists():
            self._rows = {row["figure"]: Row(**row) for row in json.loads(file.read_text())}

    def at_most(self, figure: str, value: float, bar: float, unit: str = "", peer: str = "") -> Row:
        """A figure that must not be higher; the caller asserts `.ok`."""
        return self.add(figure, value, unit, peer, f"≤ {bar:g} {unit}".strip(), value <= bar)

    def add(
        self,
        figure: str,
        value: float | str,
        unit: str = "",
        peer: str = "",
        bar: str = "",
        ok: bool = True,
    ) -> Row:
        """A figure as it is told."""
        row = Row(figure, value, unit, peer, bar, ok)
        self._rows[figure] = row
        self._write()
        return row

    def _write(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        rows = [self._rows[figure] for figure in sorted(self._rows)]
        (self._folder / "report.json").write_text(
            json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False)
        )
        lines = ["| check | measured | peer | bar | |", "| --- | --- | --- | --- | --- |"]
        for row in rows:
            value = f"{row.value:.4g}" if isinstance(row.value, float) else str(row.value)
            measured = f"{value} {row.unit}".strip()
            verdict = "ok" if row.ok else "**missed**"
            lines.append(f"| {row.figure} | {measured} | {row.peer} | {row.bar} | {verdict} |")
        (self._folder / "report.md").write_text("\n".join(lines) + "\n")
