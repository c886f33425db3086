"""EndpointSlices as the Kubernetes API tells them (discovery.k8s.io/v1), read into addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from proa_gateway.balance import Address

__all__ = ["SERVICE_LABEL", "ServicePort", "addresses_of", "service_of"]

SERVICE_LABEL: Final = "kubernetes.io/service-name"
_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_URL: Final = re.compile(
    rf"http://({_LABEL})\.({_LABEL})\.svc(?:\.cluster\.local)?(?::(\d{{1,5}}))?"
)


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service."""

    namespace: str
    name: str
    port: int


def service_of(url: str) -> ServicePort | None:
    """The Service of `http://SERVICE.NAMESPACE.svc[:port]`; None for every other URL."""
    match = _URL.fullmatch(url)
    if match is None:
        return None
    return ServicePort(match[2], match[1], int(match[3] or 80))


def addresses_of(slices: Iterable[Mapping[str, Any]], port: int) -> list[Address]:
    """Every address of one Service's slices, of one family: v4 where there is any.

    A slice names the ports of pods, not of the Service. Its only port is meant, else the one with
    the Service's number (charts give both the same), else the one called `http`; a slice with
    none of them says nothing. A slice without ports means every port.
    """
    families: dict[str, list[Address]] = {"IPv4": [], "IPv6": []}
    for piece in slices:
        number = _pod_port(piece.get("ports") or [], port)
        family = families.get(piece.get("addressType", ""))
        if number is None or family is None:
            continue
        for endpoint in piece.get("endpoints") or []:
            family += _addresses(endpoint, number, v6=family is families["IPv6"])
    return families["IPv4"] or families["IPv6"]


def _addresses(endpoint: Mapping[str, Any], port: int, *, v6: bool) -> Iterable[Address]:
    told = endpoint.get("conditions") or {}
    # A condition that is not told counts as the API defines it: ready unless said otherwise,
    # serving as ready is, terminating only when said.
    ready = told.get("ready") is not False
    serving = told.get("serving")
    for host in endpoint.get("addresses") or []:
        yield Address(
            f"[{host}]:{port}" if v6 else f"{host}:{port}",
            ready=ready,
            serving=ready if serving is None else bool(serving),
            terminating=bool(told.get("terminating")),
        )


def _pod_port(ports: list[Mapping[str, Any]], port: int) -> int | None:
    tcp = [one for one in ports if one.get("protocol", "TCP") == "TCP"]
    if not tcp:
        return None if ports else port
    if len(tcp) > 1:
        same = [one for one in tcp if one.get("port") == port]
        tcp = same or [one for one in tcp if one.get("name") == "http"]
    return (tcp[0].get("port") or port) if tcp else None
