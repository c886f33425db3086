"""The whole story at test scale: real MLflow, kfp.local, Feast, BentoML and vLLM; nothing is faked.

Told once; each test asserts the facts of one chapter. It takes minutes, most of them vLLM's start,
the pipelines' imports and the exams. The language model sits every fourth question of its exam
under the same rules and floors (`make bench-exam` and the project itself have all of them).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proa.embedded.home import Home
from proa.embedded.up import down
from story.__main__ import CHAPTERS, tell_story
from story.chapters import CLASSIC, LLM
from story.report import write_report
from story.scale import TEST
from story.telling import Told, write_summary

ENGINE = Path(__file__).resolve().parents[2] / ".venv-engine" / "bin" / "python"

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not ENGINE.exists() and os.environ.get("PROA_TEST_ENGINE") != "required",
        reason="the engine's environment is not here: make setup-engine",
    ),
]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A unix socket's path is at most 107 bytes: keep it short.
    return tmp_path_factory.mktemp("s")


@pytest.fixture(scope="module")
def told(out: Path) -> Iterator[list[Told]]:
    chapters, seconds = tell_story(out, TEST)
    assert write_summary(chapters, CHAPTERS, seconds, out / "summary.json"), [
        (chapter.name, chapter.facts.get("error")) for chapter in chapters if not chapter.ok
    ]
    write_report(chapters, seconds, out / "report.html")
    yield chapters
    down(Home(out / "home"))


def facts(told: list[Told], number: int) -> dict[str, Any]:
    return told[number - 1].facts


def test_everything_comes_up(told: list[Told]) -> None:
    assert set(facts(told, 1)["parts"]) >= {"gateway", "engine", "mlflow", "monitor", "controller"}
    assert len(facts(told, 1)["engines"]) == 1


def test_the_classic_release_answers_by_row_and_by_entity(told: list[Told]) -> None:
    chapter = facts(told, 2)
    assert chapter["verdict"] == "pass"
    assert chapter["champion"] == chapter["release"]
    assert set(chapter["answered_by"]) == {chapter["release"]}
    assert chapter["rows_answered"] == 3
    assert chapter["reasons"] == 10  # the strongest ones
    assert 0 < chapter["by_entity"] < 1


def test_the_language_release_answers_with_sources_streamed_and_whole(told: list[Told]) -> None:
    chapter = facts(told, 3)
    assert chapter["verdict"] == "pass"
    assert chapter["champion"] == chapter["release"]
    assert set(chapter["answered_by"]) == {chapter["release"]}
    assert chapter["citations"]
    assert chapter["chunks"] > 3
    assert chapter["same_text_streamed"]
    assert chapter["context"]["retrieved"] > 0


@pytest.mark.parametrize("model", [CLASSIC, LLM])
def test_a_bad_change_is_refused_and_the_champion_never_noticed(
    told: list[Told], model: str
) -> None:
    chapter = facts(told, 4)[model]
    assert chapter["verdict"] == "fail"
    assert chapter["exit_code"] == 6
    assert "the verdict is fail" in chapter["said"]
    assert "Traceback" not in chapter["said"]
    assert chapter["champion_untouched"]


@pytest.mark.parametrize("model", [CLASSIC, LLM])
def test_a_good_change_is_promoted_and_comes_back_whole(told: list[Told], model: str) -> None:
    chapter = facts(told, 5)[model]
    before, promoted, after = chapter["before"], chapter["promoted"], chapter["after"]
    assert chapter["verdict"] == "pass"
    assert promoted["release"] == promoted["answered_by"] == chapter["release"]
    assert after == before
    assert promoted != before
    assert after["selftest"]["passed"]
    assert not chapter["faults"]
    assert len(chapter["answers"]) == 2
    assert chapter["changed"]


def test_the_spring_opens_one_request_and_its_release_is_promoted_by_itself(
    told: list[Told],
) -> None:
    chapter = facts(told, 6)
    broken = [found for found in chapter["findings"] if found["type"] == "calibration"]
    assert broken[0]["since"] < "2013-05"
    assert broken[0]["release"] == chapter["before"]
    assert len(chapter["requests"]) == 1
    request = chapter["requests"][0]
    assert request["state"] == "done"
    assert request["findings"]
    assert chapter["verdicts"][-1] == "pass"
    assert set(chapter["verdicts"][:-1]) <= {"inconclusive"}
    assert chapter["promoted"] == request["release"] != chapter["before"]
    assert chapter["days"] > 30
    assert chapter["labels"] > 0.9 * chapter["flights"]


def test_the_probabilities_are_truer_after_it(told: list[Told]) -> None:
    calibration = facts(told, 6)["calibration"]
    assert calibration["before"]["gap"] < -0.03
    assert abs(calibration["after"]["gap"]) < abs(calibration["before"]["gap"])


def test_the_summary_adds_up(told: list[Told], out: Path) -> None:
    chapter = facts(told, 7)
    assert chapter["events_missing"] == {CLASSIC: 0, LLM: 0}
    features = {line["key"]: line for line in chapter["costs"]["feature"]}
    assert features["boarding-app"]["calls"] > 10
    assert features["editor-help"]["tokens_out"] > 100
    assert features["editor-help"]["cost_micro"] > 0
    verdicts = [item["verdict"] for item in chapter["releases"][CLASSIC]]
    assert [*verdicts[:3], verdicts[-1]] == ["pass", "fail", "pass", "pass"]
    assert [item["verdict"] for item in chapter["releases"][LLM]] == ["pass", "fail", "pass"]
    actions = [line[1] for line in chapter["journal"]]
    assert actions.count("promoted") == 5
    assert actions.count("refused") == 2
    assert actions.count("rolled_back") == 2
    assert (out / "report.html").stat().st_size > 10_000


def test_nothing_is_left_running(told: list[Told], out: Path) -> None:
    for status in (out / "home" / "status").glob("*.json"):
        assert '"pid": null' in status.read_text() or '"processes": []' in status.read_text()
