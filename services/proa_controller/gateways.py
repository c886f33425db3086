"""What the controller asks the gateways: which routes they have loaded, what each release did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from proa.release.reference import ReleaseRef
from proa.rollout.analysis import Counts


@dataclass(frozen=True, slots=True)
class Gateways:
    """Every gateway replica, asked one after the other."""

    clients: Sequence[httpx.Client]

    def loaded(self, generation: int) -> bool:
        """Whether every gateway that answers has loaded this generation, and at least one has.

        A gateway that is down is restarted by somebody else and reads the newest routes first.
        """
        answers = [self._ask(client, "/proa/v1/routes") for client in self.clients]
        loaded = [answer["generation"] >= generation for answer in answers if answer is not None]
        return bool(loaded) and all(loaded)

    def counts(self, model: str, since: str) -> dict[ReleaseRef, Counts] | None:
        """Exact counts of user calls per release since a time; None if any gateway is silent."""
        total: dict[ReleaseRef, Counts] = {}
        for client in self.clients:
            parameters = {"model": model, "since": since, "purpose": "user"}
            answer = self._ask(client, "/proa/v1/counts", parameters)
            if answer is None:
                return None
            for release, item in answer["releases"].items():
                ref = ReleaseRef.parse(release)
                latency = item["latency_ms"]
                counts = Counts(item["calls"], item["errors"], latency and latency["p95"])
                total[ref] = _add(total.get(ref), counts)
        return total

    def _ask(
        self, client: httpx.Client, path: str, parameters: dict[str, str] | None = None
    ) -> Any | None:
        try:
            answer = client.get(path, params=parameters)
        except httpx.HTTPError:
            return None
        return answer.json() if answer.status_code == 200 else None


def _add(one: Counts | None, other: Counts) -> Counts:
    """Percentiles of two gateways do not add; the worse of the two is the careful answer."""
    if one is None:
        return other
    known = [value for value in (one.p95_ms, other.p95_ms) if value is not None]
    return Counts(one.calls + other.calls, one.errors + other.errors, max(known, default=None))
