from __future__ import annotations

import threading
import time

import pytest

from proa.http.ids import is_id, new_id


def test_ids_are_ulids_that_sort_by_time() -> None:
    before = time.time_ns() // 1_000_000
    made = [new_id() for _ in range(5000)]
    after = time.time_ns() // 1_000_000
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(is_id(one) for one in made)
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    moment = 0
    for character in made[0][:10]:
        moment = moment * 32 + alphabet.index(character)
    assert before <= moment <= after


def test_threads_never_share_an_id() -> None:
    made: list[str] = []

    def many() -> None:
        made.extend([new_id() for _ in range(2000)])

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8000


def test_ids_grow_though_the_wall_clock_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first = new_id()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000_000_000)
    assert new_id() > first


@pytest.mark.parametrize("text", ["", "0" * 25, "8" + "0" * 25, "U" + "0" * 25, "o" * 26, "0" * 27])
def test_other_texts_are_no_ids(text: str) -> None:
    assert not is_id(text)
