"""Evidently reports on demand: one at a time, in a child process, kept as pages on disk."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from proa.errors import Internal, LimitReached, NotFound, Refused, error_from_wire
from proa.findings.finding import Finding
from proa.http.ids import new_id
from proa_monitor.windows import Key, Track

__all__ = ["Reports"]

SAMPLE_ROWS: Final = 5000
QUIET: Final = {"DO_NOT_TRACK": "1", "ITERATIVE_DO_NOT_TRACK": "1"}
"""For every child that imports Evidently: else it sends usage statistics to its makers."""
_SECONDS: Final = 300.0
_KEPT: Final = 20
_WAITING: Final = 4
_NAME: Final = re.compile(r"[a-z0-9-]{1,63}-[0-9A-Z]{26}\.html")


@dataclass(slots=True)
class Reports:
    """Pages in `folder`, the newest 20 of each model.

    Args:
        events, bundles: where the job reads, a folder and a bundle store's URL.
    """

    folder: Path
    events: Path
    bundles: str
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)
    _waiting: int = 0

    async def make(self, track: Track, window: str) -> dict[str, Any]:
        """Compare one window of a release with its reference sample.

        Returns:
            `path`, `name`, `rows`, `reference_rows`, `left_out`, `seconds` (all of it).

        Raises:
            Refused: the release is not watched, or the window has too few rows.
            LimitReached: enough people are waiting for reports already.
        """
        return await self._one_of(track.key, window, {})

    async def of_finding(self, finding: Finding) -> dict[str, Any]:
        """The same of the newest window that showed a finding, on a sample of its rows.

        Features that the finding names come first; of a slice's finding only the slice's rows are
        compared. The page says what was found.

        Raises:
            Refused: the finding is of no release, or as `make` says.
            LimitReached: as `make` says.
        """
        if not finding.release:
            raise Refused(
                f"{finding.type} of {finding.model} is of no release: there is nothing to compare",
                code="not_watched",
            )
        about = {
            "id": finding.id,
            "type": finding.type,
            "subject": finding.subject,
            "message": finding.message,
            "since": finding.since,
            # Groups of protected attributes are not everybody's to read.
            "evidence": {} if finding.group == "fairness" else dict(finding.evidence),
        }
        key = Key(finding.model, finding.release, finding.track)
        return await self._one_of(key, finding.window, about)

    async def _one_of(self, key: Key, window: str, about: dict[str, Any]) -> dict[str, Any]:
        if self._waiting >= _WAITING:
            raise LimitReached(
                f"{_WAITING} reports are under way already", hint="ask again in a minute"
            )
        self._waiting += 1
        start = time.perf_counter()
        try:
            async with self._one:
                name = f"{key.model}-{new_id()}.html"
                facts = await self._run(key, window, about, self.folder / name)
        finally:
            self._waiting -= 1
        self._thin(key.model)
        facts |= {"name": name, "path": str(self.folder / name)}
        return facts | {"seconds": round(time.perf_counter() - start, 3)}

    def page(self, name: str) -> Path:
        """The file of a report.

        Raises:
            NotFound: no report has this name.
        """
        path = self.folder / name
        if not _NAME.fullmatch(name) or not path.is_file():
            raise NotFound(f"no report is named {name!r:.100}", code="unknown_report")
        return path

    async def _run(self, key: Key, window: str, about: dict[str, Any], out: Path) -> dict[str, Any]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        spec = {
            "events": str(self.events),
            "bundles": self.bundles,
            "model": key.model,
            "release": key.release,
            "track": key.track,
            "window": window,
            "finding": about,
            "rows": SAMPLE_ROWS,
            "out": str(out),
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proa_monitor.report_job"),
            env={**os.environ, **QUIET},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            talk = process.communicate(orjson.dumps(spec))
            answer, errors = await asyncio.wait_for(talk, _SECONDS)
        except (TimeoutError, asyncio.CancelledError) as error:
            process.kill()
            await process.wait()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise Internal(f"the report took longer than {_SECONDS:g} s and was stopped") from None
        if process.returncode:
            raise Internal(f"the report failed: {errors.decode(errors='replace')[-500:]}")
        facts: dict[str, Any] = orjson.loads(answer)
        if "error" in facts:
            raise error_from_wire(422, facts)
        return facts

    def _thin(self, model: str) -> None:
        pages = sorted(p for p in self.folder.glob(f"{model}-*.html") if _NAME.fullmatch(p.name))
        mine = [page for page in pages if page.name[:-32] == model]
        for page in mine[:-_KEPT]:
            page.unlink(missing_ok=True)
