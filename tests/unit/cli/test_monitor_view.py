"""`proa monitor show` drawn from made-up views, as wide as a terminal, narrow, and in a pipe."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console, RenderableType

from proa.cli import make_cli
from proa.cli.monitor_view import fleet_lines, model_lines
from proa.fleet import Fleet
from proa.fleet.preset import Endpoints
from tests.services.monitor import page_views as views


def drawn(lines: Iterable[RenderableType], width: int = 240) -> str:
    """The text that a terminal of that width shows."""
    console = Console(file=StringIO(), width=width, highlight=False)
    for line in lines:
        console.print(line)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_the_fleet_has_a_row_per_model_and_says_what_is_not_known() -> None:
    fleet = views.fifty()
    text = drawn(fleet_lines(fleet, 240))
    rows = text.splitlines()
    assert len(rows) == 51
    assert rows[1].startswith("churn-lima")
    assert "◆ critical" in rows[1]
    assert "half of all values of amount are null" in rows[1]
    scarce = next(row for row in rows if row.startswith("churn-quito"))
    assert scarce.count("not enough data") == 2  # drift and quality, no zero
    unwatched = next(row for row in rows if row.startswith("churn-tokyo"))
    assert "not watched" in unwatched
    assert "none billed" in unwatched
    assert "≈" in next(row for row in rows if row.startswith("churn-oslo"))


def test_an_empty_fleet_is_said() -> None:
    assert drawn(fleet_lines(views.fleet([]), 80)) == "no event has come yet\n"


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_a_narrow_terminal_gets_fewer_columns(width: int) -> None:
    text = drawn(fleet_lines(views.fleet([views.fleet_row(views.LONG)]), width), width)
    assert max(map(len, text.splitlines())) <= width
    assert "drift" in text
    assert ("why" in text) == (width >= 175)
    assert ("errors" in text) == (width >= 110)


def test_a_model_says_the_same_as_its_page() -> None:
    model = views.classic()
    text = drawn(model_lines(model))
    assert text.startswith("flight-delay  classic\n◆ critical  said 24.1 % late")
    for wanted in (
        "AUC", "3 open findings", "feature drift wind_speed", "2.28 ×", "carrier=VX",
        "flight-delay/8 promoted", "by proa-controller", "4.61 USD", "2013-04-29",
        model["findings"][0]["id"],
    ):  # fmt: skip
        assert wanted in text, wanted
    wind = next(row for row in text.splitlines() if row.startswith("wind_speed"))
    assert "▶" in wind  # the bar goes on
    age = next(row for row in text.splitlines() if row.startswith("plane_age"))
    assert "not enough data" in age
    assert "temperature was null" in text
    assert "null burst temperature" not in text  # it is gone: only the story has it


def test_a_language_model_shows_its_topics() -> None:
    text = drawn(model_lines(views.language_model()))
    assert "asyncio · await · task" in text
    assert "was 8.0 %" in text


def test_what_users_wrote_does_not_steer_the_terminal() -> None:
    evil = "\x1b[2J\x1b]0;gone\x07[bold]carrier[/bold]\u202e"
    model = views.classic(evil)
    model["detail"]["features"][0]["name"] = evil
    model["findings"][0] |= {"subject": evil, "message": evil}
    model["slices"][0]["slice"] = evil
    model["story"][0] |= {"title": evil, "text": evil, "who": evil}
    model["health"] = views.health("critical", evil)
    row = views.fleet_row(evil) | {"health": views.health("critical", evil)}
    text = drawn(model_lines(model)) + drawn(fleet_lines(views.fleet([row]), 240))
    assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert "[bold]carrier[/bold]" in text  # and is no markup of ours


class _Platform(Fleet):
    """A fleet whose monitor answers made-up views; no process behind it."""

    def __init__(self) -> None:
        address = "http://127.0.0.1:8090"
        self.endpoints = Endpoints("", "", address, "", "")

    def overview(self) -> dict[str, Any]:
        return views.fifty()

    def look(self, name: str, *, window: str | None = None) -> dict[str, Any]:
        return views.classic(name) | {"asked": window}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("proa.cli.output.Output.fleet", lambda self, person=None: _Platform())

    def invoke(*arguments: str) -> Any:
        return CliRunner().invoke(make_cli(), arguments, catch_exceptions=False)

    return invoke


def test_the_command_line(run: Any) -> None:
    piped = run("monitor", "show")
    assert piped.exit_code == 0
    assert len(piped.output.splitlines()) == 51  # one line per model: a line stays a line
    asked = run("--json", "monitor", "show", "flight-delay", "--window", "2013-04-02")
    assert '"asked": "2013-04-02"' in asked.output
    assert run("monitor", "show", "--window", "2013-04-02").exit_code == 2
    assert run("monitor", "url").output == "http://127.0.0.1:8090/\n"
    address = "http://127.0.0.1:8090/#/models/flight%2Fdelay\n"
    assert run("monitor", "url", "flight/delay").output == address
