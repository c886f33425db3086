"""`promote`, `rollback`, `undo`, `pause`, `resume`, `abort`: moving releases."""

from __future__ import annotations

from typing import Any

import click

from proa.cli.output import Output, short, watch_rollout
from proa.errors import InvalidInput
from proa.rollout.policy import Policy, parse_policy


def rollout_commands() -> list[click.Command]:
    """The commands of this file."""
    return [promote, rollback, undo, pause, resume, abort]


@click.command()
@click.argument("release")
@click.option("--reason", default="", help="Why; it stands in the journal.")
@click.option("--steps", metavar="10,50", help="Weights of the canary; 'none' for no canary.")
@click.option("--minimum-calls", type=click.IntRange(min=0), help="Calls to see in each step.")
@click.option("--max-seconds", type=float, help="How long a step may stay inconclusive.")
@click.option("--wait/--no-wait", default=True, show_default=True)
@click.option("--dry-run", is_flag=True, help="Say whether it would be admitted; change nothing.")
@click.pass_obj
def promote(
    output: Output,
    release: str,
    reason: str,
    steps: str | None,
    minimum_calls: int | None,
    max_seconds: float | None,
    wait: bool,
    dry_run: bool,
) -> None:
    """Roll a judged release out: canary, then all traffic."""
    fleet = output.fleet()
    policy = make_policy(steps, minimum_calls, max_seconds)
    status = fleet.promote(
        fleet.release(release),
        reason=reason,
        policy=policy,
        wait=wait,
        dry_run=dry_run,
        progress=watch_rollout(output),
    )
    _tell(output, status)


def make_policy(steps: str | None, minimum_calls: int | None, max_seconds: float | None) -> Policy:
    """The canary's settings from the command line."""
    settings: dict[str, Any] = {}
    if steps is not None:
        settings["steps"] = [] if steps == "none" else [_percent(step) for step in steps.split(",")]
    if minimum_calls is not None:
        settings["minimum_calls"] = minimum_calls
    if max_seconds is not None:
        settings["max_seconds"] = max_seconds
    return parse_policy(settings)


def _percent(text: str) -> int:
    if not text.strip().isdigit():
        raise InvalidInput(f"--steps: {text!r}: expected whole percents, as 10,50")
    return int(text)


@click.command()
@click.argument("name")
@click.option("--reason", default="")
@click.option("--wait/--no-wait", default=True, show_default=True)
@click.pass_obj
def rollback(output: Output, name: str, reason: str, wait: bool) -> None:
    """Return to the previous release, whole: at once while it is still warm."""
    status = output.fleet().rollback(name, reason=reason, wait=wait)
    if wait:
        output.say(
            f"traffic moved in {status['traffic_seconds']:.1f} s, done in {status['seconds']:.1f} s"
        )
    _tell(output, status)


@click.command()
@click.argument("name")
@click.option("--reason", default="")
@click.pass_obj
def undo(output: Output, name: str, reason: str) -> None:
    """Set the workload's template back, as kubectl rollout undo does; the alias follows."""
    _tell(output, output.fleet().undo(name, reason=reason))


@click.command()
@click.argument("name")
@click.pass_obj
def pause(output: Output, name: str) -> None:
    """Hold a canary at its step."""
    _tell(output, output.fleet().pause(name))


@click.command()
@click.argument("name")
@click.pass_obj
def resume(output: Output, name: str) -> None:
    """Let a paused canary go on."""
    _tell(output, output.fleet().resume(name))


@click.command()
@click.argument("name")
@click.option("--reason", default="")
@click.pass_obj
def abort(output: Output, name: str, reason: str) -> None:
    """Stop a canary: its weight goes to 0."""
    _tell(output, output.fleet().abort(name, reason=reason))


def _tell(output: Output, status: dict[str, Any]) -> None:
    if not output.value(status):
        output.line(f"{status['model']}: champion {short(status['champion'])}, {status['phase']}")
        if status["message"]:
            output.line(status["message"])
