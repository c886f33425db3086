"""`create`, `gate`, `diff`, `history`: releases and their exams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from proa.cli.output import Output, short
from proa.errors import InvalidInput, Refused


def release_commands() -> list[click.Command]:
    """The commands of this file."""
    return [create, gate, diff, history, show]


@click.command()
@click.argument("project", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="As train.trials=5.")
@click.option(
    "--until",
    type=click.Choice(["register", "gate", "promote"]),
    default="register",
    show_default=True,
    help="How far the pipeline goes.",
)
@click.pass_obj
def create(output: Output, project: Path, settings: tuple[str, ...], until: str) -> None:
    """Run a project's pipeline: from data to a registered release."""
    result = output.fleet().create(
        project, overrides=parse_settings(settings), until=until, on_line=output.say
    )
    if not output.value(result):
        output.line(result["release"])


def parse_settings(settings: tuple[str, ...]) -> dict[str, str]:
    """Read `key=value` pairs."""
    pairs = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise InvalidInput(f"--set {setting!r}: expected key=value, as train.trials=5")
        pairs[key] = value
    return pairs


@click.command()
@click.argument("release")
@click.option(
    "--exam",
    "project",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The project whose exam.yaml to sit (else the one it was created from).",
)
@click.pass_obj
def gate(output: Output, release: str, project: Path | None) -> None:
    """Let a release sit its exam beside the champion; exit code 6 unless it passes."""
    fleet = output.fleet()
    ref = fleet.release(release)
    exam = fleet.exam_of(ref.name, project)
    verdict = fleet.gate(ref, exam, progress=_progress(output))
    if not output.value(verdict.to_json()):
        rows = [
            (check.outcome, check.kind, check.name, check.value, check.champion, check.note)
            for check in verdict.checks
        ]
        output.table(["outcome", "kind", "check", "value", "champion", "note"], rows)
        output.line(f"{verdict.value}: {verdict.reason}")
    if verdict.value != "pass":
        raise Refused(f"{ref.short}: {verdict.value}: {verdict.reason}", code="GateFailed")


def _progress(output: Output) -> Any:
    last = ""

    def show(side: str, done: int, total: int) -> None:
        nonlocal last
        text = f"exam: {side} {100 * done // max(total, 1) // 25 * 25} % of {total}"
        if text != last:
            output.say(text)
            last = text

    return show


@click.command()
@click.argument("before")
@click.argument("after", required=False)
@click.pass_obj
def diff(output: Output, before: str, after: str | None) -> None:
    """What changed between two releases; with one, since the champion."""
    fleet = output.fleet()
    two = fleet.release(after or before)
    one = fleet.release(before) if after else fleet.release(f"{two.name}@champion")
    changes, lines = fleet.diff(one, two)
    if output.value({"changes": [change.to_json() for change in changes], "text": lines}):
        return
    output.say(f"{one.short} → {two.short}")
    if not changes:
        output.line("no difference")
        return
    rows = [(change.key, _brief(change.before), _brief(change.after)) for change in changes]
    output.table(["key", "before", "after"], rows)
    for line in lines:
        output.line(line)


def _brief(value: object) -> str:
    text = "-" if value is None else str(value)
    return text[:19] + "…" if text.startswith("sha256:") else text[:60]


@click.command()
@click.argument("name", required=False)
@click.pass_obj
def history(output: Output, name: str | None) -> None:
    """The journal: every decision, who made it and why."""
    lines = output.fleet().history(name)
    if output.value(lines):
        return
    rows = [
        (
            line["time"][:19].replace("T", " "),
            short(line["release"]) if line["release"] else line["model"],
            line["action"],
            line["who"],
            line["reason"],
        )
        for line in lines
    ]
    output.table(["time (UTC)", "release", "action", "who", "reason"], rows)


@click.command()
@click.argument("release")
@click.pass_obj
def show(output: Output, release: str) -> None:
    """One release's manifest."""
    fleet = output.fleet()
    ref = fleet.release(release)
    manifest = fleet.manifest(ref)
    if not output.value({"release": str(ref), "manifest": manifest.model_dump(mode="json")}):
        from proa.release.page import release_page

        output.line(f"# {ref.short}\n\n{release_page(manifest, links={})}")
