"""Which endpoint of a service gets the next call: the ready one with the fewest in flight.

Pure: it knows neither Kubernetes nor HTTP. Who calls it holds one `Endpoint` for each address for
as long as the address is known, so that calls in flight survive every change of the list.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["AVOID_SECONDS", "Address", "Endpoint", "choose", "eligible", "renewed"]

AVOID_SECONDS: Final = 5.0
"""How long an endpoint that could not be connected to comes last."""


@dataclass(frozen=True, slots=True)
class Address:
    """An endpoint as Kubernetes describes it.

    Attributes:
        place: `host:port`, a v6 host in brackets.
        ready: takes new calls.
        serving: still answers; with `terminating`, only as long as it drains.
    """

    place: str
    ready: bool = True
    serving: bool = True
    terminating: bool = False


@dataclass(slots=True, eq=False)
class Endpoint:
    """What this process knows of one address.

    Attributes:
        in_flight: calls whose answer has not reached its end.
        chosen: the turn in which it was chosen last.
        avoided_until: on the caller's monotonic clock, in seconds.
    """

    place: str
    in_flight: int = 0
    chosen: int = 0
    avoided_until: float = 0.0


def eligible(addresses: Iterable[Address]) -> list[str]:
    """The places that calls may go to: the ready ones; when there are none, those that drain.

    A place may stand in two slices while it moves from one to the other: the better one counts.
    """
    ready, draining = dict[str, None](), dict[str, None]()
    for address in addresses:
        if address.ready and not address.terminating:
            ready[address.place] = None
        elif address.serving and address.terminating:
            draining[address.place] = None
    return list(ready or draining)


def renewed(known: Mapping[str, Endpoint], places: Sequence[str]) -> dict[str, Endpoint]:
    """The endpoints of these places; who was known keeps its counts."""
    return {place: known.get(place) or Endpoint(place) for place in places}


def choose(
    endpoints: Iterable[Endpoint], *, now: float, tried: Collection[Endpoint] = ()
) -> Endpoint | None:
    """The endpoint for the next call, or None when each was tried.

    Fewest calls in flight win, among equals whoever was chosen longest ago; an endpoint to avoid
    comes after every other one.
    """
    return min(
        (endpoint for endpoint in endpoints if endpoint not in tried),
        key=lambda endpoint: (endpoint.avoided_until > now, endpoint.in_flight, endpoint.chosen),
        default=None,
    )
