"""The book of findings: order, judging again, replay and restart change nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.errors import InvalidInput
from proa.findings import book as book_module
from proa.findings.book import GONE, LOOK_BACK, BookKey, FindingBook
from proa.findings.finding import Finding
from proa.findings.observation import Observation

KEY = BookKey("flight-delay", "classic", "flight-delay/1@sha256:00", "champion")
TYPES = ("feature_drift", "null_burst")  # two windows running, and one
Verdict = bool | None


def time_of(window: int) -> str:
    return f"2013-{window // 28 + 1:02}-{window % 28 + 1:02}T00:00:00.000000Z"


def saw(kind: str, holds: Verdict, effect: float = 1.0) -> Observation:
    return Observation(kind, "wind", holds, effect, 0.5, "psi", f"{kind} of {effect}")


def see(book: FindingBook, window: int, kind: str, holds: Verdict) -> list[Finding]:
    seen = [saw(kind, holds, float(window))]
    return book.see(KEY, f"w{window:03}", time_of(window), time_of(window + 1), seen)


def kept(changes: list[Finding]) -> dict[str, Finding]:
    """What a store that takes every change holds in the end, without what was taken back."""
    found = {finding.id: finding for finding in changes}
    return {name: f for name, f in found.items() if "taken_back" not in f.evidence}


def in_order(verdicts: list[Verdict], kind: str) -> dict[str, Finding]:
    book = FindingBook()
    changes: list[Finding] = []
    for window, holds in enumerate(verdicts):
        changes += see(book, window, kind, holds)
    return kept(changes)


@pytest.mark.parametrize(("kind", "patience"), [("feature_drift", 2), ("null_burst", 1)])
def test_a_finding_opens_lasts_and_closes(kind: str, patience: int) -> None:
    book = FindingBook()
    assert see(book, 0, kind, False) == []
    for window in range(1, patience):
        assert see(book, window, kind, True) == []
    (opened,) = see(book, patience, kind, True)
    assert opened.open
    assert (opened.windows, opened.since) == (patience, time_of(1))
    (longer,) = see(book, patience + 1, kind, True)
    assert (longer.id, longer.windows, longer.seen) == (
        opened.id,
        patience + 1,
        time_of(patience + 2),
    )
    assert see(book, patience + 2, kind, None) == []
    (closed,) = see(book, patience + 3, kind, False)
    assert (closed.id, closed.until) == (opened.id, time_of(patience + 4))
    again = [f for w in range(patience) for f in see(book, patience + 4 + w, kind, True)]
    assert [f.id == opened.id for f in again] == [False]


VERDICTS = st.lists(st.sampled_from([True, False, None]), max_size=LOOK_BACK)
KINDS = st.sampled_from(TYPES)


@given(VERDICTS, KINDS, st.randoms(use_true_random=False))
def test_order_of_windows_does_not_matter(verdicts: list[Verdict], kind: str, pick: object) -> None:
    book, changes = FindingBook(), []
    order = list(range(len(verdicts)))
    pick.shuffle(order)  # type: ignore[attr-defined]
    for window in order:
        changes += see(book, window, kind, verdicts[window])
    assert kept(changes) == in_order(verdicts, kind)


@given(VERDICTS, VERDICTS, KINDS, st.randoms(use_true_random=False))
def test_windows_judged_again_are_as_if_judged_once(
    first: list[Verdict], last: list[Verdict], kind: str, pick: object
) -> None:
    book, changes = FindingBook(), []
    for window, holds in enumerate(first[: len(last)]):
        changes += see(book, window, kind, holds)
    order = list(range(len(last)))
    pick.shuffle(order)  # type: ignore[attr-defined]
    for window in order:
        changes += see(book, window, kind, last[window])
    assert kept(changes) == in_order(last, kind)
    assert {f.id: f for f in book.findings(KEY)} == in_order(last, kind)


LONG = st.lists(st.sampled_from([True, False, None]), max_size=5 * LOOK_BACK)


@given(LONG, KINDS, st.integers(0, 5 * LOOK_BACK))
def test_a_restart_changes_nothing(verdicts: list[Verdict], kind: str, when: int) -> None:
    book, changes = FindingBook(), []
    for window, holds in enumerate(verdicts):
        if window == when:
            data, book = book.to_bytes(KEY), FindingBook()
            book.restore(KEY, data)
        changes += see(book, window, kind, holds)
        assert see(book, window, kind, holds) == []  # the same again is no change
    assert kept(changes) == in_order(verdicts, kind)
    assert changes == [f for f in changes if "taken_back" not in f.evidence]


@given(LONG, KINDS)
def test_every_run_long_enough_is_one_finding(verdicts: list[Verdict], kind: str) -> None:
    said = [(w, v) for w, v in enumerate(verdicts) if v is not None]
    runs: list[list[int]] = [[]]
    for window, holds in said:
        if holds:
            runs[-1].append(window)
        elif runs[-1]:
            runs.append([])
    patience = 2 if kind == "feature_drift" else 1
    expected = {(time_of(r[0]), time_of(r[-1] + 1), len(r)) for r in runs if len(r) >= patience}
    found = in_order(verdicts, kind).values()
    assert {(f.since, f.seen, f.windows) for f in found} == expected
    is_open = bool(runs[-1]) and len(runs[-1]) >= patience
    assert sum(f.open for f in found) == is_open


def test_what_is_beyond_the_look_back_is_settled() -> None:
    book = FindingBook()
    for window in range(1, LOOK_BACK + 3):
        see(book, window, "null_burst", window == 1)
    before = book.findings(KEY)
    assert see(book, 1, "null_burst", False) == []
    assert see(book, 0, "null_burst", True) == []
    assert book.findings(KEY) == before == []


def test_late_events_take_a_finding_back() -> None:
    book = FindingBook()
    (opened,) = see(book, 3, "null_burst", True)
    (gone,) = see(book, 3, "null_burst", False)
    assert (gone.id, gone.until, gone.evidence) == (opened.id, opened.seen, {"taken_back": True})
    (again,) = see(book, 3, "null_burst", True)
    assert again == opened


def test_a_release_that_serves_no_more_has_no_open_findings() -> None:
    book = FindingBook()
    see(book, 3, "null_burst", True)
    (closed,) = book.end(KEY, time_of(6))
    assert closed.until == time_of(6)
    assert book.end(KEY, time_of(7)) == []
    (back,) = see(book, 9, "null_burst", True)
    assert back.open
    assert back.id != closed.id


def test_nothing_is_gone_before_it_was_last_seen() -> None:
    book = FindingBook()
    (opened,) = see(book, 3, "null_burst", True)
    (closed,) = book.end(KEY, time_of(3))  # in the middle of the window that showed it
    assert closed.until == closed.seen == opened.seen


def test_lines_of_a_key_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "LINES", 10)
    book = FindingBook()
    many = [Observation("schema", f"c{k}", True, None, None, "", "m") for k in range(25)]
    assert len(book.see(KEY, "w", time_of(1), time_of(2), many)) == 10
    assert book.left_out == 15


def test_other_bytes_are_named() -> None:
    book = FindingBook()
    with pytest.raises(InvalidInput, match="not a page of findings"):
        book.restore(KEY, b"nonsense")
    book.restore(KEY, None)
    assert book.keys == []
    assert GONE not in book.to_bytes(KEY).decode("latin1")


def test_what_json_has_not_is_kept_all_the_same() -> None:
    odd = Observation("schema", "c", True, float("nan"), float("inf"), "", "m", evidence={1: b"x"})
    book = FindingBook()
    (finding,) = book.see(KEY, "w", time_of(1), time_of(2), [odd])
    assert (finding.effect, finding.limit) == (None, None)
    assert book.see(KEY, "w", time_of(1), time_of(2), [odd]) == []
    other = FindingBook()
    other.restore(KEY, book.to_bytes(KEY))
    assert [f.id for f in other.findings(KEY)] == [finding.id]
