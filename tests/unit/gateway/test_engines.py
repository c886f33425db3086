"""Engines of one file, and of many ConfigMaps that different people write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proa.errors import InvalidInput, NotFound
from proa.ledger.prices import CallPrice
from proa_gateway.documents import Document
from proa_gateway.engines import EngineEntries, parse_engines

PRICES = {"input_per_million_micro": 1, "output_per_million_micro": 2}
KEYS = Path("/etc/proa/engine-key")


def entry(url: str = "http://e.ns.svc:8000", **more: object) -> dict[str, object]:
    return {"url": url, "prices": PRICES, **more}


def document(name: str, **entries: object) -> Document:
    return Document(name, json.dumps(entries).encode())


def test_engines_are_read_and_their_keys_not_shown(tmp_path: Path) -> None:
    (tmp_path / "engine.key").write_text("very-secret\n")
    spec = entry("unix:///s", key_file=str(tmp_path / "engine.key"))
    table = parse_engines(json.dumps({"engines": {"e": spec}}).encode())
    assert table.engine("e").api_key == "very-secret"
    assert "very-secret" not in repr(table)
    assert table.urls() == {"unix:///s"}
    with pytest.raises(NotFound, match="no engine 'x'; the engines are: e"):
        table.engine("x")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"url": "ftp://x"}, "engines.e.url = 'ftp://x'"),
        ({"url": "http://x"}, "engines.e.prices.input_per_million_micro = None"),
        ([], "engines.e.url = None"),
    ],
)
def test_bad_engines_are_named(spec: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_engines(json.dumps({"engines": {"e": spec}}).encode())


def test_entries_of_many_are_one_table() -> None:
    read = EngineEntries(CallPrice(20), keys=KEYS)
    table, faults = read([document("n1/a", a=entry("http://a")), document("n2/b", b=entry())])
    assert set(table.engines) == {"a", "b"}
    assert (str(table.call_price), faults) == ("call:20", [])
    table, _ = read([document("n2/b", b=entry())])
    assert set(table.engines) == {"b"}  # taken away is taken away
    assert read([]).value.engines == {}


def test_a_bad_one_costs_nobody_else_anything_and_keeps_its_own_last_good_one() -> None:
    read = EngineEntries(CallPrice(0), keys=KEYS)
    read([document("n1/a", a=entry("http://a"))])
    for bad in (b"{", b'{"a":{"url":1}}', b""):
        table, faults = read([Document("n1/a", bad), document("n2/b", b=entry())])
        assert {name: engine.url for name, engine in table.engines.items()} == {
            "a": "http://a",
            "b": "http://e.ns.svc:8000",
        }
        assert len(faults) == 1
        assert faults[0].startswith("n1/a: ")


def test_of_two_with_one_identity_the_older_answers_and_both_are_named() -> None:
    read = EngineEntries(CallPrice(0), keys=KEYS)
    table, faults = read(
        [document("n2/old", x=entry("http://old")), document("n1/new", x=entry("http://new"))]
    )
    assert table.engine("x").url == "http://old"
    assert faults == ["engine 'x' stands in n2/old and in n1/new"]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/proa/ledger/ledger-url",
        "/etc/proa/engine-key/../ledger/ledger-url",
        "/etc/proa/engine-key",
        "engine.key",
        7,
    ],
)
def test_an_entry_cannot_have_other_files_sent_to_its_address(path: object) -> None:
    read = EngineEntries(CallPrice(0), keys=KEYS)
    table, faults = read([document("n/e", x=entry(key_file=path))])
    assert not table.engines
    assert "n/e: engines.x.key_file = " in faults[0]
    assert f"expected a file below {KEYS}" in faults[0]


def test_a_key_in_its_folder_is_read(tmp_path: Path) -> None:
    # As the kubelet mounts a Secret: a link to a link.
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data/engine.key").write_text("k\n")
    (tmp_path / "engine.key").symlink_to("..data/engine.key")
    read = EngineEntries(CallPrice(0), keys=tmp_path)
    table, faults = read([document("n/e", x=entry(key_file=str(tmp_path / "engine.key")))])
    assert (table.engine("x").api_key, faults) == ("k", [])
