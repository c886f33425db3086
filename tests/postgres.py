"""A real Postgres for tests: its own data folder, a password, loopback only; stopped by its pid.

Its default collation sorts as people do (ICU, en-US): what must be in byte order has to say so.
`fsync` is off: tests end its process, never the machine.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import psycopg

from tests.processes import free_port, wait_until

BIN = Path("/usr/lib/postgresql/15/bin")
PACKAGE = {str(BIN / "postgres"): "postgresql-15"}
USER = "proa"
PASSWORD = "not-a-secret"


def missing() -> str | None:
    """Why there is no Postgres here, in one line; None when there is, or it can be installed."""
    if (BIN / "postgres").exists() or (os.geteuid() == 0 and shutil.which("apt-get")):
        return None
    return f"no {BIN}/postgres: apt-get install postgresql-15"


class Server:
    """One server and its databases; `stop` and `start` as often as wanted, on the same port."""

    def __init__(self) -> None:
        if not (BIN / "postgres").exists():
            from tests.cluster import packages

            packages.install(PACKAGE)
        self._numbers = count(1)
        self._proc: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        # Below /tmp itself: the folders of pytest are closed to the server's user.
        self.folder = Path(tempfile.mkdtemp(prefix="proa-postgres-"))
        if os.geteuid() == 0:  # the server refuses to run as root
            entry = pwd.getpwnam("postgres")
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        try:
            self._initialize()
            self.start()
        except BaseException:
            self.close()
            raise

    def _initialize(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            shutil.chown(secret, "postgres")
        self._run(
            *("initdb", "-D", self.data, "-U", USER, "--pwfile", secret, "-A", "scram-sha-256"),
            *("-E", "UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"),
            "--no-sync",
        )

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def create(self) -> str:
        """A new, empty database; its URL."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def start(self) -> None:
        """Start, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._proc = subprocess.Popen(
                self._as_user(
                    *("postgres", "-D", self.data, "-p", self.port, "-k", self.folder),
                    *("-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"),
                    *("-c", "shared_buffers=16MB", "-c", "max_connections=60"),
                ),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, 30, what=f"Postgres, see {self.folder}/log", every=0.05)

    def stop(self) -> None:
        """Fast shutdown: sessions are cut, data is whole."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Immediate shutdown, as if the power went: the next start recovers."""
        self._end(signal.SIGQUIT)

    def freeze(self) -> None:
        """Everything stands still: connections are taken by the kernel, nothing is answered."""
        assert self._proc is not None
        # First who starts the others; each of them has a session of its own.
        os.kill(self._proc.pid, signal.SIGSTOP)
        for pid in self._children():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._proc is not None
        for pid in (*self._children(), self._proc.pid):
            os.kill(pid, signal.SIGCONT)

    def _children(self) -> list[int]:
        assert self._proc is not None
        listed = Path(f"/proc/{self._proc.pid}/task/{self._proc.pid}/children")
        return [int(pid) for pid in listed.read_text().split()]

    def run(self, *argv: str | Path) -> str:
        """A command of Postgres, such as pg_dump, with the password in its environment."""
        return self._run(*argv)

    def close(self) -> None:
        if self._proc is not None:
            self.thaw()
            self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, number: int) -> None:
        if self._proc is not None:
            self._proc.send_signal(number)
            try:
                self._proc.wait(60)
            except subprocess.TimeoutExpired:
                self._proc.kill()
                self._proc.wait(10)
            self._proc = None

    def _answers(self) -> bool:
        assert self._proc is not None
        if self._proc.poll() is not None:
            raise AssertionError((self.folder / "log").read_text()[-2000:])
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _as_user(self, command: str, *rest: object) -> Sequence[str]:
        # It ends with this process, even when that is killed.
        argv = ["setpriv", "--pdeathsig=QUIT"]
        if os.geteuid() == 0:
            argv += ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
        return [*argv, str(BIN / command), *map(str, rest)]

    def _run(self, command: str | Path, *rest: object) -> str:
        done = subprocess.run(
            self._as_user(str(command), *rest),
            env={**os.environ, "PGPASSWORD": PASSWORD},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stderr.strip()[-2000:]}")
        return done.stdout
