"""The frame of the story: chapters in order, their seconds, their facts, and what is printed."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

Facts = dict[str, Any]


@dataclass
class Voice:
    """Prints what goes on, each line with the seconds since the beginning."""

    stream: TextIO = field(default_factory=lambda: sys.stdout)
    began: float = field(default_factory=time.monotonic)

    def title(self, text: str) -> None:
        """A chapter's heading."""
        bold = "\033[1m{}\033[0m" if self.stream.isatty() else "{}"
        print("\n" + bold.format(text), file=self.stream, flush=True)

    def line(self, text: str) -> None:
        """One line under it."""
        if text:
            seconds = time.monotonic() - self.began
            print(f"  {seconds:6.1f} s  {text}", file=self.stream, flush=True)


@dataclass(frozen=True, slots=True)
class Told:
    """A chapter as it went."""

    name: str
    ok: bool
    seconds: float
    facts: Facts


def tell(
    chapters: Sequence[tuple[str, Callable[[], Facts]]], voice: Voice, *, last: Callable[[], None]
) -> list[Told]:
    """Tell chapters in order; after one that fails, only `last` (the clean-up) still happens."""
    told: list[Told] = []
    try:
        for number, (name, chapter) in enumerate(chapters, 1):
            voice.title(f"{number}. {name}")
            told.append(_tell_one(name, chapter, voice))
            if not told[-1].ok:
                break
    finally:
        last()
    return told


def _tell_one(name: str, chapter: Callable[[], Facts], voice: Voice) -> Told:
    began = time.monotonic()
    try:
        facts = chapter()
    except Exception as error:
        voice.line(f"FAILED: {error}")
        traceback.print_exc()
        hint = getattr(error, "hint", None)
        if hint:
            voice.line(f"hint: {hint}")
        return Told(name, False, time.monotonic() - began, {"error": str(error)})
    return Told(name, True, time.monotonic() - began, facts)


def write_summary(told: Sequence[Told], expected: int, seconds: float, path: Path) -> bool:
    """Write `{ok, seconds, chapters}`; says whether every chapter was told well."""
    ok = len(told) == expected and all(chapter.ok for chapter in told)
    value: Mapping[str, Any] = {
        "ok": ok,
        "seconds": round(seconds, 1),
        "chapters": [asdict(chapter) for chapter in told],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, default=str))
    return ok
