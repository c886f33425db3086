"""How commands speak: tables for people on stdout, one JSON value for machines."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import orjson
from rich.console import Console
from rich.table import Table

from proa.release.reference import ReleaseRef

if TYPE_CHECKING:
    from proa.fleet import Fleet


@dataclass
class Output:
    """One command's voice, and the platform it speaks to.

    Attributes:
        home: the home folder that was named, None when none was.
        platform: gives the platform file, or None for the platform of a home.
    """

    home: str | None
    as_json: bool
    platform: Callable[[], Path | None] = lambda: None
    console: Console = field(default_factory=lambda: Console(highlight=False))
    notes: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    def fleet(self, person: str | None = None) -> Fleet:
        """The fleet of the platform file, else of the home folder, for the person who asks."""
        from proa.fleet import connect

        return connect(self.home, platform=self.platform(), person=person)

    def value(self, value: Any) -> bool:
        """Print JSON when asked for it; says whether it did."""
        if self.as_json:
            click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))
        return self.as_json

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print a table; numbers are right-aligned."""
        body = [["" if cell is None else cell for cell in row] for row in rows]
        table = Table(box=None, header_style="bold", pad_edge=False)
        for number, name in enumerate(columns):
            numeric = bool(body) and all(isinstance(row[number], int | float) for row in body)
            table.add_column(
                name,
                justify="right" if numeric else "left",
                overflow="fold",
                no_wrap=number + 1 < len(columns),  # the last column holds the sentences
            )
        for row in body:
            table.add_row(*(_cell(cell) for cell in row))
        self.console.print(table)

    def say(self, text: str) -> None:
        """One line for people, on stderr."""
        self.notes.print(text, markup=False, soft_wrap=True)

    def line(self, text: str) -> None:
        """One line of the answer, on stdout."""
        self.console.print(text, markup=False, soft_wrap=True)


def as_person(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--as NAME` of commands that a person answers for."""
    return click.option(
        "--as",
        "person",
        envvar="PROA_PERSON",
        metavar="NAME",
        help="Who decides, for the journal (else PROA_PERSON).",
    )(command)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


_BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def plain(text: object) -> str:
    """Without control characters, nor those that turn the direction of what follows: what a model
    or a user says must not steer the terminal."""
    return "".join("\ufffd" if _steers(char) else char for char in str(text))


def _steers(char: str) -> bool:
    if char in "\n\t":
        return False
    return char in _BIDI or unicodedata.category(char) in ("Cc", "Cs")


def short(release: str | None) -> str:
    """`flight-delay/7`, or `-`."""
    return "-" if release is None else ReleaseRef.parse(release).short


def watch_rollout(output: Output) -> Any:
    """A progress callback that says each new phase and message once, with its seconds."""
    began, last = time.monotonic(), ""

    def show(status: Mapping[str, Any]) -> None:
        nonlocal last
        shares = ", ".join(
            f"{short(release)} {share:.0%}" for release, share in status["traffic"].items()
        )
        text = f"{status['phase']}: {status['message']}" + (f" [{shares}]" if shares else "")
        if text != last:
            output.say(f"{time.monotonic() - began:6.1f} s  {text}")
            last = text

    return show
