"""The pages beside the charts name commands that exist, and link to what is there."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from proa.cli import make_cli
from tests.charts import render

PAGES = sorted(
    path
    for folder in (render.CHARTS, render.ROOT / "manifests")
    for pattern in ("*.md", "*/*.md", "*/templates/NOTES.txt")
    for path in folder.glob(pattern)
)
COMMAND = re.compile(r"`(?:kubectl )?proa ([a-z][^`]*)`|^ {4}proa ([a-z].*)$", re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """Page and command line, without `proa`, comments and what a template fills in."""
    found = []
    for path in PAGES:
        for match in COMMAND.finditer(path.read_text()):
            line = (match[1] or match[2]).partition("#")[0]
            line = re.sub(r"{{[^}]*}}", "X", line).replace("…", "").strip()
            found.append((str(path.relative_to(render.ROOT)), line))
    return found


def test_there_are_commands_to_look_at() -> None:
    assert len(commands()) > 15
    assert {"charts/proa/RUNBOOKS.md", "charts/proa/DAY-TWO.md"} <= {page for page, _ in commands()}


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_a_command_exists(page: str, line: str) -> None:
    words = shlex.split(line)
    command: click.Command = make_cli()
    while isinstance(command, click.Group):
        assert words, f"{page}: `proa {line}` names a group, no command"
        name = words.pop(0)
        assert name in command.commands, f"{page}: there is no `proa … {name}`"
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert given - {"--help"} <= known, f"{page}: `proa {line}`"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(render.ROOT)))
def test_links_lead_somewhere(path: object) -> None:
    page = next(item for item in PAGES if item == path)
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
