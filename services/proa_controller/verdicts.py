"""The challenger slot for gates, and the verdicts that come of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from proa.errors import Conflict, InvalidInput, NotFound, Refused
from proa.exam.loosening import loosened, summarize
from proa.exam.verdict import Verdict, judge
from proa.http.clock import rfc3339
from proa.http.ids import new_id
from proa.release.manifest import Manifest
from proa.release.reference import ReleaseRef
from proa.rollout import machine
from proa.rollout.people import UNKNOWN, By
from proa.rollout.record import Record
from proa.rollout.state import Rollout
from proa_controller.admission import Admission


@dataclass(frozen=True, slots=True)
class Slot:
    """The challenger slot as a gate got it."""

    id: str
    candidate: ReleaseRef
    champion: ReleaseRef | None
    runtime: str


class Verdicts(Admission):
    """Gates: who holds the slot, what was judged in it."""

    def take_slot(self, release: ReleaseRef, held: str | None = None) -> Slot:
        """Give the challenger slot to a gate at weight 0; it is ready later (`slot_ready`).

        Args:
            held: the slot of the same gate, when it was killed and goes on; it is its own again
                as long as nobody else had it.

        Raises:
            Conflict: the slot is taken.  NotFound: the release's bundle is not there.
            Refused: its engine is not running.
        """
        with self._lock:
            state = self._state(release.name)
            self._refuse_revoked(release)
            manifest = self._whole(release)
            self._require_engine(release, manifest)
            if held is not None and (state.slot, state.candidate) == (held, release):
                self._commit(state, machine.keep_slot(state, held, self._now()), [])
                return Slot(held, release, state.champion, manifest.runtime.fingerprint())
            slot = Slot(new_id(), release, state.champion, manifest.runtime.fingerprint())
            after = machine.take_slot(state, release, slot.id, self._now())
            self._world.forget(release.name)
            self._commit(state, after, [])
            self._world.act(after, self._world.look(release.name))
            return slot

    def _require_engine(self, release: ReleaseRef, manifest: Manifest) -> None:
        try:
            self._world.require_engine(manifest)
        except Refused as refusal:
            details = {"code": refusal.code, "hint": refusal.hint}
            entry = machine.Entry("refused", release, "gate", refusal.message, details)
            self._tell(release.name, entry)
            raise

    def slot_ready(self, slot: Slot) -> bool:
        """Whether the candidate answers in the slot and every gateway knows the way to it.

        Raises:
            Conflict: the slot was lost.  Refused: the release does not start.
        """
        with self._lock:
            state = self._state(slot.candidate.name)
            if state.slot != slot.id:
                raise Conflict(f"the slot of {slot.candidate.short} was lost to a rollback or undo")
            self._commit(state, machine.keep_slot(state, slot.id, self._now()), [])
            seen = self._see(state)
            if seen.challenger.fault:
                self.release_slot(slot.candidate.name, slot.id)
                raise Refused(
                    f"{slot.candidate.short} does not start: {seen.challenger.fault}",
                    code="RuntimeBroken" if seen.challenger.refused else "ReleaseBroken",
                    hint=f"mend what is named and create it again; proa status {state.model}",
                )
            ready = seen.challenger.ready and seen.challenger.release == slot.candidate
            return ready and seen.routed

    def keep_slot(self, name: str, slot: str) -> None:
        """A gate is alive.

        Raises:
            Conflict: it does not hold the slot any more.
        """
        with self._lock:
            state = self._state(name)
            self._commit(state, machine.keep_slot(state, slot, self._now()), [])

    def evidence(self, digest: str) -> bytes:
        """The evidence of a verdict, as JSON.

        Raises:
            NotFound: there is none under this digest.
        """
        text = self._evidence.get(digest)
        if text is None:
            raise NotFound(f"no evidence {digest} is kept here", code="unknown_evidence")
        return text.encode()

    def _keep(self, digest: str, evidence: Mapping[str, Any]) -> None:
        """Store the evidence under its digest: the very bytes that have it."""
        text = orjson.dumps(dict(evidence), option=orjson.OPT_SORT_KEYS).decode()
        self._evidence.put(digest, text)

    def release_slot(self, name: str, slot: str) -> None:
        """End a gate; harmless when the slot is no longer held."""
        with self._lock:
            state = self._state(name)
            self._commit(state, machine.release_slot(state, slot), [])

    def record_verdict(
        self,
        name: str,
        slot: str,
        evidence: Mapping[str, Any],
        who: str,
        *,
        by: By = UNKNOWN,
        tasks: Mapping[str, str] | None = None,
    ) -> Verdict:
        """Recompute the verdict from its evidence and write it into the journal.

        Args:
            tasks: digest of each golden task, so that a task made easier shows.

        Raises:
            Conflict: the slot is not held, or the evidence is about other releases.
        """
        verdict = judge(evidence)
        with self._lock:
            state = self._state(name)
            self._check_evidence(state, slot, verdict)
            self._keep(verdict.evidence, evidence)
            examined = _examined(self._record(name), verdict, evidence, tasks)
            self._append(
                f"{name}:judged:{slot}",
                machine.Entry(
                    "judged",
                    state.candidate,
                    who,
                    verdict.reason,
                    {**verdict.to_json(), "examined": examined, "by": by.to_json()},
                ),
            )
            return verdict

    def carry_verdict(
        self,
        release: ReleaseRef,
        evidence: Mapping[str, Any],
        source: Mapping[str, Any],
        who: str,
        *,
        by: By = UNKNOWN,
        tasks: Mapping[str, str] | None = None,
    ) -> Verdict:
        """Take in a verdict from another environment: recomputed here from its evidence.

        It lets nothing in by itself: a smoke exam must be sat here, against this champion.

        Args:
            source: the environment's name and its journal line of the verdict.

        Raises:
            InvalidInput: evidence and line do not belong to this release, or to each other.
        """
        verdict = judge(evidence)
        expected = {"candidate": release.digest, "model": release.name}
        line = source.get("line")
        told = dict(line["details"]) if isinstance(line, Mapping) else {}
        for key, value in {**expected, "evidence": told.get("evidence")}.items():
            if getattr(verdict, key) != value:
                raise InvalidInput(
                    f"evidence: {key} = {getattr(verdict, key)!r}: expected {value!r}", param=key
                )
        with self._lock:
            self._refuse_revoked(release)
            self._keep(verdict.evidence, evidence)
            examined = _examined(self._record(release.name), verdict, evidence, tasks)
            details = {**verdict.to_json(), "examined": examined, "by": by.to_json()}
            details["source"] = dict(source)
            key = f"{release.name}:carried:{verdict.evidence}:{release.version}:{new_id()}"
            self._append(key, machine.Entry("carried", release, who, verdict.reason, details))
            return verdict

    def record_smoke(
        self,
        name: str,
        slot: str,
        evidence: Mapping[str, Any],
        who: str,
        *,
        by: By = UNKNOWN,
    ) -> dict[str, Any]:
        """Journal a smoke exam: a sample of the exam, sat here against this champion.

        A sample is too small to prove that nothing is worse; it must be whole, and nothing in it
        may be proven to be worse.

        Raises:
            Conflict: the slot is not held, or the evidence is about other releases.
        """
        verdict = judge(evidence)
        faults = [
            check
            for check in verdict.checks
            if check.outcome == "fail" or (check.kind == "integrity" and check.outcome != "pass")
        ]
        reason = "; ".join(f"{check.name}: {check.note}" for check in faults[:3])
        with self._lock:
            state = self._state(name)
            self._check_evidence(state, slot, verdict)
            self._keep(verdict.evidence, evidence)
            count = len(evidence["candidate_results"])
            reason = reason or f"{count} answered, nothing proven worse"
            details = {**verdict.to_json(), "good": not faults, "by": by.to_json()}
            entry = machine.Entry("smoked", state.candidate, who, reason, details)
            self._append(f"{name}:smoked:{slot}", entry)
            return {"good": not faults, "reason": reason, "verdict": verdict.to_json()}

    def _append(self, key: str, entry: machine.Entry) -> None:
        """A line of its own, without a transition; the caller waits for the journal."""
        assert entry.release is not None
        self._journal.append(
            key=key,
            time=rfc3339(self._clock.now()),
            model=entry.release.name,
            action=entry.action,
            release=str(entry.release),
            who=entry.who,
            reason=entry.reason,
            details=entry.details,
        )

    def _check_evidence(self, state: Rollout, slot: str, verdict: Verdict) -> None:
        if state.phase != "gating" or state.slot != slot or state.candidate is None:
            raise Conflict(f"{state.model}: this gate no longer holds the slot", code="slot_lost")
        manifest = self._bundles.manifest(state.candidate.digest)
        expected = {
            "model": state.model,
            "candidate": state.candidate.digest,
            "champion": state.champion.digest if state.champion else None,
            "runtime": manifest.runtime.fingerprint(),
        }
        for key, value in expected.items():
            if getattr(verdict, key) != value:
                raise Conflict(
                    f"evidence: {key} = {getattr(verdict, key)!r}, but the slot holds {value!r}",
                    code="evidence_mismatch",
                    param=key,
                )


def _examined(
    record: Record,
    verdict: Verdict,
    evidence: Mapping[str, Any],
    tasks: Mapping[str, str] | None,
) -> dict[str, Any]:
    """How this verdict's exam stands to the model's: `present`, `set` (stricter: it is the
    model's from now on) or `proposed` (looser: it needs a second person)."""
    if verdict.exam in record.exams:
        return {"standing": "present", "summary": None}
    summary = summarize(evidence, tasks)
    present = record.summaries.get(record.present or "")
    looser = [] if present is None else loosened(present, summary)
    stricter = [] if present is None else loosened(summary, present)
    return {
        "standing": "proposed" if looser else "set",
        "loosened": looser,
        "tightened": stricter,
        "summary": summary,
    }
