"""Admission as the controller asks for it: the record of a model's journal, its rules, its case."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from proa.errors import ProaError, Refused, Unavailable
from proa.project.rollout import Freeze
from proa.release.reference import ReleaseRef
from proa.rollout import machine
from proa.rollout.admission import Case, revoked
from proa.rollout.people import UNKNOWN, By
from proa.rollout.policy import Policy
from proa.rollout.record import Record
from proa.rollout.revocation import enforce
from proa.rollout.rules import Rules, over, parse_rules
from proa.rollout.state import Rollout
from proa_controller.desk import Desk

log = logging.getLogger("proa.controller")


class Admission(Desk):
    """What the journal says today, and whether a release may go."""

    def __init__(self, *, freezes: Callable[[], Sequence[Freeze]] = tuple, **parts: Any) -> None:
        super().__init__(**parts)
        self._freezes = freezes
        self._records: dict[str, Record] = {}

    def _record(self, name: str) -> Record:
        """A model's record, up to date.

        Raises:
            Unavailable: the journal cannot be read.
        """
        record = self._records.get(name, Record())
        try:
            lines = self._journal.lines(name, after=record.seq, limit=-1)
        except (Unavailable, OSError) as error:
            raise Unavailable(f"the journal cannot be read: {error}") from error
        self._records[name] = record.add(line.to_json() for line in lines)
        return record

    def _last_record(self, name: str) -> Record:
        """The record as far as it can be read: turns and status go on without the journal."""
        began = time.monotonic()
        try:
            if not self._rests():
                return self._record(name)
        except Unavailable as error:
            log.warning("%s: %s", name, error)
            self._rest_after(began)
        return self._records.get(name, Record())

    def _rules(self, record: Record) -> Rules:
        return parse_rules(record.section)

    def _policy(self, record: Record, policy: Policy | Mapping[str, Any] | None) -> Policy:
        if isinstance(policy, Policy):
            return policy
        return over(self._rules(record), policy or {})

    def _case(self, state: Rollout, release: ReleaseRef, by: By = UNKNOWN) -> Case:
        record = self._record(release.name)
        rules, fault = self._rules(record), None
        try:
            platform = tuple(self._freezes())
        except ProaError as error:
            platform, fault = (), error.message
        runtime, missing, broken = "", None, None
        try:
            manifest = self._whole(release)
            runtime, missing = manifest.runtime.fingerprint(), self._world.missing_engine(manifest)
        except Refused as error:
            broken = error.message.partition(": ")[2]
        return Case(
            release=release,
            champion=state.champion,
            runtime=runtime,
            record=record,
            by=by,
            now=self._clock.now(),
            rules=Rules(rules.policy, rules.approval, rules.freeze + platform, rules.said),
            missing_engine=missing,
            broken=broken,
            freeze_fault=fault,
        )

    def _refuse_revoked(self, release: ReleaseRef) -> None:
        line = self._record(release.name).revoked.get(release.digest)
        if line is not None:
            raise revoked(release, line).error()

    def _enforce(self, state: Rollout, seen: machine.Seen) -> machine.Step | None:
        # Only this process writes, and a revocation reads the record: turns need not.
        record = self._records.get(state.model) or self._last_record(state.model)
        if not record.revoked:
            return None
        record = self._last_record(state.model)
        return enforce(state, seen, revoked=record.revoked, good=self._good(record))

    def _returnable(self, state: Rollout) -> Rollout:
        """The state, its previous release one that may serve again."""
        record = self._last_record(state.model)
        if state.previous is None or state.previous.digest not in record.revoked:
            return state
        good = [release for release in self._good(record) if release != state.champion]
        return replace(state, previous=good[0] if good else None, warm_until=None)

    def _good(self, record: Record) -> list[ReleaseRef]:
        return [ref for ref in record.good_before(None) if self._bundles.has(ref.digest)]
