"""Addresses in the controller's flags, Events' words, engines and gateways found in a cluster."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from proa.errors import InvalidInput
from proa.release.reference import ReleaseRef
from proa.rollout.machine import Entry
from proa_controller.clustered import Where
from proa_controller.discovery import addresses_of, service_of
from proa_controller.notices import message_of

GOOD = {
    "workloads": "deployments://a,b",
    "engines": "configmaps://c?label=proa.dev/engine",
    "routes": "configmap://p/proa-routes",
    "lease": "p/proa-controller",
}


def test_flags_as_the_chart_gives_them() -> None:
    where = Where.of(argparse.Namespace(**GOOD))
    assert (where.models, where.engines, where.engine_label) == (
        ("a", "b"),
        ("c",),
        "proa.dev/engine",
    )
    assert (where.routes, where.lease) == (("p", "proa-routes"), ("p", "proa-controller"))


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("workloads", "deployments://"),
        ("workloads", "statefulsets://a"),
        ("workloads", "a"),
        ("engines", "configmaps://c"),
        ("engines", "configmaps://?label=x"),
        ("routes", "configmap://p"),
        ("routes", "file:///p/routes"),
        ("lease", "proa-controller"),
    ],
)
def test_a_wrong_address_is_named(flag: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=f"--{flag}={value}".replace("?", r"\?")):
        Where.of(argparse.Namespace(**{**GOOD, flag: value}))


def test_a_service_by_its_url() -> None:
    assert service_of("http://smol.models.svc:8000") == ("smol", "models", 8000)
    assert service_of("http://smol.models.svc.cluster.local:8000") == ("smol", "models", 8000)
    for wrong in ("http://api.openai.com/v1", "http://smol.models.svc", "smol.models.svc:8000"):
        with pytest.raises(InvalidInput):
            service_of(wrong)


def test_only_ready_addresses_count() -> None:
    endpoints: list[dict[str, Any]] = [
        {"addresses": ["10.0.0.1"], "conditions": {"ready": True}},
        {"addresses": ["10.0.0.2"], "conditions": {"ready": False}},
        {"addresses": ["10.0.0.3"], "conditions": {}},
    ]
    assert addresses_of([{"endpoints": endpoints}, {"endpoints": None}]) == {"10.0.0.1", "10.0.0.3"}


def test_an_event_says_what_by_whom_and_what_mends_it() -> None:
    release = ReleaseRef("m", 7, "sha256:" + "a" * 64)
    refused = Entry(
        "refused", release, "ann", "no verdict", {"code": "GateMissing", "hint": "proa gate m/7"}
    )
    assert message_of(refused) == "m/7 by ann: no verdict; proa gate m/7"
    assert message_of(Entry("promoted", release, "proa-controller", "")) == "m/7"
    assert len(message_of(Entry("aborted", release, "x", "y" * 5000))) <= 1000
