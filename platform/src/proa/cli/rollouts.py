"""`promote`, `rollback`, `undo`, `pause`, `resume`, `abort`: moving releases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proa.cli.output import Output, as_person, short, watch_rollout
from proa.errors import InvalidInput, Refused
from proa.rollout.policy import parse_policy

if TYPE_CHECKING:
    from proa.release.reference import ReleaseRef


def rollout_commands() -> list[click.Command]:
    """The commands of this file."""
    return [promote, rollback, undo, pause, resume, abort]


@click.command()
@click.argument("release")
@click.option("--reason", default="", help="Why; it stands in the journal.")
@as_person
@click.option("--steps", metavar="10,50", help="Weights of the canary; 'none' for no canary.")
@click.option(
    "--minimum-units",
    type=click.IntRange(min=0),
    help="Units (users, entities) to see in each step.",
)
@click.option("--max-seconds", type=float, help="How long a step may stay inconclusive.")
@click.option("--wait/--no-wait", default=True, show_default=True)
@click.option("--dry-run", is_flag=True, help="Say all that is refused and every step; no change.")
@click.option("--override", is_flag=True, help="Go over refusals; needs --as and --reason.")
@click.option("--to", "environment", metavar="NAME", help="Carry it to another environment.")
@click.option(
    "--exam",
    "project",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="With --to: the project whose exam it sat (else the one it was created from).",
)
@click.pass_obj
def promote(
    output: Output,
    release: str,
    reason: str,
    person: str | None,
    steps: str | None,
    minimum_units: int | None,
    max_seconds: float | None,
    wait: bool,
    dry_run: bool,
    override: bool,
    environment: str | None,
    project: Path | None,
) -> None:
    """Roll a judged release out: canary, then all traffic. What is not said, the project says."""
    policy = make_policy(steps, minimum_units, max_seconds)
    fleet = output.fleet(person)
    ref = fleet.release(release)
    if dry_run:
        planned = (
            fleet.promote(ref, policy=policy, dry_run=True)["plan"]
            if environment is None
            else fleet.plan_to(ref, environment)
        )
        _tell_plan(output, ref, planned)
        return
    asked: dict[str, Any] = {"reason": reason, "policy": policy, "wait": wait, "override": override}
    progress = watch_rollout(output)
    if environment is None:
        status = fleet.promote(ref, **asked, progress=progress)
    else:
        exam = None if project is None else fleet.exam_of(ref.name, project)
        status = fleet.promote_to(
            ref, environment, **asked, exam=exam, say=output.say, progress=progress
        )
    _tell(output, status)


def _tell_plan(output: Output, ref: ReleaseRef, plan: Mapping[str, Any]) -> None:
    """What would happen; exit code 6 when it would be refused."""
    found = plan["refusals"]
    if not output.value(plan):
        for number, step in enumerate(plan["steps"], start=1):
            output.line(f"{number}. {step}")
        for item in found:
            output.line(f"refused ({item['code']}): {item['message']}")
            output.line(f"  mend: {item['hint']}")
        if not found:
            output.line(f"{ref.short} would be admitted")
        elif plan["overridable"]:
            output.line("a person with the right to approve could go over this: --override")
    if found:
        count = f"{len(found)} reason{'s' if len(found) > 1 else ''}"
        raise Refused(
            f"{ref.short} would be refused for {count}: "
            f"{', '.join(item['code'] for item in found)}",
            hint=found[0]["hint"],
            code=found[0]["code"],
        )


def make_policy(
    steps: str | None, minimum_units: int | None, max_seconds: float | None
) -> dict[str, Any]:
    """The canary's settings from the command line; the model's own are behind them."""
    settings: dict[str, Any] = {}
    if steps is not None:
        settings["steps"] = [] if steps == "none" else [_percent(step) for step in steps.split(",")]
    if minimum_units is not None:
        settings["minimum_units"] = minimum_units
    if max_seconds is not None:
        settings["max_seconds"] = max_seconds
    parse_policy(settings)
    return settings


def _percent(text: str) -> int:
    if not text.strip().isdigit():
        raise InvalidInput(f"--steps: {text!r}: expected whole percents, as 10,50")
    return int(text)


@click.command()
@click.argument("name")
@as_person
@click.option("--reason", default="", help="Why; it stands in the journal.")
@click.option("--wait/--no-wait", default=True, show_default=True)
@click.pass_obj
def rollback(output: Output, name: str, person: str | None, reason: str, wait: bool) -> None:
    """Return to the previous release, whole: at once while it is still warm."""
    status = output.fleet(person).rollback(name, reason=reason, wait=wait)
    if wait:
        output.say(
            f"traffic moved in {status['traffic_seconds']:.1f} s, done in {status['seconds']:.1f} s"
        )
    _tell(output, status)


@click.command()
@click.argument("name")
@as_person
@click.option("--reason", default="", help="Why; it stands in the journal.")
@click.pass_obj
def undo(output: Output, name: str, person: str | None, reason: str) -> None:
    """Set the workload's template back, as kubectl rollout undo does; the alias follows."""
    _tell(output, output.fleet(person).undo(name, reason=reason))


@click.command()
@click.argument("name")
@as_person
@click.option("--reason", default="", help="Why; it stands in the journal.")
@click.pass_obj
def pause(output: Output, name: str, person: str | None, reason: str) -> None:
    """Hold a canary at its step."""
    _tell(output, output.fleet(person).pause(name, reason=reason))


@click.command()
@click.argument("name")
@as_person
@click.option("--reason", default="", help="Why; it stands in the journal.")
@click.pass_obj
def resume(output: Output, name: str, person: str | None, reason: str) -> None:
    """Let a paused canary go on."""
    _tell(output, output.fleet(person).resume(name, reason=reason))


@click.command()
@click.argument("name")
@as_person
@click.option("--reason", default="", help="Why; it stands in the journal.")
@click.pass_obj
def abort(output: Output, name: str, person: str | None, reason: str) -> None:
    """Stop a canary: its weight goes to 0."""
    _tell(output, output.fleet(person).abort(name, reason=reason))


def _tell(output: Output, status: dict[str, Any]) -> None:
    if not output.value(status):
        output.line(f"{status['model']}: champion {short(status['champion'])}, {status['phase']}")
        if status["message"]:
            output.line(status["message"])
