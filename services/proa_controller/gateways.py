"""What the controller asks the gateways: which routes they have loaded, what each release did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpx

from proa.ledger.tally import Tally, parse_tally
from proa.release.reference import ReleaseRef


@dataclass(frozen=True, slots=True)
class Gateways:
    """Every gateway replica, asked one after the other.

    Attributes:
        clients: one per gateway; gone through anew at every question.
        known_ready: somebody else says that each of them is ready: one that does not answer is
            no reason to go on without it, but to wait until it is no longer said to be ready.
    """

    clients: Iterable[httpx.Client]
    known_ready: bool = False

    def loaded(self, generation: int) -> bool:
        """Whether every gateway has loaded this generation, and there is at least one.

        A gateway that is down is restarted by somebody else and reads the newest routes first.
        """
        answers = [self._ask(client, "/proa/v1/routes") for client in self.clients]
        if self.known_ready and None in answers:
            return False
        loaded = [answer["generation"] >= generation for answer in answers if answer is not None]
        return bool(loaded) and all(loaded)

    def report(self) -> list[dict[str, Any]]:
        """Every gateway's address, whether it answers, and the generation it routes by."""
        found = []
        for client in self.clients:
            answer = self._ask(client, "/proa/v1/routes")
            generation = None if answer is None else answer["generation"]
            url = str(client.base_url).rstrip("/")
            found.append({"url": url, "ready": answer is not None, "generation": generation})
        return found

    def tallies(
        self, model: str, since: str, *, until: str | None = None, purpose: str = "user"
    ) -> dict[ReleaseRef, Tally] | None:
        """What each release did in [since, until); None when any of it may be missing.

        A silent gateway has calls nobody else knows of; so has a ledger that is younger than
        `since`. Gateways that share a ledger each tell all of it, the last one most.
        """
        parameters = {"model": model, "since": since, "purpose": purpose}
        if until is not None:
            parameters["until"] = until
        ledgers: dict[str, Any] = {}
        for client in self.clients:
            answer = self._ask(client, "/proa/v1/tallies", parameters)
            if answer is None or (until is None and answer["created"] > since):
                return None
            ledgers[answer["ledger"]] = answer["releases"]
        total: dict[ReleaseRef, Tally] = {}
        for releases in ledgers.values():
            for release, wire in releases.items():
                ref = ReleaseRef.parse(release)
                total[ref] = total.get(ref, Tally()) + parse_tally(wire)
        return total

    def _ask(
        self, client: httpx.Client, path: str, parameters: dict[str, str] | None = None
    ) -> Any | None:
        try:
            answer = client.get(path, params=parameters)
        except httpx.HTTPError:
            return None
        return answer.json() if answer.status_code == 200 else None
