"""Documents in ConfigMaps, followed through the Kubernetes API."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from proa.cluster.api import Cluster, Object
from proa.cluster.watch import Watched
from proa_gateway.documents import Document

__all__ = ["ConfigMaps"]


class ConfigMaps:
    """The ConfigMap of a name, or those with a label; the last copy stays while the API is away.

    A ConfigMap without the entry `key` is an empty document, so that whoever reads it can say so.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespaces: Sequence[str],
        *,
        key: str,
        label: str | None = None,
        name: str | None = None,
    ) -> None:
        self._key = key
        self._changed = threading.Event()
        self._changed.set()  # that nothing is there is news, too
        self._started = False
        self._watched = Watched(
            cluster,
            "configmaps",
            namespaces,
            label=label,
            name=name,
            changed=self._changed.set,
        )

    @property
    def known(self) -> bool:
        return self._watched.synced

    def look(self) -> Sequence[Document] | None:
        if not self._started:
            self._started = True
            self._watched.start()
        if not self.known or not self._changed.is_set():
            return None
        self._changed.clear()
        found = sorted(self._watched.items().values(), key=_age)
        return [self._document(item) for item in found]

    def close(self) -> None:
        self._watched.stop()

    def _document(self, item: Object) -> Document:
        metadata, data = item["metadata"], item.get("data") or {}
        body = data.get(self._key, "").encode()
        return Document(f"{metadata['namespace']}/{metadata['name']}", body)


def _age(item: Object) -> tuple[str, str, str]:
    metadata = item["metadata"]
    return metadata["creationTimestamp"], metadata["namespace"], metadata["name"]
