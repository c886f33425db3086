"""`proa gc` on a running platform: what nobody needs goes, what the journal names stays."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proa.errors import InvalidInput
from proa.fleet.sweeping import Sweeping
from proa.release.blobs import FolderBlobs
from proa.release.canonical import digest_file
from tests.services.controller.platform import SmallPlatform
from tests.services.controller.test_cli import proa

DAY = 24 * 3600.0


def age(blobs: FolderBlobs, days: float) -> None:
    """As if everything had been written so long ago."""
    for stored in blobs.stored():
        moment = time.time() - days * DAY
        os.utime(blobs.place(stored.digest), (moment, moment))


@pytest.fixture
def small() -> Iterator[SmallPlatform]:
    """A platform of its own: what other tests left in theirs is not to be swept."""
    platform = SmallPlatform.start()
    yield platform
    platform.stop()


def test_what_nobody_needs_goes(small: SmallPlatform, tmp_path: Path) -> None:
    champion = small.champion("gc-used")
    announced = small.release("gc-used")
    blobs = FolderBlobs(small.home.bundles)
    orphan = tmp_path / "orphan"
    orphan.write_text("of a create that died")
    digest = digest_file(orphan)
    blobs.put(digest, orphan)
    young = json.loads(proa(small.home.root, "gc", "--dry-run", "--json").stdout)
    assert digest not in [blob["digest"] for blob in young["unneeded"]]

    age(blobs, 31)
    said = json.loads(proa(small.home.root, "gc", "--dry-run", "--json").stdout)
    assert digest in [blob["digest"] for blob in said["unneeded"]]
    assert blobs.size(digest) is not None
    done = proa(small.home.root, "gc")
    assert done.returncode == 0, done.stderr
    assert "gone" in done.stderr
    assert blobs.size(digest) is None
    assert small.fleet.manifest(champion).digest == champion.digest
    assert small.fleet.manifest(announced).digest == announced.digest


def ref(number: int) -> str:
    return f"m/{number}@sha256:{number:064x}"


class Told(Sweeping):
    """The fleet with a journal of our own: a running controller cannot be given an old one."""

    def __init__(self, lines: list[dict[str, Any]], **status: Any) -> None:
        self._lines, self._status = lines, status

    def models(self) -> list[dict[str, Any]]:
        return [{"model": "m", "champion": None, "candidate": None, "previous": None,
                 **self._status}]  # fmt: skip

    def history(self, name: str | None = None) -> list[dict[str, Any]]:
        return self._lines


def line(number: int, action: str, days_ago: float) -> dict[str, Any]:
    moment = datetime.fromtimestamp(time.time() - days_ago * DAY, UTC)
    return {"release": ref(number), "action": action, "time": moment.isoformat()}


def needed(told: Told, *, days: float = 30, history: int = 2) -> set[int]:
    return {found.version for found in told._needed(time.time() - days * DAY, history)}


def test_the_way_back_stays() -> None:
    lines = [
        line(1, "created", 300), line(1, "promoted", 300), line(2, "created", 250),
        line(3, "promoted", 200), line(4, "refused", 190), line(5, "promoted", 180),
        line(3, "rolled_back", 170), line(6, "created", 5),
        {"release": None, "action": "rules_set", "time": datetime.now(UTC).isoformat()},
    ]  # fmt: skip
    assert needed(Told(lines, champion=ref(3), previous=ref(5))) == {3, 5, 6}
    assert needed(Told(lines, champion=ref(3)), history=3) == {1, 3, 5, 6}
    assert needed(Told(lines, champion=ref(3), candidate=ref(2)), history=1) == {2, 3, 6}
    assert needed(Told(lines), days=200.5, history=1) == {3, 4, 5, 6}


@pytest.mark.parametrize(("days", "history"), [(0, 10), (30, 0)])
def test_without_a_margin_it_does_nothing(days: int, history: int) -> None:
    with pytest.raises(InvalidInput, match="at least 1"):
        Told([]).gc(days=days, history=history)
