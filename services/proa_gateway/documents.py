"""Where routes and engines come from: documents that somebody else writes.

`file:///path` is one file, `configmap://NAMESPACE/NAME` the routes of a cluster,
`configmaps://NS1,NS2?label=KEY` every engine's entry in some namespaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qs, urlsplit

from proa.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from proa.cluster.api import Cluster

__all__ = ["Document", "Documents", "FileDocument", "cluster_of", "documents_of"]


@dataclass(frozen=True, slots=True)
class Document:
    """One document; `name` is its path, or `NAMESPACE/NAME` of its ConfigMap."""

    name: str
    body: bytes


class Documents(Protocol):
    """A place with documents."""

    @property
    def known(self) -> bool:
        """Whether it is known what is there; until then `look` says nothing."""

    def look(self) -> Sequence[Document] | None:
        """All that is there, oldest first; None when that is what the last look found.

        Raises:
            Unavailable: something is there and cannot be read.
        """

    def close(self) -> None:
        """Look no more."""


class FileDocument:
    """One file, read again when its inode, size or time changes; a look costs a `stat(2)`."""

    known = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: object = self  # nothing yet, not even that it is missing

    def look(self) -> Sequence[Document] | None:
        try:
            stat = self._path.stat()
            seen = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        except FileNotFoundError:
            seen = None
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be read: {error.strerror}") from error
        if seen == self._seen:
            return None
        self._seen = seen
        if seen is None:
            return ()
        try:
            return (Document(str(self._path), self._path.read_bytes()),)
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be read: {error.strerror}") from error

    def close(self) -> None:
        """Nothing is open."""


def cluster_of(*urls: str) -> Cluster | None:
    """The cluster, where one of these URLs needs it: its client costs memory.

    Raises:
        Unavailable: no cluster is configured.
    """
    if not any(url.startswith("configmap") for url in urls):
        return None
    from proa.cluster.api import connect

    return connect()


def documents_of(url: str, *, what: str, key: str, cluster: Cluster | None) -> Documents:
    """The documents of a URL.

    Args:
        what: names the argument in errors.
        key: the entry of a ConfigMap that holds the document.
        cluster: where ConfigMaps are.

    Raises:
        InvalidInput: a scheme or form that has no meaning here.
    """
    parts = urlsplit(url)
    if url.startswith("file:///"):
        return FileDocument(Path(url.removeprefix("file://")))
    if cluster is not None and parts.netloc:
        from proa_gateway.config_maps import ConfigMaps

        label = parse_qs(parts.query).get("label", [])
        if parts.scheme == "configmap" and parts.path.count("/") == 1:
            return ConfigMaps(cluster, [parts.netloc], key=key, name=parts.path[1:])
        if parts.scheme == "configmaps" and not parts.path and len(label) == 1:
            return ConfigMaps(cluster, parts.netloc.split(","), key=key, label=label[0])
    raise InvalidInput(
        f"{what} = {url!r}: expected file:///absolute/path, configmap://NAMESPACE/NAME or "
        "configmaps://NAMESPACE,NAMESPACE?label=KEY",
        param=what,
    )
