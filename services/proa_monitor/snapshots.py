"""Figures that were judged, for Evidently's UI: one snapshot of at most 10 kB per window.

Evidently computes nothing here and is not imported: a child process writes what the judges have
found already (`snapshot_job`). Windows wait for it as small files, so neither ingest nor judging
waits for anything, a restart loses none, and a window that is judged again replaces itself.

    FOLDER/waiting/ID.json      figures of a window, until the child has written its snapshot
    FOLDER/workspace/           `DO_NOT_TRACK=1 evidently ui --workspace FOLDER/workspace`
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import subprocess
import sys
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from proa.findings.observation import Observation
from proa_monitor.reports import QUIET
from proa_monitor.windows import Key

__all__ = ["Snapshots", "figures_of"]

MOST_FIGURES: Final = 20
_WAITING: Final = 1000
_SECONDS: Final = 300.0
_OURS: Final = uuid.UUID("6f0f4a26-3a52-5c0e-9d0c-2f5a9b7d4c11")
_log = logging.getLogger(__name__)


def figures_of(observations: Iterable[Observation]) -> dict[str, float]:
    """The figures of a window as `group/name`, what holds first, then the largest.

    Of what has a limit it is the effect in units of that limit: above 1 is beyond it.
    """
    found: list[tuple[bool, float, str, float]] = []
    for one in observations:
        if one.effect is None or not math.isfinite(one.effect):
            continue
        size = one.effect
        if one.limit is not None and math.isfinite(one.limit) and one.limit > 0:
            size = one.effect / one.limit
        name = f"{one.group}/{one.type}" + (f" {one.subject}" if one.subject else "")
        found.append((not one.holds, -abs(size), name[:80], size))
    return {name: round(size, 6) for _, _, name, size in sorted(found)[:MOST_FIGURES]}


@dataclass(slots=True)
class Snapshots:
    """Of every model, the newest `kept` windows each.

    Args:
        pause: seconds between two children: one costs seconds, whatever it has to write.

    Attributes:
        dropped: windows there was no room for.
        failures: children that failed; what they were given waits on.
    """

    folder: Path
    kept: int = 200
    pause: float = 60.0
    dropped: int = 0
    failures: int = 0

    @property
    def waiting(self) -> Path:
        """Folder of windows without a snapshot yet."""
        return self.folder / "waiting"

    def offer(self, key: Key, window: str, end: str, seen: Iterable[Observation]) -> bool:
        """Let a window have a snapshot; False when there was no room. From any thread.

        Args:
            end: of the window, RFC 3339.
            seen: all that the judges said of it.
        """
        figures = figures_of(seen)
        if not figures:
            return True
        release = key.release.partition("@")[0]
        one = {"model": key.model, "release": release, "track": key.track, "window": window}
        name = str(uuid.uuid5(_OURS, "\n".join((*key, window))))
        project = str(uuid.uuid5(_OURS, key.model))
        given = {"id": name, "project": project, "end": end, "about": one, "figures": figures}
        try:
            self.waiting.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = self.waiting / f"{name}.json"
            if not path.exists() and len(os.listdir(self.waiting)) >= _WAITING:  # noqa: PTH208
                self.dropped += 1
                return False
            fresh = path.with_suffix(".tmp")
            fresh.write_bytes(orjson.dumps(given))
            fresh.replace(path)
        except OSError as error:  # a full disk: a picture less
            self.dropped += 1
            _log.warning("no snapshot of %s %s: %s", release, window, error)
            return False
        return True

    async def run(self) -> None:
        """Write snapshots of what waits, until cancelled."""
        while True:
            if self.waiting.is_dir() and any(self.waiting.glob("*.json")):
                await self.write()
            await asyncio.sleep(self.pause)

    async def write(self) -> None:
        """One child, for everything that waits now."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proa_monitor.snapshot_job"),
            *(str(self.folder), str(self.kept)),
            env={**os.environ, **QUIET},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            _, errors = await asyncio.wait_for(process.communicate(), _SECONDS)
        except TimeoutError:
            errors = f"it took longer than {_SECONDS:g} s".encode()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode:
            self.failures += 1
            _log.warning("snapshots: %s", errors.decode(errors="replace")[-500:])
