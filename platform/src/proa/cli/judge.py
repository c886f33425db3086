"""`judge agreement`: how far the judge of an exam agrees with people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from proa.cli.output import Output


@click.group()
def judge() -> None:
    """The language model that rates answers by rubrics."""


@judge.command()
@click.argument("project", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.pass_obj
def agreement(output: Output, project: Path) -> None:
    """Hold the judge of PROJECT's exam against the answers that people labelled."""
    from proa.exam.agreement import Agreement
    from proa.exam.exam import load

    exam = load(project)
    found = output.fleet().judge_agreement(exam, progress=_progress(output))
    if output.value(found):
        return
    fields = Agreement.__dataclass_fields__
    output.line(Agreement(**{key: found[key] for key in fields}).sentence())
    word = "decides" if found["decides"] else "is reported and decides nothing"
    output.line(
        f"engine {found['engine']}: what it says {word} (kappa expected from "
        f"{found['min_agreement']:g}, lower end of the interval)"
    )


def _progress(output: Output) -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        if done % 20 == 0 or done == total:
            output.say(f"judged {done} of {total}")

    return show
