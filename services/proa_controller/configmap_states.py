"""`States` in ConfigMaps `proa-rollout-NAME`, each in its model's namespace.

Every write names the version it was based on: of two controllers that both believe to lead, one
writes and the other learns of it. The ConfigMap belongs to the model's Deployment and goes with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from proa.cluster.api import Cluster, Object
from proa.cluster.watch import Watched
from proa.errors import Conflict, InvalidInput, Unavailable
from proa.rollout.state import Rollout
from proa_controller.states import close_state, lines_of, open_state

__all__ = ["ConfigMapStates"]

_KEY: Final = "rollout.json"
_LABEL: Final = "proa.dev/rollout"
_MANAGER: Final = "proa-controller"
_LIMIT: Final = 1_000_000
"""Bytes: a ConfigMap holds 1 MiB with everything around it."""


class ConfigMapStates:
    """States in the model namespaces. Callers take turns (the controller's lock).

    Args:
        owner: a model's name → the Deployment its state belongs to, or None while there is none.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespaces: Sequence[str],
        *,
        owner: Callable[[str], Object | None],
    ) -> None:
        self._cluster = cluster
        self._namespaces = tuple(namespaces)
        self._owner = owner
        self._watched = Watched(cluster, "configmaps", namespaces, label=_LABEL)
        self._based_on: dict[str, Object | None] = {}

    def start(self) -> None:
        """Begin to watch."""
        self._watched.start()

    def stop(self) -> None:
        """End the watch."""
        self._watched.stop()

    def refresh(self) -> None:
        """See everything that was written before now, by whomever."""
        self._watched.refresh()

    @property
    def synced(self) -> bool:
        """Whether everything was seen once."""
        return self._watched.synced

    def names(self) -> list[str]:
        """Every model with a ConfigMap."""
        return sorted(item["metadata"]["labels"][_LABEL] for item in self._watched.items().values())

    def find(self, name: str) -> Rollout | None:
        """What the model's ConfigMap says; the next `put` is based on it."""
        item = self._based_on[name] = self._item(name)
        return None if item is None else open_state(_value(item))

    def unwritten(self, name: str) -> list[dict[str, Any]]:
        """The lines in the model's ConfigMap."""
        item = self._item(name)
        return [] if item is None else lines_of(_value(item))

    def put(self, state: Rollout, unwritten: Sequence[Mapping[str, Any]] = ()) -> None:
        """Replace what was last found.

        Raises:
            Conflict: it changed since, or there is one although none was found.
            Unavailable: the lines that wait for the journal fill the ConfigMap.
        """
        name = state.model
        text = json.dumps(close_state(state, unwritten), ensure_ascii=False, allow_nan=False)
        if len(text.encode()) > _LIMIT:
            raise Unavailable(
                f"{name}: {len(unwritten)} journal lines wait and fill its ConfigMap",
                hint="bring the ledger's database back",
                code="journal_full",
            )
        based_on = self._based_on.get(name)
        if based_on is None:
            namespace, owners = self._place(name)
            body = _body(namespace, name, owners, text)
            written = self._cluster.create("configmaps", namespace, body, manager=_MANAGER)
        else:
            metadata = based_on["metadata"]
            owners = metadata.get("ownerReferences") or self._place(name, metadata["namespace"])[1]
            body = _body(metadata["namespace"], name, owners, text)
            body["metadata"]["resourceVersion"] = metadata["resourceVersion"]
            namespace = metadata["namespace"]
            written = self._cluster.replace("configmaps", namespace, body, manager=_MANAGER)
        self._watched.note(written)
        self._based_on[name] = written

    def _item(self, name: str) -> Object | None:
        items = self._watched.items().values()
        found = [item for item in items if item["metadata"]["labels"][_LABEL] == name]
        if len(found) > 1:
            where = " and ".join(sorted(item["metadata"]["namespace"] for item in found))
            raise Conflict(f"the state of {name} is in {where}: expected one ConfigMap")
        return found[0] if found else None

    def _place(self, name: str, namespace: str | None = None) -> tuple[str, list[dict[str, Any]]]:
        """Namespace and owner of a model's ConfigMap."""
        owner = self._owner(name)
        if owner is None:
            return namespace or self._namespaces[0], []
        metadata = owner["metadata"]
        if namespace not in (None, metadata["namespace"]):
            return str(namespace), []  # an owner is of the same namespace
        reference = {"apiVersion": "apps/v1", "kind": "Deployment"}
        return metadata["namespace"], [
            {**reference, "name": metadata["name"], "uid": metadata["uid"]}
        ]


def _body(namespace: str, name: str, owners: list[dict[str, Any]], text: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"proa-rollout-{name}",
            "namespace": namespace,
            "labels": {
                _LABEL: name,
                "app.kubernetes.io/managed-by": _MANAGER,
                "app.kubernetes.io/part-of": "proa",
            },
            "ownerReferences": owners,
        },
        "data": {_KEY: text},
    }


def _value(item: Object) -> dict[str, Any]:
    metadata = item["metadata"]
    where = f"ConfigMap {metadata['namespace']}/{metadata['name']}"
    try:
        value = json.loads(item["data"][_KEY])
    except (KeyError, ValueError) as error:
        raise InvalidInput(f"{where}: {_KEY}: expected a JSON object ({error})") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"{where}: {_KEY}: expected a JSON object")
    return value
