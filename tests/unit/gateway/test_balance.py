"""The rule of which endpoint gets a call, and what it is told by EndpointSlices."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa_gateway.balance import AVOID_SECONDS, Address, Endpoint, choose, eligible, renewed
from proa_gateway.services import Service
from proa_gateway.slices import ServicePort, addresses_of, service_of

ENDPOINTS = st.lists(
    st.builds(
        Endpoint,
        st.text("abc", min_size=1),
        in_flight=st.integers(0, 5),
        chosen=st.integers(0, 9),
        avoided_until=st.sampled_from([0.0, 50.0, 150.0]),
    ),
    max_size=6,
)
ADDRESSES = st.lists(
    st.builds(Address, st.sampled_from("abcd"), st.booleans(), st.booleans(), st.booleans()),
    max_size=6,
)


@given(ENDPOINTS, st.data())
def test_nobody_better_is_left_out(endpoints: list[Endpoint], data: st.DataObject) -> None:
    tried = [one for one in endpoints if data.draw(st.booleans())]
    best = choose(endpoints, now=100.0, tried=tried)
    left = [one for one in endpoints if one not in tried]
    assert (best is None) == (not left)
    if best is None:
        return
    assert best in left
    healthy = [one for one in left if one.avoided_until <= 100.0]
    rivals = healthy or left
    assert best in rivals  # whom nobody could reach only when nobody else is left
    assert best.in_flight == min(one.in_flight for one in rivals)
    assert best.chosen == min(one.chosen for one in rivals if one.in_flight == best.in_flight)


@given(st.integers(1, 7), st.integers(1, 5))
def test_idle_endpoints_take_turns(count: int, rounds: int) -> None:
    endpoints = [Endpoint(str(number)) for number in range(count)]
    got = []
    for turn in range(1, count * rounds + 1):
        endpoint = choose(endpoints, now=0.0)
        assert endpoint is not None
        endpoint.chosen = turn
        got.append(endpoint.place)
    assert got == [str(number) for number in range(count)] * rounds


@given(st.integers(1, 6), st.lists(st.booleans(), min_size=1, max_size=80))
def test_calls_under_way_never_differ_by_more_than_what_ended(
    count: int, events: list[bool]
) -> None:
    """Starts alone keep all within one of each other; ends only ever lower the busiest's rivals."""
    endpoints = [Endpoint(str(number)) for number in range(count)]
    for turn, start in enumerate(events, 1):
        if start:
            endpoint = choose(endpoints, now=0.0)
            assert endpoint is not None
            assert endpoint.in_flight == min(one.in_flight for one in endpoints)
            endpoint.in_flight, endpoint.chosen = endpoint.in_flight + 1, turn
        else:
            busiest = max(endpoints, key=lambda one: one.in_flight)
            busiest.in_flight = max(0, busiest.in_flight - 1)
        counts = [one.in_flight for one in endpoints]
        assert max(counts) - min(counts) <= 1


@given(ADDRESSES)
def test_who_drains_is_asked_only_when_nobody_is_ready(addresses: list[Address]) -> None:
    places = eligible(addresses)
    assert len(places) == len(set(places))
    ready = {one.place for one in addresses if one.ready and not one.terminating}
    draining = {one.place for one in addresses if one.terminating and one.serving}
    assert set(places) == (ready or draining)


@given(ADDRESSES, ADDRESSES)
def test_counts_outlive_a_change_of_the_list(one: list[Address], other: list[Address]) -> None:
    first = renewed({}, eligible(one))
    for number, endpoint in enumerate(first.values()):
        endpoint.in_flight = number + 1
    second = renewed(first, eligible(other))
    assert list(second) == eligible(other)
    for place, endpoint in second.items():
        assert endpoint is first.get(place, endpoint)
        assert (endpoint.in_flight > 0) == (place in first)


def piece(*hosts: str, ports: Any = (8080,), family: str = "IPv4", **told: bool) -> dict[str, Any]:
    return {
        "metadata": {"name": "s"},
        "addressType": family,
        "ports": [{"name": f"p{n}", "port": n, "protocol": "TCP"} for n in ports],
        "endpoints": [{"addresses": [host], "conditions": told} for host in hosts],
    }


