"""`proa.rollout.workloads.Workloads` over Deployments: what charts install, releases move.

A model is a Deployment and a Service of its name, made by a chart. A release comes and goes by one
annotation of its pod template (design §4); the other track is a copy of both that the controller
makes and owns. Nothing is remembered here: everything is read from what the API says.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proa.cluster.api import Cluster, Object
from proa.cluster.watch import Watched
from proa.errors import Conflict, NotFound, Refused
from proa.release.reference import ReleaseRef
from proa.rollout.workloads import Deployed
from proa_controller.deployed import (
    BASE,
    CAUSE,
    CHART,
    MODEL,
    OWN,
    RELEASE,
    TRACK,
    VERSION,
    WRITES,
    Parts,
    base_of,
    chart_container,
    deployed,
    generation_of,
    has_lost_own,
    own_of,
    release_in,
    revisions,
    set_fields,
    with_container,
)

__all__ = ["MANAGER", "DeploymentWorkloads", "ReleaseTemplate"]

MANAGER: Final = "proa-controller"
_SUFFIX: Final = "-challenger"
_PORT: Final = 8080
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class ReleaseTemplate:
    """What of a pod template a release decides.

    Attributes:
        own: fields of the first container (`image`, …); None for what the chart says.
    """

    release: ReleaseRef
    own: Mapping[str, Any] | None = None


class DeploymentWorkloads:
    """Deployments with the label `proa.dev/model` in some namespaces; safe from any thread.

    Args:
        cluster: writes through it are the only ones made here.
        changed: called after every change of what is watched.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespaces: Sequence[str],
        *,
        changed: Callable[[], None] | None = None,
    ) -> None:
        self._cluster = cluster
        self._watched = {
            kind: Watched(cluster, kind, namespaces, label=MODEL, changed=changed)
            for kind in ("deployments", "replicasets", "pods")
        }

    def start(self) -> None:
        """Begin to watch."""
        for watched in self._watched.values():
            watched.start()

    def stop(self) -> None:
        """End the watches."""
        for watched in self._watched.values():
            watched.stop()

    def refresh(self) -> None:
        """See everything that was written before now, by whomever."""
        for watched in self._watched.values():
            watched.refresh()

    @property
    def synced(self) -> bool:
        """Whether everything was seen once."""
        return all(watched.synced for watched in self._watched.values())

    def champions(self) -> dict[str, Object]:
        """Model → the Deployment that a chart made for it."""
        return {
            item["metadata"]["labels"][MODEL]: item
            for item in self._watched["deployments"].items().values()
            if item["metadata"]["labels"].get(TRACK) == "champion"
            and item["metadata"]["name"] == item["metadata"]["labels"][MODEL]
        }

    # The port

    def apply(
        self,
        name: str,
        template: ReleaseTemplate,
        *,
        after: int,
        replicas: int | None = None,
        cause: str = "",
    ) -> int:
        """Write a release into a Deployment; the other track's is made from the champion's.

        Raises:
            Conflict (`template_changed`): see the port.
            Refused (`WorkloadMissing`): no chart has installed the model.
        """
        if name.endswith(_SUFFIX):
            champion = self._require(name.removesuffix(_SUFFIX))
            return self._clone(name, champion, template, after, replicas or 1, cause)
        return self._change(name, after, lambda present: _with_release(present, template, cause))

    def status(self, name: str) -> Deployed:
        """How a track is."""
        item = self._find(name)
        if item is None:
            return Deployed()
        metadata = item["metadata"]
        sets = self._owned("replicasets", item)
        pods = [pod for one in sets for pod in self._owned("pods", one)]
        url = f"http://{name}.{metadata['namespace']}.svc:{_PORT}"
        return deployed(Parts(item, sets, pods), url, stale=self._is_stale(name, item))

    def undo(self, name: str) -> int:
        """The last other release that it ran, again; settings of the chart stay as they are."""
        item = self._find(name)
        if item is None:
            raise NotFound(f"there is no Deployment {name}", code="unknown_workload")
        earlier = self._earlier(item)
        if earlier is None:
            raise Conflict(
                f"Deployment {name} has no earlier release to go back to", code="no_history"
            )
        cause = f"{earlier.release.short}: the release before, by undo"
        return self._change(
            name, generation_of(item), lambda now: _with_release(now, earlier, cause)
        )

    def _earlier(self, item: Object) -> ReleaseTemplate | None:
        present = release_in(item["spec"]["template"])
        for older in revisions(Parts(item, self._owned("replicasets", item))):
            template = older["spec"]["template"]
            release = release_in(template)
            if release is not None and release != present:
                return ReleaseTemplate(release, own_of(template))
        return None

    def delete(self, name: str) -> None:
        """Remove the other track; take the release out of a champion, which a chart owns."""
        item = self._find(name)
        if item is None:
            return
        namespace = item["metadata"]["namespace"]
        if name.endswith(_SUFFIX):
            self._cluster.delete("deployments", namespace, name)
            self._watched["deployments"].note_deleted(namespace, name)
            self._cluster.delete("services", namespace, name)
        elif RELEASE in (item["spec"]["template"]["metadata"].get("annotations") or {}):
            self._change(name, generation_of(item), _without_release)

    # Writing

    def _change(self, name: str, after: int, change: Callable[[Object], dict[str, Any]]) -> int:
        """Patch a champion over exactly the version that was looked at."""
        namespace = self._require(name)["metadata"]["namespace"]
        for _ in range(_TRIES):
            present = self._cluster.get("deployments", namespace, name)
            self._watched["deployments"].note(present)
            if generation_of(present) != after:
                raise Conflict(
                    f"Deployment {namespace}/{name} has another release than was seen",
                    code="template_changed",
                )
            patch = change(present)
            patch["metadata"]["resourceVersion"] = present["metadata"]["resourceVersion"]
            try:
                written = self._cluster.patch(
                    "deployments", namespace, name, patch, manager=MANAGER, how="strategic"
                )
            except Conflict:
                continue  # its status moves on all the time: look again
            self._watched["deployments"].note(written)
            return generation_of(written)
        raise Conflict(f"Deployment {namespace}/{name} changes too fast to be written")

    def _clone(
        self,
        name: str,
        champion: Object,
        template: ReleaseTemplate,
        after: int,
        replicas: int,
        cause: str,
    ) -> int:
        namespace = champion["metadata"]["namespace"]
        body = clone(champion, name, template, replicas, cause)
        self._write_service(name, champion)
        present = self._cluster.find("deployments", namespace, name)
        if (0 if present is None else generation_of(present)) != after:
            if present is not None:
                self._watched["deployments"].note(present)
            raise Conflict(f"Deployment {namespace}/{name} changed", code="template_changed")
        if present is None:
            written = self._cluster.create("deployments", namespace, body, manager=MANAGER)
        else:
            body["metadata"]["labels"][WRITES] = _next(present)
            body["metadata"]["resourceVersion"] = present["metadata"]["resourceVersion"]
            try:
                written = self._cluster.replace("deployments", namespace, body, manager=MANAGER)
            except Conflict as error:
                raise Conflict(error.message, code="template_changed") from error
        self._watched["deployments"].note(written)
        return generation_of(written)

    def _write_service(self, name: str, champion: Object) -> None:
        namespace = champion["metadata"]["namespace"]
        if self._cluster.find("services", namespace, name) is None:
            service = self._cluster.get("services", namespace, champion["metadata"]["name"])
            body = clone_service(service, name, _owner(champion))
            self._cluster.create("services", namespace, body, manager=MANAGER)

    # Reading

    def _find(self, name: str) -> Object | None:
        found = [
            item
            for (_, known), item in self._watched["deployments"].items().items()
            if known == name
        ]
        if len(found) > 1:
            where = " and ".join(sorted(item["metadata"]["namespace"] for item in found))
            raise Conflict(
                f"Deployment {name} is in {where}: a model's name is of one namespace",
                hint=f"helm uninstall {name} in one of them",
            )
        return found[0] if found else None

    def _require(self, name: str) -> Object:
        item = self._find(name)
        if item is None:
            raise Refused(
                f"there is no Deployment {name} with the label {MODEL}: nothing can run the model",
                hint=f"helm install {name} charts/predictor (or charts/assistant)",
                code="WorkloadMissing",
            )
        return item

    def _owned(self, kind: str, owner: Object) -> list[Object]:
        uid = owner["metadata"]["uid"]
        return [
            item
            for item in self._watched[kind].items().values()
            if any(ref["uid"] == uid for ref in item["metadata"].get("ownerReferences") or ())
        ]

    def _is_stale(self, name: str, item: Object) -> bool:
        metadata, template = item["metadata"], item["spec"]["template"]
        release = release_in(template)
        if not name.endswith(_SUFFIX):
            return release is not None and (
                metadata["labels"].get(VERSION) != str(release.version) or has_lost_own(template)
            )
        if release is None:
            return True
        champion = self._find(name.removesuffix(_SUFFIX))
        base = (metadata.get("annotations") or {}).get(BASE)
        return champion is not None and base != base_of(champion)


