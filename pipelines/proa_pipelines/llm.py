"""The llm pipeline: from the project's documents to a judged, promoted release.

On one machine:  python -m proa_pipelines run pipelines/python_help --home .proa --until promote
On a cluster:    python -m proa_pipelines compile llm llm.yaml   (IR YAML for Kubeflow)

Components import one function and call it, so that the same body runs in a child process here and
in a container there. They must stay free of `from __future__ import annotations`: KFP reads the
annotations.
"""

# mypy: disable-error-code="untyped-decorator, no-any-return"

from collections.abc import Callable
from typing import Any

from kfp import dsl

from proa_pipelines.steps import HOME, IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def documents(
    project: str,
    overrides: str,
    corpus: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.Markdown],
) -> None:
    from proa_pipelines.steps import run

    run(
        "llm",
        "documents",
        project=project,
        overrides=overrides,
        corpus=corpus.path,
        report=report.path,
    )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def chunks(
    project: str,
    overrides: str,
    home: str,
    corpus: dsl.Input[dsl.Dataset],
    pieces: dsl.Output[dsl.Dataset],
) -> None:
    from proa_pipelines.steps import run

    run(
        "llm",
        "chunks",
        project=project,
        overrides=overrides,
        home=home,
        corpus=corpus.path,
        pieces=pieces.path,
    )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def index(
    project: str,
    overrides: str,
    home: str,
    corpus: dsl.Input[dsl.Dataset],
    pieces: dsl.Input[dsl.Dataset],
    index_file: dsl.Output[dsl.Artifact],
    figures: dsl.Output[dsl.Metrics],
) -> None:
    from proa_pipelines.cards import lift
    from proa_pipelines.steps import run

    run(
        "llm",
        "index",
        project=project,
        overrides=overrides,
        home=home,
        corpus=corpus.path,
        pieces=pieces.path,
        index_file=index_file.path,
        figures=figures.path,
    )
    lift(figures)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prompt(project: str, overrides: str, home: str) -> str:
    from proa_pipelines.steps import run

    return run("llm", "prompt", project=project, overrides=overrides, home=home)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def stage(
    project: str,
    overrides: str,
    home: str,
    run_id: str,
    job: str,
    prompt_version: str,
    index_file: dsl.Input[dsl.Artifact],
    release: dsl.Output[dsl.Artifact],
    evidence: dsl.Output[dsl.Artifact],
) -> None:
    from proa_pipelines.steps import run

    run(
        "llm",
        "stage",
        project=project,
        overrides=overrides,
        home=home,
        run_id=run_id,
        job=job,
        prompt_version=prompt_version,
        index_file=index_file.path,
        release=release.path,
        evidence=evidence.path,
    )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    project: str,
    overrides: str,
    home: str,
    cause: str,
    requested_by: str,
    finding: str,
    release: dsl.Input[dsl.Artifact],
    evidence: dsl.Input[dsl.Artifact],
    page: dsl.Output[dsl.Markdown],
) -> str:
    from proa_pipelines.steps import run

    return run(
        "llm",
        "register",
        project=project,
        overrides=overrides,
        home=home,
        release=release.path,
        evidence=evidence.path,
        page=page.path,
        cause=cause,
        requested_by=requested_by,
        finding=finding,
    )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def gate(
    project: str,
    overrides: str,
    home: str,
    release: str,
    page: dsl.Output[dsl.Markdown],
    figures: dsl.Output[dsl.Metrics],
) -> str:
    from proa_pipelines.cards import lift
    from proa_pipelines.steps import run

    verdict = run(
        "llm",
        "gate",
        project=project,
        overrides=overrides,
        home=home,
        release=release,
        page=page.path,
        figures=figures.path,
    )
    lift(figures)
    return verdict


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promote(project: str, overrides: str, home: str, release: str) -> None:
    from proa_pipelines.steps import run

    run("llm", "promote", project=project, overrides=overrides, home=home, release=release)


def build(until: str, dress: Callable[[], None]) -> Any:
    """The pipeline as far as `until`, one of `steps.UNTIL`; `dress` is called once it stands.

    With `stage` there is no platform to register the prompt at: the release says version 1.
    """

    @dsl.pipeline(name="llm", description="From a project's documents to a judged release.")
    def llm(
        project: str,
        home: str = HOME,
        run_id: str = "",
        overrides: str = "{}",
        cause: str = "",
        requested_by: str = "",
        evidence: str = "",
    ) -> None:
        _graph(until, project, home, run_id, overrides, cause, requested_by, evidence)
        dress()

    return llm


def _graph(
    until: str,
    project: str,
    home: str,
    run_id: str,
    overrides: str,
    cause: str,
    requested_by: str,
    evidence: str,
) -> None:
    read = documents(project=project, overrides=overrides)
    corpus = read.outputs["corpus"]
    cut = chunks(project=project, overrides=overrides, home=home, corpus=corpus)
    written = index(
        project=project,
        overrides=overrides,
        home=home,
        corpus=corpus,
        pieces=cut.outputs["pieces"],
    )
    version: Any = ""
    if until != "stage":
        version = prompt(project=project, overrides=overrides, home=home).output
    staged = stage(
        project=project,
        overrides=overrides,
        home=home,
        run_id=run_id,
        job=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        prompt_version=version,
        index_file=written.outputs["index_file"],
    )
    if until == "stage":
        return
    made = register(
        project=project,
        overrides=overrides,
        home=home,
        cause=cause,
        requested_by=requested_by,
        finding=evidence,
        release=staged.outputs["release"],
        evidence=staged.outputs["evidence"],
    )
    if until == "register":
        return
    verdict = gate(project=project, overrides=overrides, home=home, release=made.outputs["Output"])
    if until == "gate":
        return
    with dsl.If(verdict.outputs["Output"] == "pass"):
        promote(project=project, overrides=overrides, home=home, release=made.outputs["Output"])
