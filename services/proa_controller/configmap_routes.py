"""`Routes` in a ConfigMap, which every gateway watches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from proa.cluster.api import Cluster
from proa.cluster.watch import Watched
from proa.errors import NotFound

__all__ = ["ConfigMapRoutes"]

_KEY: Final = "routes.json"
_MANAGER: Final = "proa-controller"


class ConfigMapRoutes:
    """The document under `routes.json` of one ConfigMap."""

    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self._cluster = cluster
        self._key = (namespace, name)
        self._watched = Watched(cluster, "configmaps", [namespace], name=name)

    def start(self) -> None:
        """Begin to watch."""
        self._watched.start()

    def stop(self) -> None:
        """End the watch."""
        self._watched.stop()

    def refresh(self) -> None:
        """See what was written before now, by whomever."""
        self._watched.refresh()

    @property
    def synced(self) -> bool:
        """Whether it was looked at once."""
        return self._watched.synced

    def read(self) -> Mapping[str, Any] | None:
        """What the ConfigMap says; None when there is none, or nothing in it."""
        item = self._watched.items().get(self._key)
        text = None if item is None else (item.get("data") or {}).get(_KEY)
        return None if text is None else dict(json.loads(text))

    def write(self, document: Mapping[str, Any]) -> None:
        """Replace it over the version that was read.

        Raises:
            Conflict: somebody else wrote it meanwhile.
        """
        namespace, name = self._key
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace},
            "data": {_KEY: json.dumps(document, indent=1)},
        }
        item = self._watched.items().get(self._key)
        if item is None:
            written = self._cluster.create("configmaps", namespace, body, manager=_MANAGER)
        else:
            kept = {key: item["metadata"][key] for key in ("resourceVersion",)}
            body["metadata"] |= kept | {"labels": item["metadata"].get("labels") or {}}
            try:
                written = self._cluster.replace("configmaps", namespace, body, manager=_MANAGER)
            except NotFound:
                self._watched.note_deleted(namespace, name)
                raise
        self._watched.note(written)
