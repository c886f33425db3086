"""The last good content of documents: files, and the rule for many of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from proa.errors import InvalidInput
from proa_gateway.documents import Document, FileDocument, documents_of
from proa_gateway.last_good import LastGood, Reading, only
from proa_gateway.routes import RouteTable, parse_routes

EMPTY = RouteTable(0, {})


def routes(generation: int) -> str:
    return json.dumps({"schema_version": 1, "generation": generation, "models": {}})


def test_a_bad_or_missing_file_leaves_the_last_good_content(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, told = tmp_path / "routes.json", list[int]()
    held = LastGood(
        FileDocument(path),
        only(parse_routes, url=f"file://{path}"),
        empty=EMPTY,
        changed=lambda table: told.append(table.generation),
    )
    assert held.known
    assert not held.check()
    assert held.error == f"file://{path} does not exist"
    assert not caplog.records  # a gateway may come before its routes
    path.write_text(routes(7))
    assert held.check()
    assert not held.check()
    assert (held.value.generation, held.error) == (7, None)
    path.write_text("{")
    assert not held.check()
    assert held.value.generation == 7
    assert f"{path}: routes.json is not valid JSON" in str(held.error)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    path.unlink()
    for _ in range(3):
        held.check()
    assert held.value.generation == 7
    assert len(caplog.records) == 2  # told once, not ten times a second
    path.write_text(routes(8))
    assert held.check()
    assert told == [7, 8]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    held = LastGood(FileDocument(tmp_path / "folder"), only(parse_routes, url="x"), empty=EMPTY)
    assert not held.check()
    assert held.error == f"{tmp_path}/folder cannot be read: Is a directory"


class Given:
    """Documents that a test puts there."""

    known = True

    def __init__(self) -> None:
        self.now: Sequence[Document] | None = None

    def look(self) -> Sequence[Document] | None:
        found, self.now = self.now, None
        return found

    def close(self) -> None: ...


def test_what_vanishes_stays_in_force_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    given, url = Given(), "configmap://proa/proa-routes"
    held = LastGood(given, only(parse_routes, url=url), empty=EMPTY)
    given.now = ()
    assert not held.check()
    assert held.value.generation == 0
    assert not caplog.records
    given.now = (Document("proa/proa-routes", routes(3).encode()),)
    assert held.check()
    given.now = ()
    assert not held.check()
    assert (held.value.generation, held.error) == (3, f"{url} does not exist")
    assert "what was good before stays in force" in caplog.text


def test_a_part_in_force_is_a_value_with_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    given = Given()
    held = LastGood(given, lambda found: Reading(len(found), ["b is wrong"]), empty=0)
    given.now = (Document("a", b""), Document("b", b""))
    assert held.check()
    assert (held.value, held.error) == (2, "b is wrong")
    assert "b is wrong" in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "http://x", "file://x", "configmap://ns", "configmap:///name", "configmap://ns/a/b",
        "configmaps://ns", "configmaps://ns/x?label=y", "",
    ],
)  # fmt: skip
def test_other_urls_are_named(url: str) -> None:
    with pytest.raises(InvalidInput, match="--routes = ") as caught:
        documents_of(url, what="--routes", key="routes.json", cluster=None)
    assert caught.value.param == "--routes"
    assert "expected file:///absolute/path, configmap://" in caught.value.message
