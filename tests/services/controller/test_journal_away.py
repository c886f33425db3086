"""The controller while the journal's Postgres is away: undo works, lines wait and come once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proa.errors import Unavailable
from proa.ledger.evidence import TableEvidence
from proa.ledger.journal import Journal
from proa.ledger.postgres import Postgres
from tests.contract.ledger.conftest import served
from tests.postgres import Server
from tests.services.controller.plant import MODEL, CrashingJournal, Plant, remembering, stock


class ServedPlant(Plant):
    """A plant whose journal and evidence are on Postgres."""

    def __init__(self, url: str) -> None:
        self.database = Postgres(url, connections=2)
        super().__init__()

    def restart(self) -> None:
        super().restart()
        self.journal = CrashingJournal(Journal(self.database), self.points)
        self.controller._journal = self.journal  # type: ignore[assignment]
        self.controller._evidence = TableEvidence(self.database)

    def close(self) -> None:
        self.database.close()
        super().close()

    def waiting(self) -> list[str]:
        """Actions of the lines that are kept with the state."""
        return [line["action"] for line in self.controller._states.unwritten(MODEL)]

    def is_written(self) -> bool:
        return not self.controller._waiting(MODEL)


@pytest.fixture
def plant(postgres: Server) -> Iterator[ServedPlant]:
    with remembering():
        plant = ServedPlant(served(postgres))
        try:
            plant.first()
            plant.judge(stock()[2])
            plant.promote(stock()[2])
            plant.settle()
            plant.judge(stock()[3])
            assert plant.state.champion == stock()[2]
            yield plant
        finally:
            plant.close()


def test_a_rollback_is_done_at_once_and_journaled_later(
    plant: ServedPlant, postgres: Server
) -> None:
    before = plant.actions()
    postgres.stop()
    try:
        plant.rollback()
        plant.run(until=lambda: plant.state.champion == stock()[1])
        plant.run(3)
        assert plant.waiting()[-1] == "rolled_back"
        # What needs to read the journal does not guess.
        with pytest.raises(Unavailable):
            plant.promote(stock()[3])
        plant.restart()  # and a new process goes on with the lines of the old one
        plant.run(3)
        assert plant.state.champion == stock()[1]
    finally:
        postgres.start()
    plant.run(200, until=plant.is_written)
    plant.check_journal()
    told = plant.actions()[len(before) :]
    assert told.count("rolled_back") == 1
    plant.judge(stock()[3])
    plant.promote(stock()[3])
    plant.settle()
    assert plant.state.champion == stock()[3]
    assert plant.failed_calls == []


def test_a_rollout_under_way_comes_to_its_end(plant: ServedPlant, postgres: Server) -> None:
    plant.promote(stock()[3])
    plant.run(2)
    postgres.stop()
    try:
        plant.run(60, until=lambda: plant.state.champion == stock()[3])
        plant.run(3)
        assert "promoted" in plant.waiting()
    finally:
        postgres.start()
    plant.run(200, until=plant.is_written)
    plant.check_journal()
    assert plant.actions().count("promoted") == 3
    assert plant.failed_calls == []
