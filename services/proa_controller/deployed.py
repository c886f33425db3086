"""How a Deployment is, as the rollout's rules need it: pure functions over Kubernetes objects."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proa.errors import InvalidInput
from proa.release.canonical import canonical_json
from proa.release.reference import ReleaseRef
from proa.rollout.workloads import Deployed

__all__ = [
    "BASE",
    "CAUSE",
    "CHART",
    "MODEL",
    "OWN",
    "RELEASE",
    "TRACK",
    "VERSION",
    "WRITES",
    "Parts",
    "base_of",
    "chart_container",
    "deployed",
    "generation_of",
    "has_lost_own",
    "own_of",
    "release_in",
    "revisions",
    "set_fields",
    "with_container",
]

Object = Mapping[str, Any]

MODEL: Final = "proa.dev/model"
TRACK: Final = "proa.dev/track"
VERSION: Final = "proa.dev/version"
RELEASE: Final = "proa.dev/release"
"""The annotation of the pod template that names the release."""
OWN: Final = "proa.dev/own-container"
"""The annotation of the pod template with what its release sets of the first container, if it does:
JSON with `image`, and `command`, `args`, `workingDir` of a container of any kind."""
CHART: Final = "proa.dev/chart-container"
"""Beside it, the same fields as the chart has them: they come back with the next release."""
WRITES: Final = "proa.dev/writes"
"""A label, since `kubectl rollout undo` sets annotations back: how often a template was written."""
BASE: Final = "proa.dev/champion-settings"
"""The annotation of a challenger with the digest of what it was cloned from."""
CAUSE: Final = "kubernetes.io/change-cause"

_REVISION: Final = "deployment.kubernetes.io/revision"
_STARTS: Final = 2
"""After so many restarts in a row a container will not start the next time either."""
_HOPELESS: Final = frozenset(
    {"ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError"}
)


@dataclass(frozen=True, slots=True)
class Parts:
    """A Deployment with its ReplicaSets and their pods."""

    deployment: Object
    replicasets: Sequence[Object] = ()
    pods: Sequence[Object] = ()


def release_in(template: Object) -> ReleaseRef | None:
    """The release a pod template names; None when it names none, or none that can be read."""
    text = (template.get("metadata") or {}).get("annotations", {}).get(RELEASE)
    try:
        return ReleaseRef.parse(text) if text else None
    except InvalidInput:
        return None


def generation_of(deployment: Object) -> int:
    """A number that changes with the release in the template, whoever changes it, and with
    nothing else: not when it is scaled, and not when a chart's upgrade changes other settings.

    Every write of ours counts on, so that a person's undo right after it is not taken for the
    template before it.
    """
    metadata = deployment["metadata"]
    release = release_in(deployment["spec"]["template"])
    text = f"{metadata['uid']} {metadata.get('labels', {}).get(WRITES, 0)} {release}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) or 1


def base_of(deployment: Object) -> str:
    """Digest of all settings of a champion that a challenger shares: everything but the release."""
    spec = deployment["spec"]
    template = spec["template"]
    metadata = template.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    shared = {
        "labels": _without(metadata.get("labels") or {}, {VERSION}),
        "annotations": _without(annotations, {RELEASE, OWN, CHART}),
        "pods": with_container(template["spec"], chart_container(template)),
        **{
            key: spec.get(key) for key in ("strategy", "minReadySeconds", "progressDeadlineSeconds")
        },
    }
    return hashlib.sha256(canonical_json(shared)).hexdigest()[:32]


def own_of(template: Object) -> dict[str, Any] | None:
    """What the release in a template sets of the first container; None when it sets nothing."""
    return _annotated(template, OWN)


def chart_container(template: Object) -> dict[str, Any]:
    """The first container as the chart has it, now or under what the release sets."""
    container = dict(template["spec"]["containers"][0])
    own, chart = _annotated(template, OWN) or {}, _annotated(template, CHART) or {}
    covered = {key: chart.get(key) for key in own if _same(container.get(key), own[key])}
    return set_fields(container, covered)


def has_lost_own(template: Object) -> bool:
    """Whether somebody (a chart's upgrade) wrote over what the release sets."""
    container = template["spec"]["containers"][0]
    own = _annotated(template, OWN) or {}
    return any(not _same(container.get(key), own[key]) for key in own)


def set_fields(container: Object, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A container with some fields set; None takes one away."""
    return {key: value for key, value in {**container, **fields}.items() if value is not None}


def with_container(pods: Object, container: Object) -> dict[str, Any]:
    """A pod's spec with another first container."""
    return {**pods, "containers": [dict(container), *pods["containers"][1:]]}


def _annotated(template: Object, key: str) -> dict[str, Any] | None:
    text = (template["metadata"].get("annotations") or {}).get(key)
    return None if text is None else dict(json.loads(text))


def _same(one: Any, other: Any) -> bool:
    return (one or None) == (other or None)  # the API drops empty lists


def revisions(parts: Parts) -> list[Object]:
    """The Deployment's ReplicaSets, newest first."""
    return sorted(parts.replicasets, key=_revision, reverse=True)


def deployed(parts: Parts, url: str, *, stale: bool = False) -> Deployed:
    """What runs and what is meant to, of one Deployment.

    While old and new pods serve side by side, the old release is the one that answers: the new
    one answers when no old pod is left.

    Args:
        url: where its pods are reached.
        stale: see `Deployed`.
    """
    deployment, sets = parts.deployment, revisions(parts)
    spec, status = deployment["spec"], deployment.get("status") or {}
    wanted = release_in(spec["template"])
    observed = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    total = int(spec.get("replicas", 1))
    complete = (
        observed
        and status.get("updatedReplicas", 0) >= total
        and status.get("replicas", 0) == status.get("updatedReplicas", 0)
    )
    # Of a complete rollout the Deployment knows itself how many answer: what is known of its
    # ReplicaSets comes by another watch, and may be older.
    release, ready = (
        (wanted, int(status.get("readyReplicas", 0))) if complete else _answers(sets, wanted)
    )
    return Deployed(
        template_release=wanted,
        generation=generation_of(deployment),
        release=release,
        url=None if release is None else url,
        ready=ready > 0 and release is not None,
        failed=_fault(parts, sets) if observed and not (complete and ready) else None,
        stale=stale,
        replicas=total,
        capacity=ready,
    )


def _answers(sets: Sequence[Object], wanted: ReleaseRef | None) -> tuple[ReleaseRef | None, int]:
    """The release that answers during a rollout, and how many pods of it do."""
    ready: dict[ReleaseRef | None, int] = {}
    for item in sets:
        count = (item.get("status") or {}).get("readyReplicas", 0)
        if count:
            of = release_in(item["spec"]["template"])
            ready[of] = ready.get(of, 0) + count
    others = {of: count for of, count in ready.items() if of != wanted}
    if others:
        old = max(others, key=lambda of: others[of])
        return old, others[old]
    return wanted, ready.get(wanted, 0)


def _fault(parts: Parts, sets: Sequence[Object]) -> str | None:
    """Why the pods of the present template do not start, in words for a person."""
    present = _present(parts.deployment, sets)
    if present is None or (present.get("status") or {}).get("readyReplicas", 0):
        return None
    uid = present["metadata"]["uid"]
    pods = [pod for pod in parts.pods if _is_owned(pod, uid)]
    for pod in pods:
        for what, container in _containers(pod):
            told = _hopeless(what, container)
            if told is not None:
                return told
    late = _condition(parts.deployment, "Progressing")
    if late.get("status") == "False" and late.get("reason") == "ProgressDeadlineExceeded":
        reasons = [told for pod in pods for told in _waits(pod)]
        failure = _condition(parts.deployment, "ReplicaFailure").get("message")
        why = failure or (reasons[0] if reasons else late.get("message", ""))
        return f"ProgressDeadlineExceeded: {why}"
    return None


def _hopeless(what: str, container: Object) -> str | None:
    """Why a container will never start, or None while it may."""
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    if waiting.get("reason") in _HOPELESS:
        return f"{what}: {waiting['reason']}: {waiting.get('message', container.get('image'))}"
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    if container.get("restartCount", 0) >= _STARTS and ended and ended.get("exitCode"):
        return f"{what} ended {container['restartCount']} times: {_last_words(ended)}"
    return None


def _waits(pod: Object) -> Iterator[str]:
    """What a pod that is not ready waits for."""
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        yield f"{scheduled.get('reason', 'Unschedulable')}: {scheduled.get('message', '')}"
    for what, container in _containers(pod):
        state = container.get("state") or {}
        ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
        if ended and ended.get("exitCode"):
            yield f"{what}: {_last_words(ended)}"
        elif "waiting" in state and state["waiting"].get("message"):
            yield f"{what}: {state['waiting']['reason']}: {state['waiting']['message']}"
    if _condition(pod, "Ready").get("status") == "False":
        yield f"{pod['metadata']['name']} runs and is not ready"


def _last_words(ended: Object) -> str:
    """A container's end: its message's last line (its log's end, by our charts' policy)."""
    lines = [line for line in str(ended.get("message") or "").splitlines() if line.strip()]
    said = f": {lines[-1].strip()[:300]}" if lines else ""
    return f"exit code {ended['exitCode']}{said}"


def _containers(pod: Object) -> Iterator[tuple[str, Object]]:
    status = pod.get("status") or {}
    for kind, key in (
        ("init container", "initContainerStatuses"),
        ("container", "containerStatuses"),
    ):
        for container in status.get(key) or ():
            yield f"{kind} {container['name']}", container


def _present(deployment: Object, sets: Sequence[Object]) -> Object | None:
    """The ReplicaSet of the present template."""
    revision = (deployment["metadata"].get("annotations") or {}).get(_REVISION)
    for item in sets:
        if str(_revision(item)) == revision:
            same = release_in(item["spec"]["template"]) == release_in(
                deployment["spec"]["template"]
            )
            return item if same else None
    return None


def _revision(item: Object) -> int:
    return int((item["metadata"].get("annotations") or {}).get(_REVISION, 0))


def _condition(item: Object, kind: str) -> Mapping[str, Any]:
    conditions = (item.get("status") or {}).get("conditions") or ()
    return next((found for found in conditions if found["type"] == kind), {})


def _is_owned(item: Object, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in item["metadata"].get("ownerReferences") or ())


def _without(items: Mapping[str, str], keys: set[str]) -> dict[str, str]:
    return {key: value for key, value in items.items() if key not in keys}
