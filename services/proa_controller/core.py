"""The controller: all models of one platform, what is asked of it and what it answers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from proa.http.clock import rfc3339
from proa.http.ids import new_id
from proa.ledger.journal import Head, Line
from proa.release.reference import ReleaseRef
from proa.retraining.rules import parse_section
from proa.rollout.machine import Entry
from proa.rollout.people import UNKNOWN, By
from proa.rollout.rules import parse_rules
from proa.rollout.state import Rollout, desired
from proa_controller.alias_wishes import AliasWishes
from proa_controller.retraining import Retraining
from proa_controller.verdicts import Slot, Verdicts

__all__ = ["Controller", "Slot"]

log = logging.getLogger("proa.controller")


class Controller(Verdicts, AliasWishes, Retraining):
    """All models of one platform. Every public method is safe to call from any thread."""

    # Releases

    def announce(
        self,
        release: ReleaseRef,
        who: str,
        reason: str,
        *,
        by: By = UNKNOWN,
        rollout: Mapping[str, Any] | None = None,
        retrain: Mapping[str, Any] | None = None,
        may_loosen: bool = False,
    ) -> dict[str, Any] | None:
        """Record that a release was created; the first one makes the model known.

        Args:
            rollout: the project's `rollout:` section; None says nothing about it.
            retrain: its `retrain:` section; empty: nothing is retrained by itself.
            may_loosen: its key may loosen approval and freeze without a second person.

        Returns:
            How the section `rollout` stands (`Decisions.take_rules`), when it was given.
        """
        if rollout is not None:
            parse_rules(rollout)  # before anything is written
        if retrain is not None:
            parse_section(retrain)
        with self._lock:
            self._world.check_name(release.name)
            manifest = self._bundles.manifest(release.digest)
            if self._states.find(release.name) is None:
                self._states.put(Rollout(release.name, manifest.kind))
            self._journal.append(
                key=f"{release.name}:created:{release.version}:{release.digest}",
                time=rfc3339(self._clock.now()),
                model=release.name,
                action="created",
                release=str(release),
                who=who,
                reason=reason,
                details={"kind": manifest.kind, "by": by.to_json()},
            )
            if retrain is not None:
                self.take_retrain(release.name, retrain, who=who, by=by, may_loosen=may_loosen)
            if rollout is None:
                return None
            return self.take_rules(release.name, rollout, who=who, by=by, may_loosen=may_loosen)

    def adopt(self, name: str, kind: str, running: ReleaseRef | None) -> None:
        """Take in a workload of a model that is not known here: what runs is its champion."""
        with self._lock:
            if self._states.find(name) is not None:
                return
            state = Rollout(name, kind, champion=running, applied=running)
            entries = {}
            if running is not None:
                entry = Entry("adopted", running, "proa-controller", "it was found running")
                entries[f"{name}:adopted:{new_id()}"] = entry
            self._write_down(state, entries)

    def take_over(self) -> None:
        """Another controller may have written since: forget what only held without it."""
        super().take_over()
        with self._lock:
            self._lines.clear()
            self._silent.clear()
            self._records.clear()

    # Reading

    def platform(self) -> dict[str, Any]:
        """The routes' generation, and every gateway's."""
        return {
            "routes": {"generation": self.routes_generation()},
            "gateways": self._world.gateways(),
        }

    def routes_generation(self) -> int:
        """Of the routes last written; 0 before the first."""
        return self._world.routes_generation()

    def names(self) -> list[str]:
        """Every known model."""
        return self._states.names()

    def status(self, name: str) -> dict[str, Any]:
        """What runs, what is under way, and what share of traffic each release gets."""
        with self._lock:
            state = self._state(name)
            seen = self._see(state)
            want = desired(state)
            return {
                "model": state.model,
                "kind": state.kind,
                "phase": state.phase,
                "champion": _text(state.champion),
                "candidate": _text(state.candidate),
                "previous": _text(state.previous),
                "warm": state.warm_until is not None
                and seen.challenger.ready
                and seen.challenger.release == state.previous,
                "warm_seconds_left": max(0.0, state.warm_until - self._now())
                if state.warm_until
                else 0.0,
                "paused": state.paused,
                "weight": want.weight,
                "traffic": self._world.shares(name),
                "routed": self._world.routed(state),
                "ready": {
                    "champion": seen.champion.ready,
                    "challenger": seen.challenger.ready,
                },
                "message": seen.champion.fault
                or seen.challenger.fault
                or self._world.building(state)
                or state.message,
                "analysis": None if seen.analysis is None else seen.analysis.to_json(),
                "registry": self._faults.get(name),
                "sequence": state.sequence,
                **self.standing(state),
            }

    def verify(self, noted: Head | None = None) -> dict[str, Any]:
        """Check the journal's chain and end; see `Journal.verify`."""
        count = self._journal.verify(noted)
        return {"lines": count, "head": str(self._journal.head())}

    def history(self, name: str | None, after: int = 0) -> list[Line]:
        """The journal, of one model or all."""
        return self._journal.lines(name, after=after)


def _text(release: ReleaseRef | None) -> str | None:
    return None if release is None else str(release)
