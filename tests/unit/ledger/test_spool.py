from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proa.errors import Unavailable
from proa.ledger.spool import Moved, Spool
from tests.processes import wait_until

RECORDS = st.lists(st.binary(min_size=1, max_size=40).map(lambda raw: raw.replace(b"\n", b"x")))


def moved(spool: Spool) -> list[bytes]:
    taken: list[bytes] = []
    spool.move(taken.extend)
    return taken


def test_records_are_moved_once_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(b"one")
    spool.append(b"two")
    assert moved(spool) == [b"one", b"two"]
    spool.append(b"three")
    assert spool.backlog_bytes() == 6
    assert moved(spool) == [b"three"]
    assert moved(spool) == []
    assert spool.backlog_bytes() == 0
    spool.close()


@settings(max_examples=40)
@given(st.lists(RECORDS, max_size=6), st.integers(10, 80))
def test_whatever_the_segments_and_moves_nothing_is_lost_or_doubled(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[bytes]], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool, taken = Spool(folder, segment_bytes=limit), []
    for batch in batches:
        for record in batch:
            spool.append(record)
        taken += moved(spool)
    assert taken == [record for batch in batches for record in batch]
    assert len(list(folder.glob("*.jsonl"))) == 1
    spool.close()


def test_a_sink_that_fails_sees_its_records_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(b"one")

    def broken(_: list[bytes]) -> None:
        raise Unavailable("the store is down")

    with pytest.raises(Unavailable):
        spool.move(broken)
    assert moved(spool) == [b"one"]
    spool.close()


def test_what_a_closed_writer_left_is_moved_and_its_segment_deleted(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    first.append(b"one")
    first.close()
    second = Spool(tmp_path)
    assert moved(second) == [b"one"]
    assert len(list(tmp_path.glob("*.jsonl"))) == 1
    second.close()


def test_a_living_writer_s_segment_is_left_to_it(tmp_path: Path) -> None:
    one, other = Spool(tmp_path), Spool(tmp_path)
    one.append(b"mine")
    assert moved(other) == []
    assert moved(one) == [b"mine"]
    one.close()
    other.close()


def test_kill_9_loses_nothing_that_append_returned_for(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from proa.ledger.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]), segment_bytes=4000)\n"
        "for n in range(10**9):\n"
        "    spool.append(b'%d' % n); print(n, flush=True)\n"
    )
    with (tmp_path / "out").open("wb") as out:
        writer = subprocess.Popen([sys.executable, "-c", code, tmp_path / "s"], stdout=out)
    try:
        wait_until(lambda: (tmp_path / "out").read_bytes().count(b"\n") > 2000, 20)
    finally:
        writer.kill()
        writer.wait()
    acknowledged = (tmp_path / "out").read_bytes().rpartition(b"\n")[0].split(b"\n")
    spool = Spool(tmp_path / "s")
    taken = moved(spool)
    spool.close()
    assert taken[: len(acknowledged)] == acknowledged
    assert len(taken) <= len(acknowledged) + 1
    assert len(set(taken)) == len(taken)


def test_a_torn_last_line_is_left_out_and_counted(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    first.append(b"whole")
    first.close()
    segment = next(tmp_path.glob("*.jsonl"))
    with segment.open("ab") as file:
        file.write(b'{"torn":')
    second, taken = Spool(tmp_path), []
    assert second.move(taken.extend) == Moved(records=1, torn=1)
    assert taken == [b"whole"]
    second.close()


def test_a_full_disk_is_an_error_and_the_next_record_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, write = Spool(tmp_path), os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    with pytest.raises(Unavailable, match="3 of 7 bytes"):
        spool.append(b"record")

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Unavailable, match="No space left"):
        spool.append(b"record")
    monkeypatch.setattr(os, "write", write)
    spool.append(b"after")
    assert moved(spool) == [b"rec", b"after"]
    spool.close()


def test_a_record_larger_than_the_read_buffer_comes_whole(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    large = b"x" * (600 << 10)
    spool.append(large)
    spool.append(b"small")
    assert moved(spool) == [large, b"small"]
    spool.close()


def test_the_folder_is_for_its_owner_only(tmp_path: Path) -> None:
    Spool(tmp_path / "spool").close()
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    assert next((tmp_path / "spool").glob("*.jsonl")).stat().st_mode & 0o777 == 0o600
