"""`history`, `why`, `journal`: what was decided, when, by whom, on what grounds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from proa.cli.output import Output, short

if TYPE_CHECKING:
    from proa.rollout.timeline import Because, Moment


def journal_commands() -> list[click.Command]:
    """The commands of this file."""
    return [history, why, journal]


@click.command()
@click.argument("name", required=False)
@click.option(
    "--at",
    "when",
    metavar="TIME",
    help="What ran then and why: 2026-11-21T11:30:00Z, a date, or '2 hours ago'.",
)
@click.pass_obj
def history(output: Output, name: str | None, when: str | None) -> None:
    """The journal: every decision, who made it and why. Lines are ordered by number."""
    if when is not None:
        _at(output, name, when)
        return
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


def _at(output: Output, name: str | None, when: str) -> None:
    from proa.rollout.when import parse_when

    if name is None:
        raise click.UsageError("--at needs the name of a model")
    moment = parse_when(when, now=datetime.now(UTC), what="--at")
    answer = output.fleet().history_at(name, moment)
    if output.value(answer.to_json()):
        return
    output.table(["", ""], list(_rows(answer)))
    for note in answer.notes:
        output.say(f"note: {note}")


def _rows(answer: Moment) -> list[tuple[str, object]]:
    running = answer.running
    rows: list[tuple[str, object]] = [
        ("at", f"{answer.time[:19].replace('T', ' ')} UTC"),
        ("champion", short(running.champion)),
    ]
    if running.because is not None:
        rows.append(("because", _because(running.because)))
    if answer.verdict is not None:
        rows.append(("verdict", f"{answer.verdict['value']}: {answer.verdict['reason']}"))
        rows.append(("exam", str(answer.exam)[:19]))
    if running.candidate is not None:
        held = ", paused" if running.paused else ""
        rows.append(("canary", f"{short(running.candidate)} at {running.weight} %{held}"))
        if running.since is not None:
            rows.append(("since", _because(running.since)))
    if running.returning is not None:
        rows.append(("returning to", short(running.returning)))
    if answer.last is not None:
        rows.append(("last line", _because(answer.last)))
    return rows


def _because(line: Because) -> str:
    reason = f": {line.reason}" if line.reason else ""
    time = line.time[:19].replace("T", " ")
    return f"{line.action} by {line.who} at {time} (line {line.seq}){reason}"


@click.command()
@click.argument("name")
@click.pass_obj
def why(output: Output, name: str) -> None:
    """The story of a model's last change: who asked, on what verdict, step by step."""
    sentences = output.fleet().why(name)
    if not output.value({"model": name, "story": sentences}):
        for sentence in sentences:
            output.line(sentence)


@click.group()
def journal() -> None:
    """The journal itself: is it whole?"""


@journal.command("verify")
@click.option("--head", metavar="N:sha256:HEX", help="A head noted before: it must still be there.")
@click.pass_obj
def verify(output: Output, head: str | None) -> None:
    """Check the hash chain and its end; exit code 5 when a line was changed, lost or moved."""
    found: dict[str, Any] = output.fleet().verify_journal(head)
    if not output.value(found):
        output.line(f"{found['lines']} lines, none changed, none lost")
        output.line(f"head {found['head']}")
        output.say("note the head elsewhere: who can write this journal can write its head file")