def _with_release(present: Object, template: ReleaseTemplate, cause: str) -> dict[str, Any]:
    """The patch that gives a champion a release, or tells again of the one it has."""
    release = template.release
    version = str(release.version)
    labels = {VERSION: version}
    if release_in(present["spec"]["template"]) != release:
        labels[WRITES] = _next(present)
    annotations, pods = _container(present, template.own)
    return {
        "metadata": {"labels": labels, "annotations": {CAUSE: cause}},
        "spec": {
            "template": {
                "metadata": {
                    "annotations": {RELEASE: str(release), **annotations},
                    "labels": {VERSION: version},
                },
                "spec": pods,
            }
        },
    }


def _without_release(present: Object) -> dict[str, Any]:
    """The patch that empties a champion."""
    annotations, pods = _container(present, None)
    return {
        "metadata": {
            "labels": {VERSION: None, WRITES: _next(present)},
            "annotations": {CAUSE: "no release"},
        },
        "spec": {
            "template": {
                "metadata": {
                    "annotations": {RELEASE: None, **annotations},
                    "labels": {VERSION: None},
                },
                "spec": pods,
            }
        },
    }


def _container(
    present: Object, own: Mapping[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Annotations and pod settings for what a release sets, or for the chart's again."""
    template = present["spec"]["template"]
    before = own_of(template)
    if own is None and before is None:
        return {}, {}
    chart = chart_container(template)
    keys = {*(before or {}), *(own or {})}
    fields = {key: chart.get(key) for key in sorted(keys)} | dict(own or {})
    told = {OWN: _text(own), CHART: _text(own and {key: chart.get(key) for key in own})}
    return told, {"containers": [{"name": chart["name"], **fields}]}


def _text(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(dict(value), sort_keys=True)


def clone(
    champion: Object, name: str, template: ReleaseTemplate, replicas: int, cause: str
) -> dict[str, Any]:
    """The other track's Deployment: the champion's settings, another release, its own track."""
    metadata, spec = champion["metadata"], copy.deepcopy(champion["spec"])
    release = template.release
    pods = spec["template"]
    annotations = dict(pods["metadata"].get("annotations") or {})
    container = chart_container(pods)
    for key in (OWN, CHART):
        annotations.pop(key, None)
    if template.own is not None:
        chart = {key: container.get(key) for key in template.own}
        annotations |= {OWN: _text(template.own) or "", CHART: _text(chart) or ""}
        container = set_fields(container, template.own)
    pods["spec"] = with_container(pods["spec"], container)
    track = {TRACK: "challenger"}
    pods["metadata"] = {
        "labels": {**pods["metadata"]["labels"], **track, VERSION: str(release.version)},
        "annotations": {**annotations, RELEASE: str(release)},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {
                **_own_labels(metadata), **track, VERSION: str(release.version), WRITES: "1",
            },
            "annotations": {CAUSE: cause, BASE: base_of(champion)},
            "ownerReferences": [_owner(champion)],
        },
        "spec": {
            **spec,
            "replicas": replicas,
            "selector": {"matchLabels": {**spec["selector"]["matchLabels"], **track}},
            "template": pods,
        },
    }  # fmt: skip


def clone_service(service: Object, name: str, owner: Mapping[str, Any]) -> dict[str, Any]:
    """The other track's Service."""
    metadata, spec = service["metadata"], service["spec"]
    track = {TRACK: "challenger"}
    ports = [_without_node_port(port) for port in spec["ports"]]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {**_own_labels(metadata), **track},
            "ownerReferences": [dict(owner)],
        },
        "spec": {"selector": {**spec["selector"], **track}, "ports": ports},
    }


def _own_labels(metadata: Object) -> dict[str, str]:
    """An object's labels without those that say a chart made it."""
    labels = metadata.get("labels") or {}
    kept = {key: value for key, value in labels.items() if not key.startswith("helm.sh/")}
    return {**kept, "app.kubernetes.io/managed-by": MANAGER}


def _owner(champion: Object) -> dict[str, Any]:
    metadata = champion["metadata"]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _without_node_port(port: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in port.items() if key != "nodePort"}


def _next(present: Object) -> str:
    return str(int(present["metadata"].get("labels", {}).get(WRITES, 0)) + 1)
