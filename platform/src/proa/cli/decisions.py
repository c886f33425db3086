"""`approve`, `revoke`, `unrevoke`, `revoked`: what needs a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from proa.cli.output import Output, as_person, short
from proa.errors import InvalidInput

if TYPE_CHECKING:
    from proa.fleet import Fleet
    from proa.release.reference import ReleaseRef


def decision_commands() -> list[click.Command]:
    """The commands of this file."""
    return [approve, revoke, unrevoke, revoked]


@click.command()
@click.argument("what", metavar="NAME/N | NAME")
@click.option("--exam", is_flag=False, flag_value="", help="A looser exam of NAME that waits.")
@click.option("--rules", is_flag=True, help="The looser rules of NAME that wait.")
@as_person
@click.option("--reason", default="", help="Why, in a few words.")
@click.pass_obj
def approve(
    output: Output, what: str, exam: str | None, rules: bool, person: str | None, reason: str
) -> None:
    """Approve a release, a looser exam or looser rules; who made or asked for it cannot."""
    fleet = output.fleet(person)
    if rules or exam is not None:
        if "/" in what or (rules and exam is not None):
            raise InvalidInput(
                f"{what!r}: expected the name of a model, and one of --exam, --rules"
            )
        done = (
            fleet.approve_rules(what, reason=reason)
            if rules
            else fleet.approve_exam(what, exam or None, reason=reason)
        )
        if not output.value(done):
            output.line(f"approved: {'; '.join(done['loosened'])}")
        return
    ref = fleet.release(what)
    done = fleet.approve(ref, reason=reason)
    if not output.value(done):
        output.line(f"{ref.short} is approved with the verdict it has now")
        output.say(f"next: proa promote {ref.short}")


@click.command()
@click.argument("release", metavar="NAME/N | DIGEST")
@as_person
@click.option("--reason", default="", help="Why, in a few words.")
@click.pass_obj
def revoke(output: Output, release: str, person: str | None, reason: str) -> None:
    """Never let a release run again; if it serves, the last good one takes over at once."""
    fleet = output.fleet(person)
    ref = _named(fleet, release)
    done = fleet.revoke(ref, reason=reason)
    status = fleet.status(ref.name)
    if output.value({**done, "status": status}):
        return
    output.line(f"{ref.short} is revoked: {ref.digest}")
    loud = [sentence for sentence in status["attention"] if sentence.startswith("REVOKED")]
    for sentence in loud or [status["message"]]:
        if sentence:
            output.line(sentence)


@click.command()
@click.argument("release", metavar="NAME/N | DIGEST")
@as_person
@click.option("--reason", default="", help="Why, in a few words.")
@click.pass_obj
def unrevoke(output: Output, release: str, person: str | None, reason: str) -> None:
    """Take a revocation back: by another person than who revoked."""
    fleet = output.fleet(person)
    ref = _named(fleet, release)
    done = fleet.unrevoke(ref, reason=reason)
    if not output.value(done):
        output.line(f"{ref.short} is no longer revoked")


@click.command()
@click.pass_obj
def revoked(output: Output) -> None:
    """Every revoked release, with who and why."""
    found = output.fleet().revoked()
    if output.value(found):
        return
    if not found:
        output.say("nothing is revoked")
        return
    rows = [
        (short(item["release"]), item["release"].partition("@")[2][:19], item["time"][:19],
         item["who"], item["reason"])
        for item in found
    ]  # fmt: skip
    output.table(["release", "digest", "time (UTC)", "who", "reason"], rows)


def _named(fleet: Fleet, text: str) -> ReleaseRef:
    return fleet.by_digest(text) if text.startswith("sha256:") else fleet.release(text)
