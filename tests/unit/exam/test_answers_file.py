"""Answers of a gate under way on disk. The files are real."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.errors import Conflict
from proa.exam.answers_file import AnswersFile

IDENTITY = {"candidate": "sha256:" + "b" * 64, "champion": None, "exam": "sha256:" + "e" * 64}


def opened(folder: Path, model: str = "boats", **more: Any) -> AnswersFile:
    return AnswersFile.open(folder, model=model, identity={**IDENTITY, **more})


def test_answers_and_slot_outlive_the_process(tmp_path: Path) -> None:
    first = opened(tmp_path)
    assert (first.resumed, first.slot, first.get("candidate:row:a")) == (0, None, None)
    first.keep_slot("slot-1")
    first.keep({"candidate:row:a": {"value": 0.5}, "candidate:row:b": {"value": [0.1, 0.9]}})
    first.close()
    again = opened(tmp_path)
    assert (again.resumed, again.slot) == (2, "slot-1")
    assert again.get("candidate:row:b") == {"value": [0.1, 0.9]}
    again.discard()
    assert list(tmp_path.iterdir()) == []
    assert opened(tmp_path).resumed == 0


def test_another_gate_of_the_same_release_is_refused(tmp_path: Path) -> None:
    first = opened(tmp_path)
    with pytest.raises(Conflict, match="another gate of the same release runs"):
        opened(tmp_path)
    first.close()
    opened(tmp_path).close()


def test_answers_count_only_for_the_gate_they_were_given_to(tmp_path: Path) -> None:
    one = opened(tmp_path)
    one.keep({"k": 1})
    running = opened(tmp_path, champion="sha256:" + "c" * 64)
    running.keep({"k": 2})
    one.close()
    neighbour = opened(tmp_path, model="boats-2")
    neighbour.keep({"k": 3})
    neighbour.close()
    other = opened(tmp_path, exam="sha256:" + "f" * 64)
    assert other.get("k") is None
    assert not one.path.exists(), "nobody will come back for it"
    assert running.path.exists(), "its gate is alive"
    assert neighbour.path.exists(), "another model's"
    for file in (running, other):
        file.close()


@given(st.data())
def test_a_file_cut_anywhere_gives_a_prefix_and_goes_on(data: st.DataObject) -> None:
    """What `kill -9` or a power cut can leave of an append-only file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = opened(folder)
        for number in range(5):
            file.keep({f"k{number}": {"text": "ü\n" * number}})
        file.close()
        whole = file.path.read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        file.path.write_bytes(whole[:cut] + data.draw(st.binary(max_size=3)).replace(b"\n", b""))
        again = opened(folder)
        kept = [number for number in range(5) if again.get(f"k{number}") is not None]
        assert kept == list(range(len(kept)))
        assert len(kept) >= whole[:cut].count(b"\n") - 1
        again.keep({"k9": 9})
        again.close()
        last = opened(folder)
        assert last.get("k9") == 9
        assert [n for n in range(5) if last.get(f"k{n}") is not None] == kept
        last.close()
