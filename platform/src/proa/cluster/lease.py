"""Leader election on a Lease of coordination.k8s.io, by client-go's rules.

Clocks of two machines are never compared: who waits measures with its own clock for how long the
record did not change. Who leads stops to lead by its own clock when it could not renew for
`renew` seconds, before another may take over after `seconds`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from proa.cluster.api import Cluster, Object
from proa.errors import Conflict, NotFound, ProaError

__all__ = ["Election"]

log = logging.getLogger("proa.cluster")
_MANAGER: Final = "proa-controller"


class Election:
    """One candidate for a Lease.

    Args:
        identity: unique among the candidates; others read it as who leads.
        seconds: how long an unchanged record is respected by the others.
        renew: for how long after its last renewal a leader leads; below `seconds`.
        retry: seconds between two attempts.
        clock: seconds of a clock that only runs on.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        identity: str,
        *,
        seconds: float = 15.0,
        renew: float = 10.0,
        retry: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not retry < renew < seconds:
            raise ValueError(f"expected retry < renew < seconds: {retry}, {renew}, {seconds}")
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self.identity = identity
        self._seconds = seconds
        self._renew = renew
        self._retry = retry
        self._clock = clock
        self._until = float("-inf")
        self._seen: tuple[Any, ...] | None = None
        self._seen_at = float("-inf")
        self._holder: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="election", daemon=True)

    @property
    def left(self) -> float:
        """Seconds for which this candidate leads without another renewal; 0 when it does not."""
        return max(0.0, self._until - self._clock())

    @property
    def leading(self) -> bool:
        return self.left > 0

    @property
    def holder(self) -> str | None:
        """Who leads, as last read; None when nobody does or it is not known."""
        return self._holder or None

    def start(self) -> None:
        """Begin to take part."""
        self._thread.start()

    def stop(self) -> None:
        """Stop leading, and let go of the Lease so that another need not wait."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=self._seconds)
        led, self._until = self.leading, float("-inf")
        if led:
            try:
                self._release()
            except ProaError as error:
                log.info("the lease was not given back: %s", error)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.attempt()
            except ProaError as error:
                log.warning("lease %s/%s: %s", self._namespace, self._name, error)
            except Exception:
                log.exception("lease %s/%s", self._namespace, self._name)
            self._stop.wait(self._retry)

    def attempt(self) -> bool:
        """Try once to renew or to take the Lease; whether this candidate leads now."""
        began = self._clock()
        try:
            lease = self._cluster.get("leases", self._namespace, self._name)
        except NotFound:
            return self._create(began)
        spec = lease["spec"]
        record = tuple(
            spec.get(key)
            for key in ("holderIdentity", "acquireTime", "renewTime", "leaseTransitions")
        )
        if record != self._seen:
            self._seen, self._seen_at = record, self._clock()
        holder = spec.get("holderIdentity") or None
        self._holder = holder
        if holder not in (None, self.identity):
            wait = max(self._seconds, float(spec.get("leaseDurationSeconds") or 0))
            if self._clock() < self._seen_at + wait:
                self._until = float("-inf")
                return False
        return self._take(lease, began, again=holder == self.identity and self.leading)

    def _create(self, began: float) -> bool:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {**self._spec(), "acquireTime": _now(), "leaseTransitions": 0},
        }
        try:
            self._cluster.create("leases", self._namespace, body, manager=_MANAGER)
        except Conflict:
            return False
        return self._led(began)

    def _take(self, lease: Object, began: float, *, again: bool) -> bool:
        """Write ourselves into the very record that was read."""
        spec = {**lease["spec"], **self._spec()}
        if not again:
            spec["acquireTime"] = _now()
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        try:
            self._cluster.replace(
                "leases", self._namespace, {**lease, "spec": spec}, manager=_MANAGER
            )
        except Conflict:
            return self.leading  # another candidate was quicker, or the next attempt reads why
        return self._led(began)

    def _led(self, began: float) -> bool:
        """The write is in force since some time after `began`: count from there."""
        if not self.leading:
            log.info("%s leads %s/%s", self.identity, self._namespace, self._name)
        self._until = began + self._renew
        self._holder = self.identity
        return self.leading

    def _release(self) -> None:
        lease = self._cluster.get("leases", self._namespace, self._name)
        if lease["spec"].get("holderIdentity") != self.identity:
            return
        spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        self._cluster.replace("leases", self._namespace, {**lease, "spec": spec}, manager=_MANAGER)

    def _spec(self) -> dict[str, Any]:
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": round(self._seconds),
            "renewTime": _now(),
        }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
