from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from proa.errors import Unavailable
from proa.http.ids import new_id
from proa.ledger.call import Call
from proa.ledger.mover import Mover
from proa.ledger.spool import Spool
from proa.ledger.store import CallStore
from tests.processes import wait_until


def a_call() -> Call:
    return Call(
        request=new_id(), door="user", started="2026-11-21T12:00:00.000000Z", latency_ms=1.0,
        key="k", team="t", feature="f", purpose="user", kind="classic", status=200,
    )  # fmt: skip


def test_calls_reach_the_store_by_themselves_and_on_flush(tmp_path: Path) -> None:
    spool, store = Spool(tmp_path / "spool"), CallStore(tmp_path / "l.db")
    mover = Mover(spool, store, interval=0.02)
    mover.start()
    spool.append(a_call().to_bytes())
    wait_until(lambda: store.calls(), 5)
    spool.append(a_call().to_bytes())
    mover.flush()
    assert len(store.calls()) == 2
    spool.append(a_call().to_bytes())
    mover.close()
    assert len(store.calls()) == 3
    store.close()
    spool.close()


def test_a_store_that_is_down_for_a_while_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool, store = Spool(tmp_path / "spool"), CallStore(tmp_path / "l.db")
    down = [True]

    class Flaky(CallStore):
        def insert(self, calls: Sequence[Call]) -> int:
            if down[0]:
                raise Unavailable("the store is down")
            return store.insert(calls)

    mover = Mover(spool, Flaky(tmp_path / "l.db"), interval=0.01)
    mover.start()
    spool.append(a_call().to_bytes())
    with pytest.raises(Unavailable):
        mover.flush()
    wait_until(lambda: "calls wait in the spool" in caplog.text, 5)
    down[0] = False
    wait_until(lambda: len(store.calls()) == 1, 10)
    mover.close()


def test_a_record_nobody_understands_is_set_aside(tmp_path: Path) -> None:
    spool, store = Spool(tmp_path / "spool"), CallStore(tmp_path / "l.db")
    mover = Mover(spool, store)
    spool.append(b'{"schema_version":9}')
    spool.append(a_call().to_bytes())
    mover.flush()
    assert (mover.rejected, len(store.calls())) == (1, 1)
    assert (tmp_path / "spool" / "rejected").read_bytes() == b'{"schema_version":9}\n'
    store.close()
    spool.close()


def test_a_call_that_cannot_be_stored_is_set_aside_and_the_others_are_not(tmp_path: Path) -> None:
    spool, store = Spool(tmp_path / "spool"), CallStore(tmp_path / "l.db")
    mover = Mover(spool, store)
    good, bad = a_call(), replace(a_call(), tokens_in=2**63)
    for call in (good, bad, good):
        spool.append(call.to_bytes())
    mover.flush()
    assert (mover.rejected, store.calls()) == (1, [good])
    assert (tmp_path / "spool" / "rejected").read_bytes() == bad.to_bytes() + b"\n"
    store.close()
    spool.close()
