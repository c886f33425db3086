"""`init` and `check-contract`: the first minutes with a model of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from proa.cli.output import Output
from proa.errors import InvalidInput


def project_commands() -> list[click.Command]:
    """The commands of this file."""
    return [init, check_contract]


@click.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(["classic", "llm"]), required=True)
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder to write (else NAME in this one).",
)
@click.pass_obj
def init(output: Output, name: str, kind: str, into: Path | None) -> None:
    """Write a small project that runs as written, with its exam; nothing is overwritten."""
    from proa.project.scaffold import write_project

    folder = into or Path(name)
    written = write_project(name, kind=kind, folder=folder)
    if output.value({"folder": str(folder), "files": [str(path) for path in written]}):
        return
    for path in written:
        output.say(f"wrote {path}")
    output.line(f"proa create {folder} --until promote")


@click.command("check-contract")
@click.argument("url")
@click.option("--name", required=True, help="The model's name.")
@click.option("--kind", type=click.Choice(["classic", "llm"]), default="classic", show_default=True)
@click.option("--row", "rows", multiple=True, metavar="JSON", help="A row to ask about.")
@click.option("--release", help="What it must say it serves (else what /release says).")
@click.pass_obj
def check_contract(
    output: Output, url: str, name: str, kind: str, rows: tuple[str, ...], release: str | None
) -> None:
    """Look whether a process honours the HTTP contract (services/CONTRACT.md); else exit code 6."""
    from proa.http.contract import check_contract as check

    report = check(url, name=name, rows=[_row(row) for row in rows], release=release, kind=kind)
    if not output.value(report.to_json()):
        for found in report.findings:
            said = "holds   " if found.holds else "BROKEN  "
            output.line(f"{said}{found.point}" + ("" if found.holds else f": {found.seen}"))
        if kind == "classic" and not rows:
            output.say("answers were not looked at: give --row '{\"column\": value}'")
    report.require()


def _row(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"--row: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInput(f'--row: {text!r}: expected an object, as {{"age": 41}}')
    return value
