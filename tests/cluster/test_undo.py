"""People move releases without proa: `kubectl rollout undo` at every step, aliases in MLflow.

One end state, whoever moved: what runs is the champion, the alias says so, the history names who.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from proa.release.reference import ReleaseRef
from proa.release.registry import CHALLENGER, CHAMPION, Registry
from tests.cluster.access import Cluster
from tests.cluster.rollout_house import RolloutHouse, rollout_house
from tests.mlflow_server import start_mlflow
from tests.processes import Processes, wait_until


@pytest.fixture(scope="module")
def house(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RolloutHouse]:
    """One platform with a real MLflow; each test has a model of its own."""
    home = tmp_path_factory.mktemp("house")
    mlflow = Processes(tmp_path_factory.mktemp("mlflow"))
    try:
        url = start_mlflow(mlflow, mlflow.folder).url
        with (
            cluster.namespace(prefix="undo") as namespace,
            rollout_house(cluster, namespace, home, mlflow=url) as it,
        ):
            yield it
    finally:
        mlflow.close()


def two_champions(house: RolloutHouse, model: str) -> tuple[ReleaseRef, ReleaseRef]:
    """A model whose second release is champion; both passed their exam against the first."""
    house.install(model, replicas=1)
    one, two = house.create(model), house.create(model)
    for ref in (one, two):
        house.gate(ref)
        house.promote(ref, steps=[])
        house.settled(model, ref)
    return one, two


def alias(house: RolloutHouse, model: str, name: str) -> ReleaseRef | None:
    pointer = Registry(house.mlflow).pointers(model).get(name)
    return None if pointer is None else pointer.ref(model)


def check_end(house: RolloutHouse, model: str, champion: ReleaseRef, who: str) -> None:
    """One end state."""
    status = house.settled(model, champion)
    assert status["phase"] == "idle"
    wait_until(lambda: alias(house, model, CHAMPION) == champion, 30, every=0.3)
    assert house.predict(model).headers["x-proa-release"] == str(champion)
    wait_until(
        lambda: (
            house.deployment(model)["metadata"]["labels"]["proa.dev/version"]
            == str(champion.version)
        ),
        20,
        every=0.3,
    )
    undone = [line for line in house.history(model) if line.startswith("undone")]
    assert f"{champion} {who}:" in undone[-1]


def at_rest(house: RolloutHouse, model: str, third: ReleaseRef) -> None:
    """Nothing is under way."""


def in_a_canary(house: RolloutHouse, model: str, third: ReleaseRef) -> None:
    house.promote(third, steps=[10])
    wait_until(lambda: house.status(model)["ready"]["challenger"], 90, every=0.2)


def while_pods_are_replaced(house: RolloutHouse, model: str, third: ReleaseRef) -> None:
    house.promote(third, steps=[])
    wait_until(lambda: house.running(model) == str(third), 30, every=0.05)


def in_a_rollback(house: RolloutHouse, model: str, third: ReleaseRef) -> None:
    house.ask("POST", f"/v1/models/{model}/rollback", {"reason": "worse"})


def while_a_gate_holds_the_slot(house: RolloutHouse, model: str, third: ReleaseRef) -> None:
    house.ask("POST", f"/v1/models/{model}/gate", {"release": str(third)})


STEPS: list[Callable[[RolloutHouse, str, ReleaseRef], None]] = [
    at_rest, in_a_canary, while_pods_are_replaced, in_a_rollback, while_a_gate_holds_the_slot,
]  # fmt: skip


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_kubectl_rollout_undo_at_every_step(
    house: RolloutHouse, step: Callable[[RolloutHouse, str, ReleaseRef], None]
) -> None:
    model = step.__name__.replace("_", "-")
    one, two = two_champions(house, model)
    third = house.create(model)
    house.gate(third)
    step(house, model, third)
    before = house.running(model)
    house.undo(model)
    wait_until(lambda: house.running(model) != before, 10, every=0.05)
    chosen = house.running(model)
    assert chosen in (str(one), str(two))
    check_end(house, model, ReleaseRef.parse(chosen), "kubectl")
    assert "Undone" in house.events(model)


def test_an_undo_to_the_empty_first_revision_is_put_back(house: RolloutHouse) -> None:
    house.install("emptied", replicas=1)
    ref = house.create("emptied")
    house.gate(ref)
    house.promote(ref, steps=[])
    house.settled("emptied", ref)
    house.undo("emptied")
    wait_until(lambda: "put_back" in house.actions("emptied"), 30, every=0.2)
    house.settled("emptied", ref)
    assert "PutBack" in house.events("emptied")
    wait_until(lambda: house.predict("emptied").status_code == 200, 30, every=0.2)


def test_an_alias_asks_and_an_alias_tells(house: RolloutHouse) -> None:
    """`challenger` is a request, `champion` a report; moved by hand it is a request too."""
    one, two = two_champions(house, "aliases")
    wait_until(lambda: alias(house, "aliases", CHAMPION) == two, 30, every=0.3)
    third = house.create("aliases")
    registry = Registry(house.mlflow)
    registry.set_alias(third, CHALLENGER)
    wait_until(lambda: "GateMissing" in house.events("aliases"), 30, every=0.3)
    house.gate(third)
    registry.delete_alias("aliases", CHALLENGER)
    seen = lambda: house.state("aliases")["aliases"]["seen"]  # noqa: E731
    wait_until(lambda: seen() is None, 30, every=0.3)
    # A canary needs calls: the project's rules say that this model has none.
    house.ask(
        "POST",
        "/v1/models/aliases/releases",
        {"release": str(third), "reason": "", "rollout": {"steps": []}},
    )
    registry.set_alias(third, CHALLENGER)
    house.settled("aliases", third)
    wait_until(lambda: alias(house, "aliases", CHAMPION) == third, 30, every=0.3)
    assert any("mlflow alias" in line for line in house.history("aliases"))
    registry.set_alias(one, CHAMPION)
    wait_until(lambda: alias(house, "aliases", CHAMPION) == third, 30, every=0.3)
    assert house.running("aliases") == str(third)