def places(*slices: dict[str, Any], port: int = 8080) -> list[str]:
    return eligible(addresses_of(slices, port))


def test_slices_become_addresses() -> None:
    assert places(piece("10.0.0.1", "10.0.0.2")) == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert places(piece("10.0.0.1"), piece("10.0.0.1", "10.0.0.3")) == [
        "10.0.0.1:8080",
        "10.0.0.3:8080",
    ]
    assert places(piece("fd00::7", family="IPv6")) == ["[fd00::7]:8080"]
    both = (piece("fd00::7", family="IPv6"), piece("10.0.0.1"))
    assert places(*both) == ["10.0.0.1:8080"]  # one pod, two addresses: it counts once
    assert places(piece("example.org", family="FQDN")) == []
    assert places({"metadata": {}, "addressType": "IPv4", "ports": None, "endpoints": None}) == []


def test_conditions_mean_what_the_api_says() -> None:
    assert places(piece("10.0.0.1")) == ["10.0.0.1:8080"]  # not told: ready
    assert places(piece("10.0.0.1", ready=False, serving=False)) == []
    draining = piece("10.0.0.9", ready=False, serving=True, terminating=True)
    assert places(draining) == ["10.0.0.9:8080"]
    assert places(draining, piece("10.0.0.1", ready=True)) == ["10.0.0.1:8080"]
    # A Service with publishNotReadyAddresses calls even those ready.
    assert places(piece("10.0.0.9", ready=True, terminating=True), piece("10.0.0.1")) == [
        "10.0.0.1:8080"
    ]


def test_the_port_is_the_pods() -> None:
    assert places(piece("10.0.0.1", ports=[9999]), port=80) == ["10.0.0.1:9999"]
    assert places(piece("10.0.0.1", ports=[9090, 8080])) == ["10.0.0.1:8080"]
    assert places(piece("10.0.0.1", ports=[])) == ["10.0.0.1:8080"]
    named = piece("10.0.0.1", ports=[7000, 7001])
    assert places(named) == []
    named["ports"][1]["name"] = "http"
    assert places(named) == ["10.0.0.1:7001"]
    named["ports"] = [{"port": 8080, "protocol": "UDP"}]
    assert places(named) == []


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://m.ns.svc:8080", ServicePort("ns", "m", 8080)),
        ("http://m.ns.svc", ServicePort("ns", "m", 80)),
        ("http://my-model.team-a.svc.cluster.local:1", ServicePort("team-a", "my-model", 1)),
        ("http://127.0.0.1:8080", None),
        ("http://m.ns:8080", None),
        ("http://m.ns.svc:8080/path", None),
        ("http://m.ns.svc.evil.example:80", None),
        ("https://m.ns.svc:443", None),
        ("unix:///run/m.ns.svc", None),
    ],
)
def test_a_url_names_a_service_or_none(url: str, port: ServicePort | None) -> None:
    assert service_of(url) == port


def test_a_service_without_slices_has_only_its_name_left() -> None:
    service = Service(lambda: 0.0)
    assert not service.known
    service.update([piece()], 8080)
    assert service.known
    assert service.choose() is None  # known, and nobody is there
    service.update([piece("10.0.0.1", ports=[1, 2])], 8080)
    assert not service.known  # slices that do not say which port
    service.update([], 8080)
    assert not service.known


def test_who_could_not_be_reached_comes_last_for_a_while() -> None:
    now = [0.0]
    service = Service(lambda: now[0])
    service.update([piece("10.0.0.1", "10.0.0.2")], 8080)
    first = service.choose()
    assert first is not None
    service.avoid(first)
    other = {endpoint.place for endpoint in (service.choose() for _ in range(5)) if endpoint}
    assert first.place not in other
    assert service.choose([next(e for e in [service.choose()] if e)]) is first
    now[0] = AVOID_SECONDS
    assert {e.place for e in (service.choose() for _ in range(2)) if e} == {
        "10.0.0.1:8080",
        "10.0.0.2:8080",
    }
