"""The home of an embedded platform: one folder which holds everything that lasts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from errno import EACCES
from hashlib import sha256
from pathlib import Path
from typing import Final

from proa.errors import InvalidInput

__all__ = ["Home", "find_home"]

_PRIVATE: Final = 0o700
# A socket's path has at most 107 bytes (sun_path); an engine's name takes 32 of them.
_SOCKET_FOLDER_BYTES: Final = 74


@dataclass(frozen=True, slots=True)
class Home:
    """Where things lie. Nothing is made or read before `create`.

    Attributes:
        root: an absolute path.
    """

    root: Path

    def __post_init__(self) -> None:
        if not self.root.is_absolute():
            raise InvalidInput(f"home {self.root}: expected an absolute path", param="home")

    @property
    def platform_file(self) -> Path:
        """What `up` decided: ports, URLs, engines, prices. No secrets."""
        return self.root / "platform.json"

    @property
    def keys(self) -> Path:
        """Clear keys of the platform's own processes and of the local user (0700, files 0600)."""
        return self.root / "keys"

    def key(self, name: str) -> Path:
        """The key file of a process or person, e.g. `admin`."""
        return self.keys / f"{name}.key"

    @property
    def mlflow(self) -> Path:
        return self.root / "mlflow"

    @property
    def bundles(self) -> Path:
        """Root of the content-addressed bundle store."""
        return self.root / "bundles"

    @property
    def releases(self) -> Path:
        """Materialized releases, one folder per digest."""
        return self.root / "releases"

    @property
    def runtimes(self) -> Path:
        """Environments of releases which bring their own requirements."""
        return self.root / "runtimes"

    @property
    def feast(self) -> Path:
        return self.root / "feast"

    @property
    def ledger(self) -> Path:
        """The SQLite file with calls and hashed keys."""
        return self.root / "ledger" / "ledger.db"

    @property
    def spool(self) -> Path:
        """The gateway's append-only segments of calls on their way into the ledger."""
        return self.root / "ledger" / "spool"

    @property
    def journal(self) -> Path:
        return self.root / "journal.db"

    @property
    def freeze_file(self) -> Path:
        """The platform-wide freeze windows; people write it."""
        return self.root / "freeze.yaml"

    @property
    def environments_file(self) -> Path:
        """Other platforms that releases are promoted to."""
        return self.root / "environments.json"

    @property
    def events(self) -> Path:
        return self.root / "events"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def workloads(self) -> Path:
        """Desired state: `NAME.json`, written by `up` and the controller."""
        return self.root / "workloads"

    def workload(self, name: str) -> Path:
        return self.workloads / f"{name}.json"

    @property
    def statuses(self) -> Path:
        """Observed state: `NAME.json`, written by the supervisor alone."""
        return self.root / "status"

    def status(self, name: str) -> Path:
        return self.statuses / f"{name}.json"

    @property
    def rollouts(self) -> Path:
        return self.root / "rollouts"

    def rollout(self, name: str) -> Path:
        return self.rollouts / f"{name}.json"

    @property
    def routes_file(self) -> Path:
        return self.root / "routes.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    @property
    def sockets(self) -> Path:
        """Unix sockets (0700: a socket's folder is what keeps other users out).

        A deep home keeps them in a folder of its own below /tmp, since a socket's path is short.
        """
        folder = self.root / "sockets"
        if len(os.fsencode(folder)) <= _SOCKET_FOLDER_BYTES:
            return folder
        digest = sha256(os.fsencode(self.root)).hexdigest()[:16]
        return Path(f"/tmp/proa-{os.getuid()}-{digest}")  # noqa: S108 (its owner is checked)

    def socket(self, name: str) -> Path:
        return self.sockets / f"{name}.sock"

    @property
    def exams(self) -> Path:
        """Answers of gates under way, and exams that MLflow did not take yet."""
        return self.root / "exams"

    @property
    def projects(self) -> Path:
        return self.root / "projects"

    @property
    def lock(self) -> Path:
        """Held by the one supervisor of this home; names its process."""
        return self.root / "supervisor.lock"

    def create(self) -> Home:
        """Make the folders, each for this user alone; mend the modes of those already there.

        Raises:
            InvalidInput: the root, or a folder in it, is a file or cannot be written.
        """
        folders = (
            self.root,
            *(self.keys, self.mlflow, self.bundles, self.releases, self.runtimes, self.feast),
            *(self.ledger.parent, self.spool, self.events, self.reports, self.workloads),
            *(self.statuses, self.rollouts, self.logs, self.projects, self.exams),
        )
        for folder in folders:
            self._make(folder)
        return self

    def create_sockets(self) -> Path:
        """Make the folder of the sockets, which may lie outside the root, as `create` does."""
        self._make(self.sockets)
        return self.sockets

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=_PRIVATE, parents=folder is self.root, exist_ok=True)
            if folder.lstat().st_uid != os.getuid():
                raise PermissionError(EACCES, "belongs to another user", str(folder))
            folder.chmod(_PRIVATE)
        except OSError as error:
            raise InvalidInput(
                f"home {self.root}: {error.filename}: {error.strerror}; expected a folder which "
                "this user may write",
                param="home",
            ) from error


def find_home(explicit: Path | None, environ: Mapping[str, str]) -> Home:
    """The home that was asked for: the argument, else PROA_HOME, else `.proa` in this folder."""
    chosen = explicit or Path(environ.get("PROA_HOME") or ".proa")
    return Home(chosen.expanduser().absolute())
