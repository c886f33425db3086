"""Objects of one kind as a cache that follows the API: list, watch, list again.

The last good copy stays while the API is away. Writers put what the API answered them into it
(`note`), so that they read their own writes before the watch tells of them.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from proa.cluster.api import Cluster, Object
from proa.errors import Conflict, ProaError

__all__ = ["Watched"]

log = logging.getLogger("proa.cluster")

Key = tuple[str, str]
"""Namespace and name."""

_RESYNC_SECONDS: Final = 300.0
_FIRST_WAIT: Final = 0.2
_LONGEST_WAIT: Final = 10.0


class Watched:
    """All objects of a kind in some namespaces, optionally by label or name.

    Args:
        changed: called, in a thread of this object, after every change; it must return quickly.
    """

    def __init__(
        self,
        cluster: Cluster,
        kind: str,
        namespaces: Sequence[str],
        *,
        label: str | None = None,
        name: str | None = None,
        changed: Callable[[], None] | None = None,
    ) -> None:
        self._cluster = cluster
        self._kind = kind
        self._label = label
        self._name = name
        self._changed = changed
        self._lock = threading.Lock()
        self._items: Mapping[Key, Object] = MappingProxyType({})
        self._unlisted = set(namespaces)
        self._namespaces = tuple(dict.fromkeys(namespaces))
        self._listed = threading.Event()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._follow, args=(namespace,), name=f"watch {kind}", daemon=True
            )
            for namespace in self._namespaces
        ]

    @property
    def synced(self) -> bool:
        """Whether every namespace was listed once."""
        return self._listed.is_set()

    def items(self) -> Mapping[Key, Object]:
        """A snapshot; it does not change, and neither may you change what is in it."""
        return self._items

    def start(self) -> None:
        """Begin to follow."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; threads that wait for the API end with their present request."""
        self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Wait until everything was listed once; whether it was."""
        return self._listed.wait(seconds)

    def refresh(self) -> None:
        """List everything now, so that nothing written before is missing from the snapshot."""
        for namespace in self._namespaces:
            self._list(namespace)

    def note(self, written: Object) -> None:
        """Take in what the API answered to a write of one's own."""
        self._put(written)

    def note_deleted(self, namespace: str, name: str) -> None:
        """Take in a deletion of one's own."""
        with self._lock:
            rest = {key: item for key, item in self._items.items() if key != (namespace, name)}
            self._items = MappingProxyType(rest)

    # The thread of one namespace

    def _follow(self, namespace: str) -> None:
        wait = _FIRST_WAIT
        since: str | None = None
        listed_at = 0.0
        while not self._stop.is_set():
            try:
                if since is None or time.monotonic() - listed_at > _RESYNC_SECONDS:
                    since = self._list(namespace)
                    listed_at = time.monotonic()
                since = self._watch(namespace, since)
                wait = _FIRST_WAIT
            except Conflict:
                since = None  # too old: list again, at once
            except ProaError as error:
                level = logging.WARNING if wait >= _LONGEST_WAIT else logging.INFO
                log.log(level, "%s in %s: %s", self._kind, namespace, error)
                self._stop.wait(wait * random.uniform(0.5, 1.0))
                wait = min(2 * wait, _LONGEST_WAIT)
            except Exception:
                log.exception("%s in %s: listed again", self._kind, namespace)
                since = None
                self._stop.wait(wait)
                wait = min(2 * wait, _LONGEST_WAIT)

    def _list(self, namespace: str) -> str:
        items, version = self._cluster.list(
            self._kind, namespace, label=self._label, name=self._name
        )
        found = {(namespace, item["metadata"]["name"]): item for item in items}
        with self._lock:
            present = self._items
            for key, item in present.items():
                # Written by ourselves after this list was made, or of another namespace.
                newer = _version(item) > int(version)
                if key[0] != namespace or newer:
                    found[key] = item
            changed = present.keys() != found.keys() or any(
                _version(found[key]) != _version(present[key]) for key in found
            )
            self._items = MappingProxyType(found)
            self._unlisted.discard(namespace)
            if not self._unlisted:
                self._listed.set()
        if changed:
            self._tell()
        return version

    def _watch(self, namespace: str, since: str) -> str:
        """Follow until the watch ends; return the last resource version seen."""
        seconds = random.randint(45, 75)  # many replicas must not come back all at once
        events = self._cluster.watch(
            self._kind, namespace, since=since, label=self._label, name=self._name, seconds=seconds
        )
        with contextlib.closing(events):
            for kind, item in events:
                since = item["metadata"]["resourceVersion"]
                if kind == "DELETED":
                    self._remove(item)
                elif kind != "BOOKMARK":
                    self._put(item)
                if self._stop.is_set():
                    break
        return since

    def _put(self, item: Object) -> None:
        key = _key(item)
        with self._lock:
            present = self._items.get(key)
            if present is not None and _version(present) >= _version(item):
                return
            self._items = MappingProxyType({**self._items, key: item})
        self._tell()

    def _remove(self, item: Object) -> None:
        key = _key(item)
        with self._lock:
            present = self._items.get(key)
            if present is None or _version(present) > _version(item):
                return
            self._items = MappingProxyType({k: v for k, v in self._items.items() if k != key})
        self._tell()

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed()


def _key(item: Object) -> Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _version(item: Object) -> int:
    # Comparable as integers (client-go's own caches rely on it).
    return int(item["metadata"]["resourceVersion"])
