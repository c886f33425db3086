"""`gc`: what no release needs any more leaves the bundle store. Nothing else ever deletes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from proa.errors import InvalidInput
from proa.fleet.rollouts import Rollouts
from proa.release.reference import ReleaseRef
from proa.rollout.record import SERVED

if TYPE_CHECKING:
    from proa.release.sweep import Plan

_DAY = 24 * 3600.0


class Sweeping(Rollouts):
    """The verb that deletes."""

    def gc(self, *, days: int = 30, history: int = 10, dry_run: bool = False) -> Plan:
        """Delete what is needed neither now nor for a way back.

        Kept: champion, challenger and the release before; the last `history` releases that served
        (what `kubectl rollout undo` reaches, the charts' revisionHistoryLimit); every release that
        the journal names in the last `days` days; every blob written in them. A store that several
        platforms share must not be swept by one of them.

        Args:
            dry_run: only say what would go.

        Raises:
            InvalidInput: `days` or `history` < 1.
        """
        if days < 1 or history < 1:
            raise InvalidInput(
                f"gc: days = {days}, history = {history}: expected at least 1 of each"
            )
        from proa.release import sweep

        since = time.time() - days * _DAY
        roots = {ref.digest for ref in self._needed(since, history)}
        found = sweep.plan(self.bundles, sorted(roots), written_after=since)
        if not dry_run:
            sweep.remove(self.bundles, found)
        return found

    def _needed(self, since: float, history: int) -> Iterator[ReleaseRef]:
        for status in self.models():
            for role in ("champion", "candidate", "previous"):
                if status.get(role):
                    yield ReleaseRef.parse(status[role])
            served: dict[str, None] = {}
            for line in reversed(self.history(status["model"])):
                if line["release"] is None:
                    continue
                if line["action"] in SERVED and len(served) < history:
                    served[line["release"]] = None
                if datetime.fromisoformat(line["time"]).timestamp() > since:
                    yield ReleaseRef.parse(line["release"])
            yield from map(ReleaseRef.parse, served)
