"""`gate` and `verdict`: exams, and what came of them."""

from __future__ import annotations

import platform as python_platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proa.cli.output import Output
from proa.errors import InvalidInput, Refused
from proa.release.reference import ReleaseRef

if TYPE_CHECKING:
    from proa.fleet import Fleet
    from proa.fleet.exams import Judged


def exam_commands() -> list[click.Command]:
    """The commands of this file."""
    return [gate, verdict]


@click.command()
@click.argument("release")
@click.option(
    "--exam",
    "project",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The project whose exam.yaml to sit (else the one it was created from).",
)
@click.option("--budget", type=float, metavar="MONEY", help="Refuse when it would cost more.")
@click.option("--yes", is_flag=True, help="Go ahead whatever it costs.")
@click.option("--full", is_flag=True, help="Ask every task, also when the exam is lost already.")
@click.option("--explain", is_flag=True, help="Show failing tasks with both answers.")
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where the page goes (else build/verdict/NAME-VERSION/verdict.html with --explain).",
)
@click.pass_obj
def gate(
    output: Output,
    release: str,
    project: Path | None,
    budget: float | None,
    yes: bool,
    full: bool,
    explain: bool,
    page: Path | None,
) -> None:
    """Let a release sit its exam beside the champion; exit code 6 unless it passes.

    Run again after a crash, it goes on with the answers it already has.
    """
    if budget is not None and budget < 0:
        raise InvalidInput(f"--budget {budget:g}: expected 0 or more", param="budget")
    fleet = output.fleet()
    ref = fleet.release(release)
    exam = fleet.exam_of(ref.name, project)
    costs: list[str] = []

    def say(text: str) -> None:
        costs.extend([text.removeprefix("cost: ")] if text.startswith("cost: ") else [])
        output.say(text)

    found = fleet.gate(
        ref,
        exam,
        progress=_progress(output),
        say=say,
        budget=None if yes else budget,
        early=not full,
    )
    if not output.value(found.to_json()):
        _table(output, found.to_json())
    if explain or page is not None:
        judged = fleet.verdict(ref)
        facts = {"cost, as estimated": costs[0]} if costs else {}
        _explain(output, fleet, ref, judged, shown=explain, page=page, facts=facts)
    if found.value != "pass":
        raise Refused(
            f"{ref.short}: {found.value}: {found.reason}",
            hint=None if explain else f"proa verdict {ref.short} --explain",
            code="GateFailed",
        )


@click.command()
@click.argument("release")
@click.option("--explain", is_flag=True, help="Show failing tasks with both answers.")
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the page there (else build/verdict/NAME-VERSION/verdict.html with --explain).",
)
@click.pass_obj
def verdict(output: Output, release: str, explain: bool, page: Path | None) -> None:
    """The newest verdict on a release, from the journal; nothing is asked again."""
    fleet = output.fleet()
    ref = fleet.release(release)
    judged = fleet.verdict(ref)
    if not output.value({"line": judged.line, "evidence": judged.evidence if explain else None}):
        _table(output, judged.verdict)
    if explain or page is not None:
        _explain(output, fleet, ref, judged, shown=explain, page=page, facts={})


def _table(output: Output, found: Mapping[str, Any]) -> None:
    """The checks; of many slices only those that did not pass."""
    checks = found["checks"]
    quiet = [c for c in checks if c["kind"] == "slice" and c["outcome"] == "pass"]
    shown = checks if len(quiet) <= 8 else [c for c in checks if c not in quiet]
    rows = [
        (c["outcome"], c["kind"], c["name"], c["value"], c["champion"], c["note"]) for c in shown
    ]
    output.table(["outcome", "kind", "check", "value", "champion", "note"], rows)
    if len(shown) < len(checks):
        output.line(f"and {len(quiet)} slices that passed")
    output.line(f"{found['value']}: {found['reason']}")


def _explain(
    output: Output,
    fleet: Fleet,
    ref: ReleaseRef,
    judged: Judged,
    *,
    shown: bool,
    page: Path | None,
    facts: Mapping[str, str],
) -> None:
    """Show failing tasks in the terminal and write the page."""
    from proa.cli.explain import explanation
    from proa.exam.page import verdict_page

    evidence, found = judged.evidence, judged.verdict
    if evidence is None:
        output.say("the evidence of this verdict is no longer kept: only its checks are shown")
    elif shown and not output.as_json:
        output.console.print(explanation(evidence, list(found["checks"])))
    path = page or Path("build", "verdict", f"{ref.name}-{ref.version}", "verdict.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    names = {"candidate": ref.short}
    if found["champion"] is not None:
        names |= {"champion": _short_of(fleet, ref.name, found["champion"])}
    text = verdict_page(found, evidence, names=names, facts={**_facts(judged), **facts})
    path.write_text(text, encoding="utf-8")
    output.say(f"page: {path}")


def _facts(judged: Judged) -> dict[str, str]:
    return {
        "judged": f"{judged.line['time'][:19].replace('T', ' ')} UTC by {judged.line['who']}",
        "page written by": f"Python {python_platform.python_version()} on "
        f"{python_platform.system()} {python_platform.machine()}",
    }


def _short_of(fleet: Fleet, name: str, digest: str) -> str:
    """A release's number, from the journal: MLflow may be down."""
    for line in reversed(fleet.history(name)):
        if line["release"] and line["release"].endswith(f"@{digest}"):
            return ReleaseRef.parse(line["release"]).short
    return digest[:19]


def _progress(output: Output) -> Any:
    last = ""

    def show(side: str, done: int, total: int) -> None:
        nonlocal last
        text = f"exam: {side} {100 * done // max(total, 1) // 25 * 25} % of {total}"
        if text != last:
            output.say(text)
            last = text

    return show
