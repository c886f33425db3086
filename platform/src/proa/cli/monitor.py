"""`monitor`: how models are, in the terminal as on the monitor's page."""

from __future__ import annotations

from typing import Final

import click
from rich.console import Console

from proa.cli.output import Output
from proa.errors import NotFound

_PIPE: Final = 240


@click.group()
def monitor() -> None:
    """What is seen of models: health, drift, quality, cost, findings, and why."""


@monitor.command("show")
@click.argument("name", required=False)
@click.option("--window", metavar="NAME", help="2013-04-01 or 2013-04-01T10; else the newest.")
@click.pass_obj
def show(output: Output, name: str | None, window: str | None) -> None:
    """The fleet, or one model: the same as on the page, whose address `monitor url` prints."""
    from proa.cli.monitor_view import fleet_lines, model_lines

    if name is None:
        if window is not None:
            raise click.UsageError("--window needs the name of a model")
        view = output.fleet().overview()
    else:
        view = output.fleet().look(name, window=window)
    if output.value(view):
        return
    console = output.console
    if not console.is_terminal:  # in a pipe there is no edge: a line stays a line
        console = Console(highlight=False, width=_PIPE)
    lines = fleet_lines(view, console.width) if name is None else model_lines(view)
    for part in lines:
        console.print(part)


@monitor.command("url")
@click.argument("name", required=False)
@click.option("--stay", is_flag=True, help="Until Ctrl-C; for kubectl proa, whose way there ends.")
@click.pass_obj
def url(output: Output, name: str | None, stay: bool) -> None:
    """Where the page is; it asks for a key with the right `read`, and none is in the address."""
    from threading import Event
    from urllib.parse import quote

    root = output.fleet().endpoints.monitor
    if not root:
        raise NotFound(
            "the platform file has no address of a monitor", hint="add `monitor: https://…` to it"
        )
    address = f"{root}/" if name is None else f"{root}/#/models/{quote(name, safe='')}"
    if not output.value({"url": address}):
        output.line(address)
    if stay:
        output.say("the page is reachable until Ctrl-C")
        Event().wait()


@monitor.command("report")
@click.argument("name")
@click.option("--finding", metavar="ID", help="Of the window that showed it; what it names first.")
@click.pass_obj
def report(output: Output, name: str, finding: str | None) -> None:
    """Write an Evidently report of the present window."""
    found = output.fleet().report(name, finding=finding)
    if not output.value(found):
        output.line(found["path"])
