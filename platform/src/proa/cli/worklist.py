"""`worklist`: bad answers of a language model, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from proa.cli.output import Output, short
from proa.cli.retraining import DefaultGroup
from proa.errors import InvalidInput

__all__ = ["worklist"]

_AS = ("golden-task", "document", "prompt", "ignore")


@click.group(cls=DefaultGroup)
def worklist() -> None:
    """Answers that somebody or something found bad: `proa worklist NAME`."""


@worklist.command(name="list")
@click.argument("name")
@click.option("--all", "resolved", is_flag=True, help="Those that were decided about, too.")
@click.pass_obj
def listed(output: Output, name: str, resolved: bool) -> None:
    """Open items, the oldest first."""
    items = output.fleet().worklist(name, resolved=resolved)
    if output.value(items):
        return
    if not items:
        output.say(f"no answer of {name} waits for anybody")
        return
    rows = [
        (item["id"], short(item["release"]), _why(item), item["resolution"] or "open",
         item["question"][:100])
        for item in items
    ]  # fmt: skip
    output.table(["item", "release", "found by", "state", "question"], rows)
    output.say("next: proa worklist show ITEM")


@worklist.command()
@click.argument("item")
@click.pass_obj
def show(output: Output, item: str) -> None:
    """One item: question, answer, what was read, who found it bad."""
    found = output.fleet().worklist_item(item)
    if output.value(found):
        return
    output.line(f"{found['id']}  {short(found['release'])}  answered {found['time'][:19]}Z")
    output.line(f"\nquestion: {found['question']}")
    output.line(f"answer: {found['answer']}\n")
    for passage in found["retrieved"]:
        score = passage.get("score")
        scored = f" ({score:.3f})" if isinstance(score, int | float) else ""
        output.line(f"read: {passage.get('id')}{scored} {passage.get('title') or ''}")
    for signal in found["signals"]:
        why = f": {signal['why']}" if signal["why"] else ""
        output.line(f"{signal['kind']} {signal['value']!r} at {signal['time'][:19]}Z{why}")
    if found["resolution"]:
        output.line(f"resolved by {found['who']} as {found['resolution']}: {found['reason']}")


@worklist.command()
@click.argument("item")
@click.option("--as", "resolution", required=True, type=click.Choice(_AS), help="What it became.")
@click.option("--contains", multiple=True, metavar="TEXT", help="The right answer contains it.")
@click.option("--refuses/--answers", default=None, help="Whether it should be turned down.")
@click.option("--suite", default="answer", show_default=True, help="The task's suite.")
@click.option(
    "--project",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Append the task to this project's file.",
)
@click.option("--file", default="dev.jsonl", show_default=True, help="In the project's folder.")
@click.option("--reason", default="", help="Why, in a few words.")
@click.option("--by", "person", envvar="PROA_PERSON", metavar="NAME", help="Who decides.")
@click.pass_obj
def resolve(
    output: Output,
    item: str,
    resolution: str,
    contains: tuple[str, ...],
    refuses: bool | None,
    suite: str,
    project: Path | None,
    file: str,
    reason: str,
    person: str | None,
) -> None:
    """Say what became of an item. As a golden task it is printed, and appended to a project."""
    fleet = output.fleet(person)
    task: Any = None
    if resolution == "golden-task":
        task = _task(output, fleet.worklist_item(item), contains, refuses, suite, project, file)
    elif contains or refuses is not None or project is not None:
        raise InvalidInput("--contains, --refuses and --project go with --as golden-task")
    done = fleet.resolve_item(item, resolution, reason=reason or f"it became {resolution} here")
    if not output.value({**done, "task": task}):
        output.line(f"{done['id']} is resolved as {done['resolution']}")


def _task(
    output: Output,
    item: dict[str, Any],
    contains: tuple[str, ...],
    refuses: bool | None,
    suite: str,
    project: Path | None,
    file: str,
) -> dict[str, Any]:
    """Make the task; the file comes before the decision, so that nothing decided is lost."""
    import orjson

    from proa.fleet.worklist import add_task, task_of

    task = task_of(item, suite=suite, contains=contains, refuses=refuses)
    value: dict[str, Any] = task.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    if not output.as_json:
        output.line(orjson.dumps(value).decode())
    if project is not None:
        new = add_task(task, project / file)
        output.say(f"{project / file}: {'appended' if new else 'it is there already'}; review it")
    return value


def _why(item: dict[str, Any]) -> str:
    kinds = [signal["kind"] for signal in item["signals"]]
    return ", ".join(f"{kind} ×{kinds.count(kind)}" for kind in dict.fromkeys(kinds))
