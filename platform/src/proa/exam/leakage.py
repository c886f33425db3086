"""Leakage: does the candidate's making hold what it is examined on? Told by id, by time, by text.

A classic release carries two files of its training:

* `train_ids.bin`: the first 8 bytes of SHA-256 of the id of each row that training, search,
  calibration or threshold saw; as little-endian uint64, sorted, each once. The ids themselves
  stay where the data is. Among a million ids, a foreign row is mistaken for one of them once in
  10^13.
* `training.json`: `{"version": 1, "rows": n, "ids": column|null, "windows": {name: {"start",
  "end"}}}`, RFC 3339; `end` is the first moment that the window does not hold. `windows.rows` is
  what the data really spans, its `end` the last row's own time.

A language release leaks when a question of the exam stands in its prompts, word for word.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from proa.errors import InvalidInput
from proa.exam.exam import Exam, Row
from proa.release.manifest import Manifest

IDS, WINDOWS = "train_ids.bin", "training.json"
ROWS_WINDOW = "rows"
_SHOWN = 20
_TEXT = (".txt", ".md", ".yaml", ".yml", ".json", ".jsonl", ".jinja")
_NOT_PROMPTS = ("index/", "tokenizer", "profile/", "selftest", "code/")
_LARGEST = 1 << 20
_WORDS = 4
"""A question of fewer words may stand anywhere by chance."""

Read = Callable[[str], bytes]
"""The bytes of one of the release's files, verified."""


def hashed(ids: Iterable[str]) -> NDArray[np.uint64]:
    """Sorted, unique first 8 bytes of SHA-256 of each id."""
    joined = b"".join(hashlib.sha256(one.encode()).digest()[:8] for one in ids)
    return np.unique(np.frombuffer(joined, dtype="<u8")).astype(np.uint64)


def to_bytes(ids: Iterable[str]) -> bytes:
    """The content of `train_ids.bin`."""
    return hashed(ids).astype("<u8").tobytes()


def leakage(exam: Exam, manifest: Manifest, read: Read) -> dict[str, Any]:
    """The `leakage` part of evidence: what was looked at, what was found, what could not be.

    Args:
        read: reads a file of the candidate's bundle.

    Raises:
        InvalidInput: the release's own files about its training are damaged.
    """
    if exam.rules.kind == "llm":
        texts = {path: read(path).decode("utf-8", "replace") for path in _prompts(manifest)}
        return in_prompts({task.id: task.conversation[-1]["content"] for task in exam.tasks}, texts)
    paths = {file.path for file in manifest.files}
    trained = _ids(read(IDS)) if IDS in paths else None
    windows = _windows(read(WINDOWS)) if WINDOWS in paths else {}
    return in_training(exam.rows, trained=trained, ends=windows)


def in_training(
    rows: Sequence[Row], *, trained: NDArray[np.uint64] | None, ends: Mapping[str, str]
) -> dict[str, Any]:
    """Exam rows that training saw, and rows that are not after it.

    A forecast's row counts from its origin: what it is made from must be all that was known then.

    Args:
        trained: `hashed` ids; None when the release lists none.
        ends: the end of each window by name; that of `rows` is the last row's own time, which an
            exam's row may not have either, the others' is the first moment after.
    """
    gaps = []
    found: list[str] = []
    if trained is None:
        gaps.append("the release does not list the ids it was trained on: not compared")
    else:
        found = [row.id for row in rows if _is_in(row.id, trained)]
    latest = [(_moment(end), name == ROWS_WINDOW, end) for name, end in ends.items()]
    moments = [(row, row.origin or row.time) for row in rows]
    early = 0
    if not latest:
        gaps.append("the release does not say when its data ends: times not compared")
    elif any(time is None for _, time in moments):
        gaps.append(f"{sum(time is None for _, time in moments)} rows of the exam have no time")
    if latest:
        last, closed, _ = max(latest, key=lambda item: item[:2])
        known = [_moment(time) for _, time in moments if time is not None]
        early = sum(time < last or (closed and time == last) for time in known)
    return {
        "checked": not gaps,
        "rows": len(rows),
        "leaked": len(found),
        "ids": found[:_SHOWN],
        "times": early,
        "until": max(latest, key=lambda item: item[:2])[2] if latest else None,
        "why_not": "; ".join(gaps) or None,
    }


def in_prompts(questions: Mapping[str, str], texts: Mapping[str, str]) -> dict[str, Any]:
    """Tasks whose question stands word for word in a text of the release.

    Case, punctuation and white space do not count; questions under four words are passed over.
    """
    plain = {path: f" {_plain(text)} " for path, text in texts.items()}
    asked = {key: _plain(question) for key, question in questions.items()}
    compared = {key: text for key, text in asked.items() if text.count(" ") >= _WORDS - 1}
    found = [
        key for key, text in compared.items() if any(f" {text} " in body for body in plain.values())
    ]
    gap = None if texts else "the release has no prompt files"
    return {
        "checked": gap is None,
        "rows": len(compared),
        "leaked": len(found),
        "ids": found[:_SHOWN],
        "times": 0,
        "until": None,
        "why_not": gap,
    }


def _prompts(manifest: Manifest) -> list[str]:
    """The release's small text files whose words may reach the engine; the guard's do not."""
    guard = None if manifest.llm is None else manifest.llm.guard
    return [
        file.path
        for file in manifest.files
        if file.path.endswith(_TEXT)
        and file.size <= _LARGEST
        and file.path != guard
        and not file.path.startswith(_NOT_PROMPTS)
    ]


def _is_in(key: str, trained: NDArray[np.uint64]) -> bool:
    number = hashed([key])[0]
    place = int(np.searchsorted(trained, number))
    return place < len(trained) and bool(trained[place] == number)


def _ids(data: bytes) -> NDArray[np.uint64]:
    if len(data) % 8:
        raise InvalidInput(f"{IDS}: {len(data)} bytes: expected a multiple of 8", param=IDS)
    found = np.frombuffer(data, dtype="<u8").astype(np.uint64)
    if (found[1:] <= found[:-1]).any():
        raise InvalidInput(f"{IDS}: expected sorted hashes, each once", param=IDS)
    return found


def _windows(data: bytes) -> dict[str, str]:
    try:
        windows = orjson.loads(data)["windows"]
        ends = {str(name): str(window["end"]) for name, window in windows.items()}
        for end in ends.values():
            _moment(end)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"{WINDOWS}: expected windows with an end each, as RFC 3339: {error!r}", param=WINDOWS
        ) from error
    return ends


def _moment(text: str) -> datetime:
    """An aware time; one without a zone is read as UTC."""
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
