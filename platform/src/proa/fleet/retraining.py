"""`retraining`: what asked for new releases, and what became of it."""

from __future__ import annotations

from typing import Any

from proa.fleet.wire import Wire

__all__ = ["Retrainings"]


class Retrainings(Wire):
    """Verbs about requests that findings made."""

    def retraining(self, name: str) -> dict[str, Any]:
        """A model's rules, what holds a request back now, and its requests, newest first.

        Returns:
            model, section (None: nothing is retrained by itself), now and labelled (event time),
            triage, waits, blocked, stopped, requests: `id state cause at attempt windows release
            verdict reason findings story`.

        Raises:
            NotFound: the model is not known.
        """
        return dict(self._controller("GET", f"/v1/models/{name}/retraining"))

    def retrainings(self) -> list[dict[str, Any]]:
        """That of every model with a section `retrain:`."""
        return list(self._controller("GET", "/v1/retraining")["models"])

    def approve_retraining(self, name: str, *, reason: str) -> dict[str, Any]:
        """Let the request that waits for a person run."""
        return self._decide_retraining(name, "approve", reason)

    def refuse_retraining(self, name: str, *, reason: str) -> dict[str, Any]:
        """End the open request, and its run."""
        return self._decide_retraining(name, "refuse", reason)

    def reset_retraining(self, name: str, *, reason: str) -> dict[str, Any]:
        """Forget candidates that failed in a row: two of them stop everything."""
        return self._decide_retraining(name, "reset", reason)

    def _decide_retraining(self, name: str, verb: str, reason: str) -> dict[str, Any]:
        path = f"/v1/models/{name}/retraining/{verb}"
        return dict(self._controller("POST", path, {"reason": reason}))
