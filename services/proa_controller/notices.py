"""Events on a model's Deployment: what the controller did and refused, where `kubectl` shows it.

Events are for people who look today; the journal is the record. They are sent by a thread of their
own, and dropped when the API is away.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from proa.cluster.api import Cluster, Object
from proa.errors import NotFound, ProaError
from proa.rollout.machine import Entry

__all__ = ["Notices"]

log = logging.getLogger("proa.controller")

_SOURCE: Final = "proa-controller"
_WAITING: Final = 1000
_REMEMBERED: Final = 1000
_LONGEST: Final = 1000
"""Characters of a message; the API takes 1024."""

REASONS: Final[Mapping[str, str]] = {
    "requested": "RolloutRequested",
    "overridden": "RulesOverridden",
    "step": "CanaryStep",
    "step_passed": "CanaryStepPassed",
    "step_restarted": "CanaryStepRestarted",
    "held": "CanaryHeld",
    "paused": "CanaryPaused",
    "resumed": "CanaryResumed",
    "aborted": "RolloutAborted",
    "promoted": "Promoted",
    "undo_requested": "UndoRequested",
    "undone": "Undone",
    "put_back": "PutBack",
    "rollback_requested": "RollbackRequested",
    "rolled_back": "RolledBack",
    "slot_freed": "GateGone",
    "revoked": "Revoked",
    "adopted": "Adopted",
    "retraining_asked": "RetrainingAsked",
    "retraining_held": "RetrainingHeld",
    "retraining_started": "RetrainingStarted",
    "retraining_judged": "RetrainingJudged",
    "retraining_failed": "RetrainingFailed",
    "retraining_withdrawn": "RetrainingWithdrawn",
    "retraining_done": "RetrainingDone",
}
"""Journal action → reason of its Event; refusals give their code."""
_WARNINGS: Final = frozenset(
    {
        *("aborted", "refused", "undone", "put_back", "revoked", "held"),
        *("retraining_held", "retraining_failed"),
    }
)


class Notices:
    """One Event per model, reason and message; said again, its count rises.

    Args:
        about: a model's name → the Deployment to tell of it, or None.
    """

    def __init__(self, cluster: Cluster, *, about: Callable[[str], Object | None]) -> None:
        self._cluster = cluster
        self._about = about
        self._queue: queue.Queue[tuple[Object, str, str, str] | None] = queue.Queue(_WAITING)
        self._said: OrderedDict[tuple[str, str, str], tuple[str, int]] = OrderedDict()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send what waits, a short while at most."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(timeout=2)

    def __call__(self, model: str, entry: Entry) -> None:
        """Tell of an entry of the journal; returns at once."""
        refused = entry.action == "refused"
        reason = str(entry.details.get("code")) if refused else REASONS.get(entry.action)
        if reason is None:
            return
        kind = "Warning" if entry.action in _WARNINGS else "Normal"
        try:
            item = self._about(model)
            if item is not None:
                self._queue.put_nowait((item, kind, reason, message_of(entry)))
        except (ProaError, queue.Full) as error:
            log.info("%s: no event %s: %s", model, reason, error)

    def _run(self) -> None:
        while (told := self._queue.get()) is not None:
            try:
                self._send(*told)
            except ProaError as error:
                log.info("an event was not taken: %s", error)
            except Exception:
                log.exception("an event was not sent")

    def _send(self, item: Object, kind: str, reason: str, message: str) -> None:
        metadata, now = item["metadata"], _now()
        key = (metadata["uid"], reason, message)
        name, count = self._said.get(key, ("", 0))
        if count:
            patch = {"count": count + 1, "lastTimestamp": now}
            try:
                self._cluster.patch("events", metadata["namespace"], name, patch, manager=_SOURCE)
            except NotFound:  # events are kept for an hour
                count = 0
        if not count:
            name = _name(metadata["name"], key, now)
            body = _event(item, name, kind, reason, message, now)
            self._cluster.create("events", metadata["namespace"], body, manager=_SOURCE)
        self._said[key] = (name, count + 1)
        self._said.move_to_end(key)
        while len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)


def message_of(entry: Entry) -> str:
    """One sentence for `kubectl describe`: what, by whom, and the command that mends it."""
    release = entry.release.short if entry.release is not None else ""
    by = f" by {entry.who}" if entry.who not in ("", _SOURCE) else ""
    hint = entry.details.get("hint")
    text = f"{release}{by}: {entry.reason}" if entry.reason else f"{release}{by}"
    text = f"{text}; {hint}" if hint else text
    return text.strip(": ")[:_LONGEST]


def _event(
    item: Object, name: str, kind: str, reason: str, message: str, now: str
) -> dict[str, Any]:
    metadata = item["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": kind,
        "reason": reason,
        "message": message,
        "source": {"component": _SOURCE},
        "reportingComponent": _SOURCE,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }


def _name(deployment: str, key: tuple[str, str, str], now: str) -> str:
    digest = hashlib.sha256(" ".join((*key, now)).encode()).hexdigest()
    return f"{deployment}.{digest[:16]}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
