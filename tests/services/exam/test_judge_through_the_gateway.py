"""A rubric judge asks through the engine door of a real gateway process.

Faked: the engine (`tests/standins/engine.py` through its own process), which has no opinions: what
is seen here is who is asked, who pays and which key may ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from proa.exam.judge import EngineJudge
from proa.exam.scorers import Rubric
from tests.processes import Processes, wait_until
from tests.services.gateway.conftest import ENGINE, House

RUBRIC = Rubric(ask="Is it right?", min=4)


@pytest.fixture
def house(processes: Processes, tmp_path: Path) -> Iterator[House]:
    house = House(processes, tmp_path)
    argv = ["python", "tests/standins/engine.py", "--model", ENGINE, "--port", "{port}"]
    house.engine(processes.start(argv, ready="/health").url)
    house.start()
    yield house
    house.close()


def test_the_call_is_a_judge_s_and_its_tokens_are_billed(house: House) -> None:
    key = house.key("engine", "judge", team="platform", feature="pipelines").text
    with EngineJudge(url=house.engine_url, key=key, engine=ENGINE, under_test={ENGINE}) as judge:
        rating = judge.rate(rubric=RUBRIC, question="How wide?", answer="70")
        assert judge.self_judged
    assert rating.score is None
    assert rating.why.startswith("not JSON: 'You said: Question:")
    wait_until(lambda: len(house.calls()) == 1)
    (call,) = house.calls()
    assert (call["door"], call["purpose"], call["engine"]) == ("engine", "judge", ENGINE)
    assert (call["team"], call["feature"], call["status"]) == ("platform", "pipelines", 200)
    assert call["tokens_in"] > 20
    assert call["cost_micro"] > 0


@pytest.mark.parametrize(
    ("rights", "engine", "why"),
    [
        (("judge", "call"), ENGINE, "HTTP 403"),
        (("engine", "judge"), "eng-other", "HTTP 404: there is no engine 'eng-other'"),
    ],
)
def test_who_may_not_ask_gets_no_score(
    house: House, rights: tuple[str, ...], engine: str, why: str
) -> None:
    with EngineJudge(url=house.engine_url, key=house.key(*rights).text, engine=engine) as judge:
        rating = judge.rate(rubric=RUBRIC, question="How wide?", answer="70")
    assert rating.score is None
    assert rating.why.startswith(why)
