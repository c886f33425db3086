"""A verdict explained in the terminal: both answers of each failing task side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from proa.cli.output import plain
from proa.exam import report

_COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


def explanation(evidence: Mapping[str, Any], checks: list[Mapping[str, Any]]) -> RenderableType:
    """Failing checks, then failing tasks or the rows that cost most."""
    return Group(*_failing_checks(checks), *_suites(evidence), *_tasks(evidence), *_rows(evidence))


def _failing_checks(checks: list[Mapping[str, Any]]) -> Iterator[RenderableType]:
    failing = [check for check in checks if check["outcome"] != "pass"]
    if not failing:
        return
    yield Text()
    yield Rule("checks that did not pass", align="left", style="dim")
    for check in failing:
        line = Text(f"{check['outcome']:<13}", _COLOURS.get(check["outcome"], ""))
        line.append(f"{check['kind']} {check['name']}", "bold")
        line.append(f"  {plain(check['note'])}", "default")
        yield line


def _suites(evidence: Mapping[str, Any]) -> Iterator[RenderableType]:
    shares = report.suite_shares(evidence)
    if not shares:
        return
    yield Text()
    yield Rule("suites", align="left", style="dim")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, justify in (("suite", "left"), ("tasks", "right"), ("candidate", "right"),
                          ("champion", "right"), ("", "left")):  # fmt: skip
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for suite in shares:
        champion = "–" if suite.champion is None else f"{suite.champion:.0%}"
        word = "safety" if suite.safety else ""
        table.add_row(Text(suite.name), str(suite.tasks), f"{suite.candidate:.0%}", champion, word)
    yield table


def _tasks(evidence: Mapping[str, Any]) -> Iterator[RenderableType]:
    for task in report.failed_tasks(evidence):
        yield Text()
        title = Text(task.mine["id"], "bold")
        title.append(f"  {task.mine['suite']}  ", "dim")
        title.append(task.verdict, "red" if task.regressed else "dim")
        yield Rule(title, align="left", style="dim")
        yield Padding(Text(plain(task.mine.get("question", ""))), (0, 0, 1, 0))
        columns = Table.grid(expand=True, padding=(0, 3, 0, 0))
        columns.add_column(ratio=1, overflow="fold")
        columns.add_column(ratio=1, overflow="fold")
        theirs = Text("") if task.theirs is None else _side("champion", task.theirs)
        columns.add_row(_side("candidate", task.mine), theirs)
        yield columns


def _side(name: str, result: Mapping[str, Any]) -> Text:
    runs = [result.get("passed") is True, *result.get("repeats", ())]
    word = "pass" if all(runs) else "fail"
    text = Text(f"{name}: {word}", _COLOURS[word])
    if len(runs) > 1:
        text.append(f", {sum(runs)} of {len(runs)} runs passed", "dim")
    answer = result.get("answer")
    said = f"(no answer: {result.get('error')})" if answer is None else answer
    text.append(f"\n{plain(said)}\n", "default")
    if result.get("citations"):
        text.append(f"cites {', '.join(map(plain, result['citations']))}\n", "dim")
    for failure in result.get("failures", ()):
        text.append(f"✗ {plain(failure)}\n", "red")
    return text


def _rows(evidence: Mapping[str, Any]) -> Iterator[RenderableType]:
    rows = report.costly_rows(evidence)
    if not rows:
        return
    name = report.loss_name(evidence["rules"])
    yield Text()
    yield Rule(f"rows that cost most ({name}, candidate − champion)", align="left", style="dim")
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("row", overflow="fold")
    table.add_column(evidence["rules"]["unit"])
    for column in ("label", "candidate", "champion", "loss"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            Text(row.result["id"]),
            Text(row.result["unit"]),
            _value(row.result.get("label")),
            _value(row.result.get("value")),
            _value(row.champion),
            f"{row.loss:+.3g}",
        )
    yield table


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{item:.3g}" for item in value)
    if isinstance(value, float | int):
        return f"{value:.4g}"
    return "–" if value is None else str(value)
