"""What the monitor knows of a shadow by later labels."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import httpx

from proa.ledger.tally import Sums
from proa.release.reference import ReleaseRef
from proa.rollout.sequence import mean_of
from proa.rollout.shadow import Truth

__all__ = ["LabelTruths"]

_MARGIN: Final = 0.05
_FEWEST: Final = 10
_REST: Final = 20
"""Parts of rest after one part of asking."""


class LabelTruths:
    """Asks one monitor, in a thread of its own: reading events takes seconds, a tick may not.

    Args:
        url: of the monitor.
        key: with the right `read`.
    """

    def __init__(self, url: str, key: str) -> None:
        self._client = httpx.Client(
            base_url=url,
            headers={"authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(10.0, connect=1.0),
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="truths")
        self._known: dict[tuple[object, ...], _Known] = {}

    def __call__(
        self, model: str, since: str, candidate: ReleaseRef, champion: ReleaseRef, wanted: int
    ) -> Truth | None:
        """The newest paired comparison since a time; None while the monitor has not answered.

        Args:
            wanted: labels the project asks for; there the interval is tightest.
        """
        of = (model, since, candidate, champion, wanted)
        known = self._known.get(of)
        if known is None:
            for other in [key for key in self._known if key[0] == model]:
                del self._known[other]
            known = self._known[of] = _Known()
        if known.asked is not None and known.asked.done():
            known.truth, spent = known.asked.result()
            known.asked, known.rest_until = None, time.monotonic() + _REST * spent
        if known.asked is None and time.monotonic() >= known.rest_until:
            known.asked = self._thread.submit(self._ask, *of)
        return known.truth

    def _ask(
        self, model: str, since: str, candidate: ReleaseRef, champion: ReleaseRef, wanted: int
    ) -> tuple[Truth | None, float]:
        began = time.monotonic()
        query = {"since": since, "champion": str(champion), "candidate": str(candidate)}
        try:
            answer = self._client.get(f"/v1/models/{model}/truth", params=query)
            truth = _truth(answer.json(), wanted) if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            truth = None
        return truth, time.monotonic() - began


@dataclass(slots=True)
class _Known:
    """The newest answer, the question under way, and when the next may be asked."""

    truth: Truth | None = None
    asked: Future[tuple[Truth | None, float]] | None = None
    rest_until: float = 0.0


def _truth(wire: Any, wanted: int) -> Truth:
    excess = Sums(**wire["excess"])
    enough = excess.units >= _FEWEST
    return Truth(
        labels=wire["labels"],
        metric=wire["metric"],
        excess=mean_of(excess, wanted) if enough else None,
        margin=_MARGIN * wire["champion_loss"],
    )
