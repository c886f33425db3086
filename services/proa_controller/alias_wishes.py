"""What the registry's aliases say, as the watcher saw it: requests to answer, reports to make."""

from __future__ import annotations

import logging
from dataclasses import replace

from proa.errors import ProaError, Refused
from proa.release.reference import ReleaseRef
from proa.rollout import machine
from proa.rollout.state import settle
from proa_controller.wishes import Wishes

log = logging.getLogger("proa.controller")
_BY_CHALLENGER, _BY_CHAMPION = "mlflow alias challenger", "mlflow alias champion"


class AliasWishes(Wishes):
    """Called by the watcher alone. For the rules see `proa.rollout.aliases`."""

    def reported(self, name: str) -> tuple[ReleaseRef | None, ReleaseRef | None]:
        """What the alias `champion` should point to, and what it was last set to.

        The first is None while something is under way: a report comes after completion.
        """
        with self._lock:
            state = self._states.find(name)
            if state is None:
                return None, None
            return state.champion if state.phase == "idle" else None, state.aliases.reported

    def champion_reported(self, champion: ReleaseRef) -> None:
        """The alias `champion` points to this release."""
        with self._lock:
            state = self._states.find(champion.name)
            if state is not None and state.aliases.reported != champion:
                aliases = replace(state.aliases, reported=champion)
                self._commit(state, replace(state, aliases=aliases), [])

    def champion_moved(self, found: ReleaseRef) -> None:
        """Somebody pointed the alias `champion` at another release: that is a request."""
        with self._lock:
            state = self._states.find(found.name)
            if state is None:
                return
            if state.aliases.holding:
                self._hold(found, _BY_CHAMPION)
            else:
                aliases = state.aliases.moved(found, _BY_CHAMPION)
                self._commit(state, replace(state, aliases=aliases), [])

    def seed(self, found: ReleaseRef) -> None:
        """The alias `champion` of a model that runs nothing yet: that is a request, once.

        Of a model that runs something it is none: the workload is the truth.
        """
        with self._lock:
            state = self._states.find(found.name)
            if state is None or (state.phase, state.applied) != ("idle", None):
                return
            if found not in (
                state.aliases.asked,
                state.aliases.wish and state.aliases.wish.release,
            ):
                aliases = state.aliases.moved(found, _BY_CHAMPION)
                self._commit(state, replace(state, aliases=aliases), [])

    def challenger_says(self, name: str, release: ReleaseRef | None) -> None:
        """What the alias `challenger` points to now, or None."""
        with self._lock:
            state = self._states.find(name)
            if state is None:
                return
            aliases, held = state.aliases.look(release, _BY_CHALLENGER)
            self._commit(state, replace(state, aliases=aliases), [])
            if held is not None:
                self._hold(held, _BY_CHALLENGER)
            self._answer(name)

    def registry_says(self, name: str, fault: str | None) -> None:
        """What is wrong with a model in the registry, for its status."""
        with self._lock:
            if fault != self._faults.get(name) and fault is not None:
                log.warning("%s: %s", name, fault)
            self._faults[name] = fault

    def _answer(self, name: str) -> None:
        state = self._state(name)
        wish = state.aliases.wish
        if wish is None or state.phase != "idle":
            return
        if wish.release == state.champion:
            answered = replace(state, aliases=state.aliases.answered(wish.release))
            self._commit(state, answered, [])
            return
        try:
            self.promote(wish.release, who=wish.who, reason="requested by alias")
        except ProaError as error:
            log.warning("%s: request by alias: %s", wish.release.short, error)

    def _hold(self, release: ReleaseRef, who: str) -> None:
        state = self._state(release.name)
        refusal = Refused(
            f"{release.short} was asked for before the undo or rollback that came last: held",
            hint=f"proa promote {release.short}",
            code="HeldByUndo",
        )
        details = {"code": refusal.code, "hint": refusal.hint}
        entry = machine.Entry("refused", release, who, refusal.message, details)
        self._commit(state, settle(state), [entry])
