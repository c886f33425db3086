"""How a step's pod looks on a cluster: image, resources, and the files that it is given.

Kubeflow takes resources and environment with the pipeline, and Secrets, claims and labels in a
second document, `platforms.kubernetes`, of the shape of its `KubernetesExecutorConfig`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from proa.fleet import PLATFORM
from proa.fleet.preset import PipelinesSection
from proa_pipelines.steps import HOME

_GPU_STEPS: Final = ("search", "train")
_PLATFORM_AT, _KEYS_AT = "/etc/proa/platform", "/etc/proa/keys"
_BUNDLES_AT, _MLFLOW_AT = "/etc/proa/bundles", "/tmp/.mlflow"  # noqa: S108 (HOME of the pod)
CLIENT_LABEL: Final = {"proa.dev/client": "true"}
"""The platform's network policies let pods with it in."""


def dress(tasks: Iterable[Any], section: PipelinesSection | None) -> None:
    """Set what Kubeflow takes with the pipeline itself.

    Nothing is cached: data and documents come from where they may have changed, and every step
    after them works on what they read.

    Args:
        tasks: `dsl.PipelineTask`s.
        section: None for a pipeline that somebody will place later.
    """
    for task in tasks:
        task.set_caching_options(enable_caching=False)
        if section is None:
            continue
        task.set_container_image(section.image)
        wanted = section.resources
        for value, setter in (
            (wanted.cpu_request, task.set_cpu_request),
            (wanted.cpu_limit, task.set_cpu_limit),
            (wanted.memory_request, task.set_memory_request),
            (wanted.memory_limit, task.set_memory_limit),
        ):
            if value:
                setter(value)
        if section.gpu and task.name in _GPU_STEPS:
            task.set_accelerator_type(section.gpu_type)
            task.set_accelerator_limit(section.gpu)
        for name, value in environment(section).items():
            task.set_env_variable(name, value)


def environment(section: PipelinesSection) -> dict[str, str]:
    """Where a step finds its files; no secret among them."""
    found = {"HOME": "/tmp", PLATFORM: f"{_PLATFORM_AT}/platform.yaml"}  # noqa: S108
    if section.bundles_secret:
        found["AWS_SHARED_CREDENTIALS_FILE"] = f"{_BUNDLES_AT}/credentials"
    return found


def placed(section: PipelinesSection, executors: Iterable[str]) -> dict[str, Any]:
    """The second document: the same Secrets, claim, labels and node for every step."""
    one: dict[str, Any] = {
        "configMapAsVolume": [
            {
                "configMapName": section.platform,
                "configMapNameParameter": _constant(section.platform),
                "mountPath": _PLATFORM_AT,
                "optional": False,
            }
        ],
        "secretAsVolume": [_secret(section.key_secret, _KEYS_AT)],
        "podMetadata": {"labels": {**CLIENT_LABEL, **section.labels}},
    }
    for name, at in ((section.mlflow_secret, _MLFLOW_AT), (section.bundles_secret, _BUNDLES_AT)):
        if name:
            one["secretAsVolume"].append(_secret(name, at))
    claims = [(name, at) for name, at in ((section.claim, HOME),
                                          (section.bundles_claim, "/bundles")) if name]  # fmt: skip
    if claims:
        one["pvcMount"] = [
            {"constant": name, "pvcNameParameter": _constant(name), "mountPath": at}
            for name, at in claims
        ]
    if not section.claim:
        one["emptyDirMounts"] = [{"volumeName": "proa-home", "mountPath": HOME}]
    if section.node_selector:
        one["nodeSelector"] = {"labels": dict(section.node_selector)}
    if section.image_pull_secrets:
        one["imagePullSecret"] = [
            {"secretName": name, "secretNameParameter": _constant(name)}
            for name in section.image_pull_secrets
        ]
    deployment = {"executors": {name: one for name in executors}}  # noqa: C420 (one, not copies)
    return {"platforms": {"kubernetes": {"deploymentSpec": deployment}}}


def _secret(name: str, at: str) -> dict[str, Any]:
    return {
        "secretName": name,
        "secretNameParameter": _constant(name),
        "mountPath": at,
        "optional": False,
    }


def _constant(text: str) -> dict[str, Any]:
    return {"runtimeValue": {"constant": text}}
