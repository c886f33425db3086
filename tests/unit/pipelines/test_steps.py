"""The lines between steps and runner, and the condition that decides about promotion."""

from __future__ import annotations

import pytest

from proa.errors import Internal, InvalidInput, NotFound, Refused
from proa_pipelines import conditions, runner, steps


def broken(**_: object) -> None:
    raise NotFound("no such table", hint="make it")


def buggy(**_: object) -> None:
    raise ValueError("3 apples")


def fine(**_: object) -> str:
    steps.note("half way")
    steps.facts(rows=3, release="m/1@sha256:" + "0" * 64)
    return "done"


@pytest.fixture(autouse=True)
def _table(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"broken": broken, "buggy": buggy, "fine": fine}
    monkeypatch.setattr(steps, "table", lambda kind: table)


def report(text: str) -> tuple[runner.Report, list[str]]:
    said: list[str] = []
    found = runner.Report(said.append)
    for line in text.splitlines():
        marked = steps.parse(f"    {line}")  # KFP indents what a child prints
        if marked is not None:
            found.take(marked)
    return found, said


def test_a_step_tells_its_facts_and_returns_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert steps.run("classic", "fine", project=".") == "done"
    found, said = report(capsys.readouterr().out)
    assert said == ["    half way"]
    assert found.steps[0]["step"] == "fine"
    assert found.steps[0]["rows"] == 3
    assert found.steps[0]["worked"] >= 0
    assert found.top() == {"release": "m/1@sha256:" + "0" * 64}


def test_a_users_mistake_comes_back_as_the_same_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        steps.run("classic", "broken", project=".")
    assert ended.value.code == NotFound.exit_code
    found, _ = report(capsys.readouterr().out)
    assert isinstance(found.error, NotFound)
    assert (found.error.message, found.error.hint) == ("no such table", "make it")


def test_a_bug_names_step_and_exception(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="3 apples"):
        steps.run("classic", "buggy", project=".")
    found, _ = report(capsys.readouterr().out)
    assert isinstance(found.error, Internal)
    assert found.error.message == "step buggy: ValueError: 3 apples"


@pytest.mark.parametrize("line", ["", "hello", "proa-step", "proa-step {", "proa-step [1]"])
def test_other_lines_are_no_marks(line: str) -> None:
    assert steps.parse(line) is None


def test_an_unknown_stop_is_refused_before_anything_runs(tmp_path: object) -> None:
    with pytest.raises(InvalidInput, match="until = 'soon': expected one of stage, register"):
        runner.run(tmp_path, tmp_path, until="soon")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("until", "verdict", "refused"),
    [
        ("promote", "fail", True),
        ("promote", "inconclusive", True),
        ("promote", "pass", False),
        ("gate", "fail", False),
        ("stage", None, False),
    ],
)
def test_only_a_pass_ends_a_promotion_well(until: str, verdict: str, refused: bool) -> None:
    body = {"until": until, "verdict": verdict, "reason": "why", "project": "m", "release": "m/1"}
    error = runner.refusal(body)
    assert (error is not None) == refused
    if error is not None:
        assert isinstance(error, Refused)
        assert "why" in error.message


class Outputs:
    """The outputs of one finished task, as KFP's store of them gives."""

    def get_task_output(self, task: str, output: str) -> str:
        assert (task, output) == ("my-gate", "Output")
        return "pass"


def test_the_one_condition_of_our_pipelines_is_evaluated() -> None:
    text = "inputs.parameter_values['pipelinechannel--my-gate-Output'] == '{}'"
    assert conditions.holds(text.format("pass"), Outputs())
    assert not conditions.holds(text.format("fail"), Outputs())


def test_any_other_condition_is_an_error_and_never_a_skipped_branch() -> None:
    with pytest.raises(Internal, match="expected an output == a text"):
        conditions.holds("int(inputs.parameter_values['pipelinechannel--n']) == 1", Outputs())
