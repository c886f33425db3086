"""`promote rollback undo abort pause resume status history`: moving releases."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from proa.errors import NotFound, Refused, Unavailable
from proa.fleet.wire import Wire
from proa.release.reference import ReleaseRef
from proa.release.registry import CHALLENGER
from proa.rollout.policy import Policy

_POLL_SECONDS = 0.1


class Rollouts(Wire):
    """Verbs that move releases, and what came of them."""

    def promote(
        self,
        ref: ReleaseRef,
        *,
        reason: str = "",
        policy: Policy | Mapping[str, Any] | None = None,
        wait: bool = True,
        dry_run: bool = False,
        override: bool = False,
        progress: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Ask for a rollout, and wait for its end unless told otherwise.

        Args:
            policy: the canary's settings; a mapping is laid over the model's own, which are also
                what None means.
            dry_run: change nothing; the status has a `plan` with every refusal and every step.
            override: go over refusals; needs the right to approve, a person and a reason.

        Returns:
            The model's status afterwards.

        Raises:
            Refused: not admitted, or the canary did not hold.  Conflict: one is under way.
        """
        body = {
            "release": str(ref),
            "reason": reason,
            "policy": policy.to_json() if isinstance(policy, Policy) else dict(policy or {}),
            "dry_run": dry_run,
            "override": override,
        }
        status: dict[str, Any] = self._controller("POST", f"/v1/models/{ref.name}/promote", body)
        if dry_run:
            return status
        with suppress(Unavailable, NotFound):  # a note for people: the request is under way
            self.registry.set_alias(ref, CHALLENGER)
        if not wait:
            return status
        status = self.settle(ref.name, progress=progress)
        if status["champion"] != str(ref):
            raise Refused(
                f"{ref.short} did not become champion: {status['message']}",
                hint=f"proa history {ref.name}",
                code="RolloutStopped",
            )
        return status

    def settle(
        self,
        name: str,
        *,
        seconds: float = 3600.0,
        progress: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Wait until nothing is under way and every gateway knows it; return the status.

        Raises:
            Unavailable: it took longer than `seconds`.
        """
        deadline = time.monotonic() + seconds
        while True:
            status = self.status(name)
            if progress is not None:
                progress(status)
            if status["phase"] == "idle" and (status["routed"] or status["champion"] is None):
                return status
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{name} is still {status['phase']} after {seconds:.0f} s: {status['message']}",
                    hint=f"proa status {name}",
                )
            time.sleep(_POLL_SECONDS)

    def rollback(self, name: str, *, reason: str = "", wait: bool = True) -> dict[str, Any]:
        """Return to the previous release.

        Returns:
            The status, with `traffic_seconds` (until every call went to the previous release)
            and `seconds` (until its template was back as well).
        """
        began = time.monotonic()
        path = f"/v1/models/{name}/rollback"
        status: dict[str, Any] = self._controller("POST", path, {"reason": reason})
        target = status["previous"]
        moved: float | None = None
        while wait:
            status = self.status(name)
            if moved is None and status["routed"] and status["traffic"].get(target) == 1.0:
                moved = time.monotonic() - began
            if status["phase"] == "idle" and status["routed"]:
                break
            time.sleep(_POLL_SECONDS / 2)
        seconds = time.monotonic() - began
        return {**status, "traffic_seconds": moved or seconds, "seconds": seconds}

    def undo(self, name: str, *, reason: str = "") -> dict[str, Any]:
        """What `kubectl rollout undo` does: the template before this one, followed by the alias."""
        before = self.status(name)
        self._controller("POST", f"/v1/models/{name}/undo", {"reason": reason})
        deadline = time.monotonic() + 60
        while (status := self.status(name))["sequence"] == before["sequence"]:
            if time.monotonic() > deadline:
                raise Unavailable(f"{name}: the undo was not seen within 60 s")
            time.sleep(_POLL_SECONDS)
        return status

    def abort(self, name: str, *, reason: str = "") -> dict[str, Any]:
        """Stop a canary: its weight goes to 0."""
        body = {"reason": reason}
        return dict(self._controller("POST", f"/v1/models/{name}/abort", body))

    def pause(self, name: str, *, reason: str = "") -> dict[str, Any]:
        """Hold a canary at its step."""
        body = {"reason": reason}
        return dict(self._controller("POST", f"/v1/models/{name}/pause", body))

    def resume(self, name: str, *, reason: str = "") -> dict[str, Any]:
        """Let a paused canary go on."""
        body = {"reason": reason}
        return dict(self._controller("POST", f"/v1/models/{name}/resume", body))

    def status(self, name: str) -> dict[str, Any]:
        """What runs, what is under way, the share of traffic per release."""
        return dict(self._controller("GET", f"/v1/models/{name}"))

    def models(self) -> list[dict[str, Any]]:
        """The status of every model."""
        return list(self._controller("GET", "/v1/models")["models"])

    def platform(self) -> dict[str, Any]:
        """Who leads, and which routes each gateway has: `leader`, `routes`, `gateways`."""
        return dict(self._controller("GET", "/v1/platform"))

    def history(self, name: str | None = None) -> list[dict[str, Any]]:
        """The journal, oldest line first."""
        path = "/v1/journal" if name is None else f"/v1/models/{name}/history"
        lines: list[dict[str, Any]] = []
        while True:
            after = lines[-1]["seq"] if lines else 0
            page = self._controller("GET", f"{path}?after={after}")["lines"]
            lines += page
            if not page:
                return lines
