"""Requests and reports by alias in a real MLflow, and rollouts while it is down."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from proa.errors import Unavailable
from proa.release.reference import ReleaseRef
from proa.release.registry import CHALLENGER, CHAMPION
from tests.processes import wait_until
from tests.services.controller.platform import SmallPlatform


@pytest.fixture(scope="module", autouse=True)
def _mlflow(small: SmallPlatform) -> None:
    small.start_mlflow()


def first(small: SmallPlatform, name: str) -> ReleaseRef:
    ref = small.create(name, 1)
    small.gate(ref)
    small.fleet.promote(ref)
    return ref


def test_creates_at_once_never_share_a_version(small: SmallPlatform) -> None:
    with ThreadPoolExecutor(6) as pool:
        refs = list(pool.map(lambda number: small.create("versions", number), range(8)))
    assert sorted(ref.version for ref in refs) == list(range(1, 9))
    assert len({ref.digest for ref in refs}) == 8
    again = small.create("versions", 3)
    assert again in refs
    assert [line["action"] for line in small.fleet.history("versions")] == ["created"] * 8


def test_the_page_in_mlflow_tells_the_story(small: SmallPlatform) -> None:
    ref = small.create("page", 1)
    manifest = small.fleet.manifest(ref)
    small.fleet.registry.tell(ref, manifest, {"verdict": "pass", "because": "it is good"})
    registered = small.fleet.releases("page")[0]
    assert (registered.ref, registered.verdict, registered.kind) == (ref, "pass", "classic")


def test_the_champion_is_reported_and_put_back(small: SmallPlatform) -> None:
    one = first(small, "reported")
    registry = small.fleet.registry
    wait_until(lambda: registry.alias("reported", CHAMPION) == one, deadline=20)
    two = small.create("reported", 2)
    registry.set_alias(two, CHAMPION)  # by hand, without a verdict
    wait_until(lambda: registry.alias("reported", CHAMPION) == one, deadline=20)
    wait_until(
        lambda: "refused" in [line["action"] for line in small.fleet.history("reported")],
        deadline=20,
    )
    assert small.fleet.status("reported")["champion"] == str(one)


def test_the_alias_challenger_is_a_request(small: SmallPlatform) -> None:
    first(small, "asked")
    two = small.create("asked", 2)
    small.gate(two)
    small.fleet.registry.set_alias(two, CHALLENGER)
    wait_until(lambda: small.fleet.status("asked")["phase"] != "idle", deadline=20)
    small.fleet.abort("asked", reason="seen enough")
    wait_until(lambda: small.fleet.status("asked")["phase"] == "idle", deadline=20)
    requests = [line for line in small.fleet.history("asked") if line["action"] == "requested"]
    assert requests[-1]["who"] == "mlflow alias challenger"


def test_serving_and_rollouts_go_on_while_mlflow_is_down(small: SmallPlatform) -> None:
    one = first(small, "alone")
    two = small.release("alone")
    pid = small.pid("mlflow")
    os.kill(pid, signal.SIGSTOP)
    try:
        assert small.predict("alone").headers["x-proa-release"] == str(one)
        small.gate(two)
        small.promote(two, steps=[], warm_seconds=0)
        assert small.fleet.settle("alone", seconds=60)["champion"] == str(two)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_mlflow_killed_is_restarted_and_creates_say_so_meanwhile(small: SmallPlatform) -> None:
    before = small.create("restarted", 1)
    pid = small.pid("mlflow")
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Unavailable, match="MLflow"):
        small.create("restarted", 2)
    wait_until(lambda: small.complete("mlflow") and small.pid("mlflow") != pid, deadline=120)
    assert small.fleet.release("restarted") == before
    assert small.create("restarted", 2).version == 2
