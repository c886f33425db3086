"""The charts' gateways in front of pods that come and go: no call is lost, shares are kept.

See `gateway_pods` for what is real.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

import aiohttp
import pytest

from proa.http.clock import WallClock, rfc3339
from tests.cluster.access import Cluster
from tests.cluster.gateway_pods import DIGEST, PIECES, GatewayPods, gateway_pods
from tests.cluster.load import INFER, Load
from tests.cluster.report import Report
from tests.processes import wait_until

MODELS = {"m": "classic", "python-help": "llm"}
GATEWAY = "proa-gateway"
STREAMS = 100
REQUESTS = 10_000


@pytest.fixture(scope="module")
def pods(
    cluster: Cluster,
    images_of: Callable[..., dict[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[GatewayPods]:
    """Two gateways, two models with two pods each."""
    images_of("gateway", "postgres", "release")
    home = tmp_path_factory.mktemp("gateways")
    with (
        cluster.namespace(prefix="calls") as namespace,
        gateway_pods(cluster, namespace, home) as made,
    ):
        for model, kind in MODELS.items():
            made.install(model, kind, 2)
            made.route(model, kind, champion=(model, 1, 100))
        yield made


def rolling_update(pods: GatewayPods, name: str) -> None:
    pods.cluster.kubectl("rollout", "restart", "-n", pods.namespace, f"deployment/{name}")
    pods.cluster.ready(pods.namespace, f"deployment/{name}", 300)
    gone(pods, name, 2)


def scale_down(pods: GatewayPods, name: str) -> None:
    for replicas in (3, 1, 2):
        scale = ("scale", "-n", pods.namespace, f"deployment/{name}", f"--replicas={replicas}")
        pods.cluster.kubectl(*scale)
        pods.cluster.ready(pods.namespace, f"deployment/{name}", 300)
        gone(pods, name, replicas)


def eviction(pods: GatewayPods, name: str) -> None:
    for pod in pods.pods(name):
        pods.evict(pod)
    pods.cluster.ready(pods.namespace, f"deployment/{name}", 300)
    gone(pods, name, 2)


def gone(pods: GatewayPods, name: str, left: int) -> None:
    """Wait until those that had to go are gone: a stream may hold them for a while."""
    selector = f"app.kubernetes.io/name={name},app.kubernetes.io/component!=test"

    def done() -> bool:
        return len(pods.cluster.get(pods.namespace, "pods", selector=selector)) == left

    pods.cluster.wait(done, 300, f"{name} has {left} pods")


@pytest.mark.parametrize("move", [rolling_update, scale_down, eviction])
def test_pods_come_and_go_and_no_call_is_lost(
    pods: GatewayPods, report: Report, move: Callable[[GatewayPods, str], None]
) -> None:
    key, since = pods.key("call"), rfc3339(WallClock().now())
    orders = {"deltas": PIECES}
    with Load(
        pods.url, key, classic="m", llm="python-help", streams=STREAMS, orders=orders
    ) as load:
        wait_until(lambda: load.answered > 100 and load.ended >= STREAMS, 90)
        for name in (*MODELS, GATEWAY):
            move(pods, name)
        before = load.ended
        wait_until(lambda: load.ended > before + STREAMS, 90)
    print(load)
    what, lost = move.__name__.replace("_", " "), load.failed.total() + load.truncated.total()
    of = f"{load.answered} calls at {load.sent_per_second:.0f}/s, {load.ended} streams"
    figure = f"{what} of models and gateways: calls and streams lost"
    report.at_most(figure, lost, 0, peer=f"of {of}, {STREAMS} open")
    assert (load.failed, load.truncated) == (Counter(), Counter()), of
    assert load.sent_per_second >= 50, of
    # What clients saw whole stands in the ledger, also when the gateway that answered is gone.
    wait_until(lambda: counted(pods, since) >= load.answered, 60)
    assert counted(pods, since) == load.answered


def test_ten_percent_of_the_units_whichever_gateway_they_meet(
    pods: GatewayPods, report: Report
) -> None:
    pods.install("m", "classic", 1, version=2, name="m-challenger")
    pods.route("m", "classic", champion=("m", 1, 90), challenger=("m-challenger", 2, 10))
    key, since = pods.key("call"), rfc3339(WallClock().now())
    units = [f"unit-{number}" for number in range(REQUESTS)]
    wait_until(lambda: "challenger" in set(tracks(pods, key, units[:100]).values()), 30)
    since = rfc3339(WallClock().now())
    first = tracks(pods, key, units)
    inside = {unit for unit, track in first.items() if track == "challenger"}
    share = 100 * len(inside) / REQUESTS
    report.add(
        f"{REQUESTS:,} requests at 10 %, by unit", share, "%", "", "10 ± 1 %", abs(share - 10) <= 1
    )
    assert abs(share - 10) <= 1
    # New connections, so other gateways: every unit stays where it was.
    some = [*sorted(inside)[:200], *units[:200]]
    assert tracks(pods, key, some) == {unit: first[unit] for unit in some}
    # Both gateways answered, and one ledger knows all of it once they have handed it over.
    wait_until(lambda: counted(pods, since) >= REQUESTS + len(some), 60)
    assert counted(pods, since) == REQUESTS + len(some)
    challenger = pods.ledger.calls.tallies(model="m", since=since)[f"m/2@{DIGEST}"]
    assert challenger.units == len(inside)
    assert all(count > REQUESTS / 10 for count in answered(pods).values())


def counted(pods: GatewayPods, since: str) -> int:
    """Calls of `m` in the ledger."""
    told = pods.ledger.calls.tallies(model="m", since=since)
    return sum(tally.calls for tally in told.values())


def tracks(pods: GatewayPods, key: str, units: list[str]) -> dict[str, str]:
    """The track that answered each unit, asked over 16 new connections."""
    found: dict[str, str] = {}
    headers = {"authorization": f"Bearer {key}"}

    async def ask(mine: list[str]) -> None:
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
            for unit in mine:
                url, who = f"{pods.url}/v2/models/m/infer", {"x-proa-unit": unit}
                async with session.post(url, json=INFER, headers=who) as answer:
                    assert answer.status == 200, await answer.text()
                    found[unit] = answer.headers.get("x-proa-track", "")

    async def main() -> None:
        await asyncio.gather(*(ask(units[start::16]) for start in range(16)))

    asyncio.run(main())
    return found


def answered(pods: GatewayPods) -> dict[str, float]:
    """Calls that each gateway answered, by its own metrics."""
    found = {}
    for pod in pods.pods(GATEWAY):
        name = pod["metadata"]["name"]
        path = f"/api/v1/namespaces/{pods.namespace}/pods/{name}:9090/proxy/metrics"
        lines = pods.cluster.kubectl("get", "--raw", path).splitlines()
        calls = [line for line in lines if line.startswith("proa_gateway_calls_total{")]
        found[name] = sum(float(line.rpartition(" ")[2]) for line in calls)
    return found
