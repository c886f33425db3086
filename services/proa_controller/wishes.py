"""What people ask for: promote, roll back, undo, abort, pause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from proa.errors import Conflict, Refused
from proa.http.ids import new_id
from proa.release.reference import ReleaseRef
from proa.rollout import machine
from proa.rollout.admission import Admitted, Case, admit, refusals
from proa.rollout.people import UNKNOWN, By
from proa.rollout.plan import steps_of
from proa.rollout.policy import Policy
from proa.rollout.state import Request, Rollout, settle
from proa_controller.admission import Admission


class Wishes(Admission):
    """Wishes about rollouts. Each is admitted or refused, and journaled either way."""

    def promote(
        self,
        release: ReleaseRef,
        *,
        who: str,
        reason: str,
        policy: Policy | Mapping[str, Any] | None = None,
        by: By = UNKNOWN,
        override: bool = False,
    ) -> Rollout:
        """Admit a release and begin its rollout; a refusal is journaled too.

        Args:
            policy: the canary's settings; a mapping is laid over the model's own.
            override: go over the refusals that may be gone over; `by` names the person.

        Raises:
            Refused: it is not admitted, see `proa.rollout.admission`.
            Conflict: something is under way.
        """
        with self._lock:
            state = self._caught_up(release.name)
            case = self._case(state, release, by)
            try:
                admitted = admit(case, override=override)
            except Refused as refusal:
                self._note_refusal(state, case, who, refusal)
                raise
            settings = self._policy(case.record, policy)
            request = Request(release, who, reason)
            after, entries = machine.promote(state, request, settings, self._see(state))
            self._world.forget(release.name)
            self._commit(state, after, _with_grounds(entries, case, admitted))
            return after

    def plan(
        self,
        release: ReleaseRef,
        *,
        policy: Policy | Mapping[str, Any] | None = None,
        by: By = UNKNOWN,
    ) -> dict[str, Any]:
        """What `promote` would do now: every refusal, and the steps. Nothing is changed."""
        with self._lock:
            state = self._state(release.name)
            case = self._case(state, release, by)
            settings = self._policy(case.record, policy)
            found = [refusal.to_json() for refusal in refusals(case)]
            try:
                request = Request(release, "", "")
                machine.promote(state, request, settings, self._see(state))
            except Conflict as error:
                conflict = {"code": error.code, "message": error.message, "hint": error.hint}
                found.append({**conflict, "overridable": False})
            return {
                "release": str(release),
                "admitted": not found,
                "overridable": all(item["overridable"] for item in found),
                "refusals": found,
                "steps": steps_of(state, release, settings),
                "policy": settings.to_json(),
            }

    def _note_refusal(self, state: Rollout, case: Case, who: str, refusal: Refused) -> None:
        release = case.release
        after = settle(state, aliases=state.aliases.answered(release))
        if state.phase == "idle":
            after = replace(after, message=f"refused {release.short}: {refusal.message}")
        details = {
            "code": refusal.code,
            "hint": refusal.hint,
            "all": [found.code for found in refusals(case)],
            "by": case.by.to_json(),
        }
        self._commit(
            state, after, [machine.Entry("refused", release, who, refusal.message, details)]
        )

    def rollback(self, name: str, *, who: str, reason: str) -> Rollout:
        """Return to the previous release."""
        with self._lock:
            state = self._returnable(self._caught_up(name))
            after, entries = machine.rollback(state, who, reason, self._see(state))
            self._world.forget(name)
            self._commit(state, after, entries)
            self.tick()
            return after

    def undo(self, name: str, *, who: str, reason: str) -> None:
        """What `kubectl rollout undo` does to the champion's workload; the loop follows it."""
        with self._lock:
            state = self._state(name)
            self._world.undo(name)
            target = self._world.look(name).champion.template_release
            try:
                if target is not None:
                    self._refuse_revoked(target)
            except Refused:
                self._world.undo(name)  # twice is back again
                raise
            entry = machine.Entry("undo_requested", state.champion, who, reason)
            self._write_down(state, {f"{name}:undo:{new_id()}": entry})

    def abort(self, name: str, *, who: str, reason: str) -> Rollout:
        """Stop a canary."""
        with self._lock:
            state = self._state(name)
            after, entries = machine.abort(state, who, reason)
            self._commit(state, after, entries)
            return after

    def pause(self, name: str, *, who: str, paused: bool, reason: str = "") -> Rollout:
        """Hold or resume a canary."""
        with self._lock:
            state = self._state(name)
            after, entries = machine.pause(state, who, paused=paused)
            self._commit(state, after, [replace(entry, reason=reason) for entry in entries])
            return after


def _with_grounds(
    entries: list[machine.Entry], case: Case, admitted: Admitted
) -> list[machine.Entry]:
    """The request's line says on what grounds it was admitted; an override has a line before it."""
    by = {"by": case.by.to_json()}
    found: list[machine.Entry] = []
    for entry in entries:
        if entry.action == "requested":
            if admitted.overridden:
                codes = [refusal.code for refusal in admitted.overridden]
                over = {"codes": codes, "messages": [item.message for item in admitted.overridden]}
                details = {**over, **by}
                found.append(
                    machine.Entry("overridden", case.release, entry.who, entry.reason, details)
                )
            grounds = {"grounds": admitted.to_json(), **by}
            entry = replace(entry, details={**entry.details, **grounds})
        found.append(entry)
    return found
