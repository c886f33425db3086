"""The projects as the story tells of them: the real ones, the language model's exam made shorter.

An exam of 304 tasks takes three minutes on two cores, and the story sits three of them. It asks
every nth question of each suite, with its paraphrases; rules and floors stay, but that fewer tasks
tell less: what costs a tenth of the answers is not looked for here. The whole exam is the
project's own (`proa create`, `make bench-exam`).
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path

_MARGIN, _WIDER = "margin: 0.05,", "margin: 0.1,"
"""Standard error of equal releases: 0.012 with all tasks, 0.024 with a quarter of them."""


def lay_out(source: Path, target: Path, *, every: int) -> Path:
    """A folder `target` with both projects; of the golden tasks every nth question of a suite."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    (target / "flight_delay").symlink_to(source / "flight_delay")
    ours = target / "python_help"
    shutil.copytree(source / "python_help", ours, ignore=shutil.ignore_patterns("__pycache__"))
    golden = ours / "golden.jsonl"
    golden.write_text("".join(_some(golden.read_text().splitlines(keepends=True), every)))
    rules = (ours / "exam.yaml").read_text()
    if _MARGIN not in rules:
        raise RuntimeError(f"{ours / 'exam.yaml'}: expected {_MARGIN!r}")
    (ours / "exam.yaml").write_text(rules.replace(_MARGIN, _WIDER))
    return target


def _some(lines: list[str], every: int) -> list[str]:
    """Every nth question of each suite, with the paraphrases that ask the same."""
    suites: dict[str, list[str]] = defaultdict(list)
    asks = []
    for line in lines:
        task = json.loads(line)
        asks.append(task.get("paraphrase_of") or task["id"])
        if asks[-1] == task["id"]:
            suites[task["suite"]].append(task["id"])
    kept = {question for questions in suites.values() for question in questions[::every]}
    return [line for line, question in zip(lines, asks, strict=True) if question in kept]
