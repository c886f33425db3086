"""What the worklist promises, as a file and as tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from proa.errors import Conflict, InvalidInput, NotFound
from proa.ledger.open import Ledger
from proa.ledger.worklist import Worklist, item_id

NOW, LATER = "2026-11-21T12:00:00.000000Z", "2026-11-21T13:00:00.000000Z"


def body(request: str, *events: str, text: str = "what is a list?") -> dict[str, Any]:
    signals = [
        {"event": e, "kind": "feedback", "value": -1, "why": "", "time": NOW} for e in events
    ]
    about = {"release": "m/1@x", "time": NOW, "answer": "no\0idea é", "retrieved": []}
    return {"request": request, "question": text, **about, "signals": signals}


def take(worklist: Worklist, *bodies: dict[str, Any], through: str = NOW) -> int:
    return worklist.take("m", bodies, through=through, now=through)


def test_an_answer_is_one_item_however_often_it_is_found(
    new_url: Callable[[], str], open_url: Callable[[str], Ledger]
) -> None:
    url = new_url()
    worklist = open_url(url).worklist
    assert worklist.through("m") is None
    assert take(worklist, body("a", "1"), body("b", "2")) == 2
    assert take(worklist, body("a", "1"), body("a", "3"), through=LATER) == 0
    other = open_url(url).worklist
    first, second = other.items("m")
    assert [signal["event"] for signal in first.body["signals"] + second.body["signals"]] in (
        ["1", "3", "2"],
        ["2", "1", "3"],
    )
    assert other.through("m") == LATER
    assert other.items("n") == []
    assert first.to_json()["answer"] == "no\ufffdidea é"


def test_an_item_is_resolved_once(ledger: Ledger) -> None:
    worklist = ledger.worklist
    take(worklist, body("a", "1"), body("b", "2"))
    identity = item_id("m", "a")
    said = {"who": "ann", "reason": "as it stands", "now": LATER}
    done = worklist.resolve(identity[:8], "document", **said)
    assert (done.id, done.resolution, done.who) == (identity, "document", "ann")
    assert worklist.resolve(identity, "document", who="bob", reason="x", now=LATER) == done
    with pytest.raises(Conflict, match="was resolved by ann as document"):
        worklist.resolve(identity, "ignore", **said)
    with pytest.raises(InvalidInput, match="expected one of golden-task"):
        worklist.resolve(identity, "shred", **said)
    for unknown in ("0000", "%", ""):
        with pytest.raises(NotFound):
            worklist.resolve(unknown, "ignore", **said)
    assert [item.body["request"] for item in worklist.items("m")] == ["b"]
    assert len(worklist.items("m", resolved=True)) == 2
    assert worklist.open_counts() == {"m": 1}
    take(worklist, body("a", "9"))
    assert worklist.get(identity) == done


def test_nothing_is_half_taken(ledger: Ledger) -> None:
    with pytest.raises(KeyError):
        take(ledger.worklist, body("a", "1"), {"signals": []})
    assert ledger.worklist.items("m") == []
    assert ledger.worklist.through("m") is None


def test_signals_are_bounded(ledger: Ledger) -> None:
    for number in range(0, 2000, 500):
        take(ledger.worklist, body("a", *map(str, range(number, number + 500))))
    (item,) = ledger.worklist.items("m")
    assert len(item.body["signals"]) == 50
