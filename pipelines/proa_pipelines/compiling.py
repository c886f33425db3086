"""The pipelines as IR YAML, which Kubeflow Pipelines runs on a cluster."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import yaml

from proa.fleet.preset import PipelinesSection
from proa_pipelines import pods

KINDS: Final = {"classic": "classic", "llm": "llm", "own": "own_pipeline"}
"""Every pipeline, and the module with its graph."""


def graph(kind: str, until: str, section: PipelinesSection | None = None) -> Any:
    """The pipeline as far as `until`, its tasks dressed for the cluster of `section`."""
    from kfp.dsl.pipeline_context import Pipeline

    def dress() -> None:
        pods.dress(Pipeline.get_default_pipeline().tasks.values(), section)

    return import_module(f"proa_pipelines.{KINDS[kind]}").build(until, dress)


def compile_pipeline(
    kind: str, target: Path, *, until: str = "promote", section: PipelinesSection | None = None
) -> None:
    """Write the pipeline as IR YAML; with a section, ready for that cluster's pods."""
    from kfp import compiler

    with quiet():
        pipeline = graph(kind, until, section)
        compiler.Compiler().compile(pipeline, package_path=str(target))
    if section is not None:
        spec = yaml.safe_load(target.read_text())
        executors = spec["deploymentSpec"]["executors"]
        text = yaml.safe_dump(pods.placed(section, executors), sort_keys=True)
        with target.open("a") as file:
            file.write(f"\n---\n{text}")


def compile_all(folder: Path) -> list[Path]:
    """Write every pipeline, whole, below `folder`; what `pipelines/compiled` holds."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for kind in KINDS:
        target = folder / f"{kind}.yaml"
        compile_pipeline(kind, target)
        written.append(target)
    return written


@contextmanager
def quiet() -> Iterator[None]:
    """Without what KFP warns of in vain."""
    with warnings.catch_warnings():
        # KFP asks whether an image without "python" in its name has Python: it has
        warnings.filterwarnings("ignore", message="You may be attemping to run a task")
        warnings.filterwarnings("ignore", category=FutureWarning, module="kfp")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield
