"""A gateway that lives by the Kubernetes API: what it knows, and what it does when the API is away.

See `gateway_house` for what is real and what the test writes itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster.access import Cluster
from tests.cluster.gateway_house import ClusterHouse, cluster_house
from tests.cluster.wire import Wire
from tests.processes import Processes, answers, wait_until
from tests.services.gateway.conftest import CHAMPION

INFER = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [1.0]}]}
PRICES = {"input_per_million_micro": 1_000_000, "output_per_million_micro": 2_000_000}


@pytest.fixture
def wire(cluster: Cluster, tmp_path: Path) -> Iterator[Wire]:
    wire = Wire(cluster, tmp_path)
    yield wire
    wire.close()


@pytest.fixture
def house(
    cluster: Cluster, namespace: str, wire: Wire, processes: Processes, tmp_path: Path
) -> Iterator[ClusterHouse]:
    """The test writes straight to the API; the gateway asks by way of the wire."""
    with cluster_house(cluster.kubeconfig, namespace, processes, tmp_path) as house:
        house.env = {"KUBECONFIG": str(wire.kubeconfig)}
        yield house


def generation(house: ClusterHouse) -> int:
    return int(house.reader.get("/proa/v1/routes").json()["generation"])


def metric(house: ClusterHouse, name: str) -> float:
    text = httpx.get(f"{house.url}/metrics", trust_env=False).text
    lines = [line for line in text.splitlines() if line.startswith(f"proa_gateway_{name} ")]
    return float(lines[0].rpartition(" ")[2])


def chat(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "{}"}]}


def test_ready_once_the_routes_were_read_be_there_none(
    house: ClusterHouse, wire: Wire, processes: Processes
) -> None:
    wire.cut()
    argv = ["python", "-m", "proa_gateway", "--port", "{port}", "--engine-port"]
    argv += [str(house.engine_port), "--ledger", f"sqlite:///{house.home}/ledger.db"]
    argv += ["--spool", f"{house.home}/spool", *house.sources()]
    started = processes.start(argv, house.env, port=house.port, ready="/healthz")
    assert httpx.get(f"{started.url}/readyz", trust_env=False).json() == {
        "status": "the routes were not read yet"
    }
    wire.mend()
    wait_until(lambda: answers(f"{started.url}/readyz"), 20)
    assert generation(house) == 0
    answer = house.client("call").post("/v2/models/m/infer", json=INFER)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_model")
    assert house.write() == 1
    wait_until(lambda: generation(house) == 1)


def test_a_broken_document_is_refused_aloud_and_the_last_good_one_stays(
    house: ClusterHouse, processes: Processes
) -> None:
    house.pod("m", 0, CHAMPION)
    house.route("m", champion=(CHAMPION, house.url_of("m"), True, 100))
    house.start()
    client = house.client("call")
    assert client.post("/v2/models/m/infer", json=INFER).status_code == 200
    where, good = f"{house.namespace}/proa-routes", 1
    for broken in ({"routes.json": "{"}, {"other": "{}"}):
        house.put("proa-routes", broken)
        wait_until(lambda: metric(house, "routes_refused") == 1)
        told = house.reader.get("/proa/v1/routes").json()
        assert told["generation"] == good
        assert told["error"].startswith(f"{where}: ")
        assert client.post("/v2/models/m/infer", json=INFER).status_code == 200
        good = house.write()
        wait_until(lambda: metric(house, "routes_refused") == 0)
        assert generation(house) == good
    house.delete("proa-routes")
    wait_until(lambda: metric(house, "routes_refused") == 1)
    assert client.post("/v2/models/m/infer", json=INFER).status_code == 200
    assert house.proc is not None
    log = processes.log(house.proc)
    assert f"{where}: " in log
    assert "what was good before stays in force" in log


def test_engines_of_many_are_one_table_and_a_name_in_two_is_told(
    house: ClusterHouse, processes: Processes
) -> None:
    house.pod("one", 0, "", "--model", "eng-1")
    house.pod("two", 0, "", "--model", "eng-2")
    house.put_engines("b-one", {"eng-1": {"url": house.url_of("one"), "prices": PRICES}})
    house.start()
    client = house.client("engine", door="engine")
    ask = lambda model: client.post("/v1/chat/completions", json=chat(model))  # noqa: E731
    assert ask("eng-1").status_code == 200
    assert ask("eng-2").json()["error"]["code"] == "unknown_engine"
    # Younger, though its name comes first: it may add, and cannot take over.
    taken = {"url": house.url_of("two"), "prices": PRICES}
    wait_until(lambda: house.put_engines("a-two", {"eng-1": taken, "eng-2": taken}) is None)
    wait_until(lambda: ask("eng-2").status_code == 200)
    assert ask("eng-1").status_code == 200
    assert metric(house, "engines_refused") == 1
    assert house.proc is not None
    ours = house.namespace
    assert f"engine 'eng-1' stands in {ours}/b-one and in {ours}/a-two" in processes.log(house.proc)
    house.put_engines("a-two", {"eng-2": taken})
    wait_until(lambda: metric(house, "engines_refused") == 0)
    house.delete("b-one")
    wait_until(lambda: ask("eng-1").status_code == 404)
    assert ask("eng-2").status_code == 200


def test_the_wrong_engine_behind_an_identity_answers_404_and_never_a_text(
    house: ClusterHouse,
) -> None:
    """The endpoints of A's service are pods that serve B."""
    house.engine_pod("engine-a", 0, "eng-b")
    house.engine_pod("engine-b", 0, "eng-b")
    for name in ("a", "b"):
        engine = {"url": house.url_of(f"engine-{name}"), "prices": PRICES}
        house.put_engines(f"engine-{name}", {f"eng-{name}": engine})
    house.start()
    client = house.client("engine", door="engine")
    right = client.post("/v1/chat/completions", json=chat("eng-b"))
    assert (right.status_code, right.json()["model"]) == (200, "eng-b")
    for stream in (False, True):
        wrong = client.post("/v1/chat/completions", json={**chat("eng-a"), "stream": stream})
        assert wrong.status_code == 404
        assert "choices" not in wrong.text
        assert "The model `eng-a` does not exist" in wrong.json()["error"]["message"]
    recorded = [(call["engine"], call["status"], call["error"]) for call in house.calls()]
    assert recorded.count(("eng-a", 404, "http_404")) == 2


def test_while_the_api_is_away_the_last_good_copy_serves(house: ClusterHouse, wire: Wire) -> None:
    house.pod("m", 0, CHAMPION)
    house.route("m", champion=(CHAMPION, house.url_of("m"), True, 100))
    house.start()
    client = house.client("call")
    assert client.post("/v2/models/m/infer", json=INFER).status_code == 200
    wire.cut()
    house.write()
    for _ in range(50):
        assert client.post("/v2/models/m/infer", json=INFER).status_code == 200
    assert answers(f"{house.url}/readyz")
    assert generation(house) == 1
    wire.mend()
    wait_until(lambda: generation(house) == 2, 30)
    fresh = json.loads(house.cluster.get("configmaps", house.namespace, "proa-routes")["data"][
        "routes.json"
    ])  # fmt: skip
    assert fresh["generation"] == 2
