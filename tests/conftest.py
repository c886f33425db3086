"""Fixtures of every lane."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import postgres as _postgres
from tests import processes as _processes

# Two cores shared with real processes: a slow example says nothing about the code.
settings.register_profile("proa", deadline=None)
settings.load_profile("proa")


def pytest_configure() -> None:
    """What this process and its children inherit."""
    # An environment that a test builds is imported from many times: compiled once it costs a third.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # OpenMP's threads spin while they wait, on cores that other processes of the test need.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")


@pytest.fixture(autouse=True, scope="session")
def _only_near_addresses() -> Iterator[None]:
    """Tests speak to this machine and to clusters on it: a public address is a mistake."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple):
            try:
                near = ipaddress.ip_address(address[0]).is_private
            except ValueError:
                near = address[0] in ("localhost", "")
            if not near:
                raise AssertionError(f"a test tried to reach {address[0]}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


@pytest.fixture
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_processes.Processes]:
    """Start, kill and stop real processes; everything is gone after the test."""
    started = _processes.Processes(tmp_path_factory.mktemp("processes"))
    yield started
    started.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[_postgres.Server]:
    """A real Postgres, started once; a test that stops it starts it again."""
    if (reason := _postgres.missing()) is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    server = _postgres.Server()
    yield server
    server.close()


@pytest.fixture
def start_process(processes: _processes.Processes) -> Callable[..., _processes.Started]:
    """`start_process(argv, env) -> (proc, url)`; see `tests.processes.Processes.start`."""
    return processes.start


@pytest.fixture
def free_port() -> Callable[[], int]:
    """`free_port() -> int`."""
    return _processes.free_port


@pytest.fixture
def wait_until() -> Callable[..., object]:
    """`wait_until(predicate, deadline)` returns the first true value."""
    return _processes.wait_until


@pytest.fixture
def keys_of(tmp_path: Path) -> Callable[..., str]:
    """`keys_of(path, *rights, team=…, feature=…) -> text` makes a key in a ledger file."""
    from proa.ledger.keys import KeyStore

    def make(path: Path, *rights: str, team: str = "team-a", feature: str = "feature-a") -> str:
        store = KeyStore(path)
        try:
            return store.create(team=team, feature=feature, rights=rights).text
        finally:
            store.close()

    return make
