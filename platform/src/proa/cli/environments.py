"""`environments`: other platforms that releases are promoted to."""

from __future__ import annotations

from pathlib import Path

import click

from proa.cli.output import Output
from proa.errors import InvalidInput


@click.group(invoke_without_command=True)
@click.pass_context
def environments(context: click.Context) -> None:
    """The environments this platform promotes to; see `promote --to`."""
    if context.invoked_subcommand is not None:
        return
    output: Output = context.obj
    found = output.fleet().environments()
    if output.value({name: item.to_json() for name, item in found.items()}):
        return
    if not found:
        output.say("none yet: proa environments add prod --home FOLDER")
        return
    rows = [
        (name, str(item.home or item.urls.get("controller")), str(item.key_file or "its own"))
        for name, item in found.items()
    ]
    output.table(["name", "where", "key"], rows)


@environments.command("add")
@click.argument("name")
@click.option(
    "--home",
    "there",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The home of a platform on this machine.",
)
@click.option("--url", "urls", multiple=True, metavar="PART=URL", help="As controller=https://…")
@click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The key to use there (else the home's own).",
)
@click.option("--replace", is_flag=True, help="Write over one of the same name.")
@click.pass_obj
def add(
    output: Output,
    name: str,
    there: Path | None,
    urls: tuple[str, ...],
    key_file: Path | None,
    replace: bool,
) -> None:
    """Make another platform known here: its home, or the URLs of its parts and a key."""
    from proa.embedded.environments import Environment

    parts = {}
    for text in urls:
        part, equals, url = text.partition("=")
        if not equals or not url:
            raise InvalidInput(f"--url {text!r}: expected PART=URL, as controller=https://…")
        parts[part] = url
    home, key = (None if path is None else path.absolute() for path in (there, key_file))
    output.fleet().add_environment(Environment(name, home, parts, key), replace=replace)
    output.say(f"next: proa promote NAME/N --to {name}")
