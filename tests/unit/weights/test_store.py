"""Weights appear whole or not at all, and a changed byte is found."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from python_help.weights import store

SPEC = store.WeightsSpec(name="tiny", version="1-r1", licence="MIT", source={"package": "p==1"})


def _fill(folder: Path) -> None:
    (folder / "model.bin").write_bytes(b"weights")
    (folder / "sub").mkdir()
    (folder / "sub" / "tokenizer.json").write_text("{}")


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., tuple[Path, list[str]]]:
    def run(how: Callable[[Path], None] = _fill) -> tuple[Path, list[str]]:
        said: list[str] = []
        environ = {"PROA_CACHE": str(tmp_path)}
        return store.build_once(SPEC, how, environ=environ, say=said.append), said

    return run


def _never(_: Path) -> None:
    raise AssertionError("built although it is there")


def test_the_cache_follows_the_usual_variables() -> None:
    both = {"PROA_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}
    assert store.cache_root(both) == Path("/a/weights")
    assert store.cache_root({"XDG_CACHE_HOME": "/b", "HOME": "/c"}) == Path("/b/proa/weights")
    assert store.cache_root({"HOME": "/c"}) == Path("/c/.cache/proa/weights")


def test_built_once_then_verified(build: Callable[..., tuple[Path, list[str]]]) -> None:
    folder, said = build()
    assert folder.name == "tiny-1-r1"
    assert "built in" in said[-1]
    listing = store.verify(folder, SPEC)
    assert sorted(listing["files"]) == ["model.bin", "sub/tokenizer.json"]
    assert listing["licence"] == "MIT"
    again, said = build(_never)
    assert again == folder
    assert "verified" in said[-1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.bin").write_bytes(b"other"), r"model\.bin has sha256 .* expected"),
        (lambda f: (f / "model.bin").unlink(), r"lacks model\.bin"),
        (lambda f: (f / "more.py").write_text("x"), r"holds more\.py, which .* does not list"),
        (lambda f: (f / "weights.json").unlink(), r"holds no weights\.json"),
        (lambda f: (f / "weights.json").write_text("{"), "is not JSON"),
        (lambda f: (f / "weights.json").write_text("[]"), "expected an object"),
        (lambda f: (f / "weights.json").write_text('{"files": {}}'), "schema_version = None"),
    ],
)
def test_damage_is_named_and_mended(
    build: Callable[..., tuple[Path, list[str]]], damage: Callable[[Path], None], message: str
) -> None:
    folder, _ = build()
    damage(folder)
    with pytest.raises(store.WeightsError, match=message):
        store.verify(folder, SPEC)
    _, said = build()
    assert "building it again" in said[0]
    store.verify(folder, SPEC)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_build_that_fails_leaves_nothing(
    build: Callable[..., tuple[Path, list[str]]], tmp_path: Path
) -> None:
    def fail(folder: Path) -> None:
        _fill(folder)
        raise store.WeightsError("it disagrees")

    with pytest.raises(store.WeightsError, match="it disagrees"):
        build(fail)
    assert list((tmp_path / "weights").iterdir()) == []


def test_two_builders_at_once_end_with_one_whole_folder(
    build: Callable[..., tuple[Path, list[str]]], tmp_path: Path
) -> None:
    barrier = threading.Barrier(2)
    results: list[Path] = []

    def slowly(folder: Path) -> None:
        _fill(folder)
        barrier.wait(10)

    threads = [threading.Thread(target=lambda: results.append(build(slowly)[0])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(set(results)) == 1
    assert len(results) == 2
    store.verify(results[0], SPEC)
    assert len(list((tmp_path / "weights").iterdir())) == 1


def test_weights_that_were_never_built_are_named(tmp_path: Path) -> None:
    with pytest.raises(store.WeightsError, match=r"no weights tiny-1-r1 .*make setup-engine"):
        store.locate(SPEC, {"PROA_CACHE": str(tmp_path)})
