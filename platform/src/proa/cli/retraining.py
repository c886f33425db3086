"""`retraining`: what asked for a new release, what became of it, and what a person decides."""

from __future__ import annotations

from typing import Any

import click

from proa.cli.output import Output, as_person

__all__ = ["DefaultGroup", "retraining"]


class DefaultGroup(click.Group):
    """A group whose first command is meant when none is named: `retraining NAME`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = bool(args) and (args[0] in self.commands or args[0] in ("-h", "--help"))
        if not named:
            args.insert(0, next(iter(self.commands)))
        return super().parse_args(ctx, args)


@click.group(cls=DefaultGroup)
def retraining() -> None:
    """What asked for a new release, and what became of it: `proa retraining [NAME]`."""


@retraining.command()
@click.argument("name", required=False)
@click.pass_obj
def status(output: Output, name: str | None) -> None:
    """Rules, what holds a request back, and each request from its finding to its rollout."""
    fleet = output.fleet()
    if name is None:
        _overview(output, fleet.retrainings())
        return
    found = fleet.retraining(name)
    if output.value(found):
        return
    if found["section"] is None:
        output.line(f"{name} is not retrained by itself: its proa.yaml has no section retrain")
    else:
        output.line(_rules(found["section"]))
        output.line(f"now ({_day(found['now'])}): {found['waits'] or 'nothing to do'}")
    if found["stopped"]:
        output.line(
            f"STOPPED after {found['failed_in_a_row']} failed candidates in a row: "
            f"proa retraining reset {name} --as NAME --reason TEXT"
        )
    for request in found["requests"]:
        output.line(f"\nrequest {request['id']}: {request['state']} ({request['cause']})")
        for sentence in request["story"]:
            output.line(f"  {sentence}")
        if request["state"] == "awaiting_approval":
            output.say(f"next: proa retraining approve {name} --as NAME --reason TEXT")


def _overview(output: Output, models: list[dict[str, Any]]) -> None:
    if output.value(models):
        return
    if not models:
        output.say("no project has a section retrain")
        return
    rows = []
    for found in models:
        last = found["requests"][0] if found["requests"] else None
        state = "STOPPED" if found["stopped"] else "idle" if last is None else last["state"]
        rows.append((found["model"], state, len(found["requests"]), found["waits"]))
    output.table(["model", "state", "requests", "now"], rows)


def _rules(section: dict[str, Any]) -> str:
    yes = ", after a person approved it" if section["approval"] else ""
    end = "promoted by itself" if section["promote"] == "auto" else "left to a person"
    return (
        f"{', '.join(section['when'])} may ask{yes}; {section['fresh_days']} fresh days, "
        f"{section['cooldown_days']} days apart, {section['budget']} in {section['budget_days']} "
        f"days; a candidate that passes is {end}"
    )


def _day(moment: str | None) -> str:
    return "no time yet" if moment is None else moment[:10]


_REASON = click.option("--reason", default="", help="Why, in a few words.")


@retraining.command()
@click.argument("name")
@as_person
@_REASON
@click.pass_obj
def approve(output: Output, name: str, person: str | None, reason: str) -> None:
    """Let the request that waits for a person run."""
    _told(output, output.fleet(person).approve_retraining(name, reason=reason))


@retraining.command()
@click.argument("name")
@as_person
@_REASON
@click.pass_obj
def refuse(output: Output, name: str, person: str | None, reason: str) -> None:
    """End the open request, and its run."""
    _told(output, output.fleet(person).refuse_retraining(name, reason=reason))


@retraining.command()
@click.argument("name")
@as_person
@_REASON
@click.pass_obj
def reset(output: Output, name: str, person: str | None, reason: str) -> None:
    """Forget failed candidates, so that requests may start again."""
    _told(output, output.fleet(person).reset_retraining(name, reason=reason))


def _told(output: Output, done: dict[str, Any]) -> None:
    if not output.value(done):
        last = done["requests"][0] if done["requests"] else None
        state = "idle" if last is None else f"request {last['id']} is {last['state']}"
        output.line(f"{done['model']}: {state}")
