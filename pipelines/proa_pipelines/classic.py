"""The classic pipeline: from the project's data to a judged, promoted release.

On one machine:  python -m proa_pipelines run pipelines/flight_delay --home .proa --until promote
On a cluster:    python -m proa_pipelines compile classic classic.yaml   (IR YAML for Kubeflow)

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
def ingest(project: str, overrides: str, tables: dsl.Output[dsl.Dataset]) -> None:
    from proa_pipelines.steps import run

    run("classic", "ingest", project=project, overrides=overrides, tables=tables.path)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def validate(
    project: str,
    overrides: str,
    tables: dsl.Input[dsl.Dataset],
    report: dsl.Output[dsl.Markdown],
) -> None:
    from proa_pipelines.steps import run

    run(
        "classic",
        "validate",
        project=project,
        overrides=overrides,
        tables=tables.path,
        report=report.path,
    )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def features(
    project: str,
    overrides: str,
    home: str,
    tables: dsl.Input[dsl.Dataset],
    dataset: dsl.Output[dsl.Dataset],
) -> None:
    from proa_pipelines.steps import run

    run(
        "classic",
        "features",
        project=project,
        overrides=overrides,
        home=home,
        tables=tables.path,
        dataset=dataset.path,
    )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def search(
    project: str,
    overrides: str,
    dataset: dsl.Input[dsl.Dataset],
    trials: dsl.Output[dsl.Artifact],
    figures: dsl.Output[dsl.Metrics],
) -> str:
    from proa_pipelines.cards import lift
    from proa_pipelines.steps import run

    parameters = run(
        "classic",
        "search",
        project=project,
        overrides=overrides,
        dataset=dataset.path,
        trials=trials.path,
        figures=figures.path,
    )
    lift(figures)
    return parameters


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    project: str,
    overrides: str,
    parameters: str,
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
) -> None:
    from proa_pipelines.steps import run

    run(
        "classic",
        "train",
        project=project,
        overrides=overrides,
        parameters=parameters,
        dataset=dataset.path,
        model=model.path,
    )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def calibrate(
    project: str,
    overrides: str,
    parameters: str,
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    calibrated: dsl.Output[dsl.Model],
    figures: dsl.Output[dsl.Metrics],
    curves: dsl.Output[dsl.ClassificationMetrics],
) -> None:
    from proa_pipelines.cards import lift
    from proa_pipelines.steps import run

    run(
        "classic",
        "calibrate",
        project=project,
        overrides=overrides,
        parameters=parameters,
        dataset=dataset.path,
        model=model.path,
        calibrated=calibrated.path,
        figures=figures.path,
        curves=curves.path,
    )
    lift(figures, curves)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def slices(
    project: str,
    overrides: str,
    dataset: dsl.Input[dsl.Dataset],
    calibrated: dsl.Input[dsl.Model],
    table: dsl.Output[dsl.Artifact],
) -> None:
    from proa_pipelines.steps import run

    run(
        "classic",
        "slices",
        project=project,
        overrides=overrides,
        dataset=dataset.path,
        calibrated=calibrated.path,
        table=table.path,
    )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def stage(
    project: str,
    overrides: str,
    run_id: str,
    job: str,
    parameters: str,
    dataset: dsl.Input[dsl.Dataset],
    calibrated: dsl.Input[dsl.Model],
    slices: dsl.Input[dsl.Artifact],
    trials: dsl.Input[dsl.Artifact],
    release: dsl.Output[dsl.Artifact],
    evidence: dsl.Output[dsl.Artifact],
) -> None:
    from proa_pipelines.steps import run

    run(
        "classic",
        "stage",
        project=project,
        overrides=overrides,
        run_id=run_id,
        job=job,
        parameters=parameters,
        dataset=dataset.path,
        calibrated=calibrated.path,
        slices=slices.path,
        trials=trials.path,
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
        "classic",
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
        "classic",
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

    run("classic", "promote", project=project, overrides=overrides, home=home, release=release)


def build(until: str, dress: Callable[[], None]) -> Any:
    """The pipeline as far as `until`, one of `steps.UNTIL`; `dress` is called once it stands.

    `until` shapes the graph while it is built: a graph that ends early shows no skipped steps, and
    the one question left for the run is the verdict.
    """

    @dsl.pipeline(
        name="classic", description="From a project's data to a judged, promoted release."
    )
    def classic(
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

    return classic


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
    got = ingest(project=project, overrides=overrides)
    tables = got.outputs["tables"]
    checked = validate(project=project, overrides=overrides, tables=tables)
    joined = features(project=project, overrides=overrides, home=home, tables=tables)
    joined.after(checked)
    dataset = joined.outputs["dataset"]

    found = search(project=project, overrides=overrides, dataset=dataset)
    parameters = found.outputs["Output"]
    fitted = train(project=project, overrides=overrides, parameters=parameters, dataset=dataset)
    good = calibrate(
        project=project,
        overrides=overrides,
        parameters=parameters,
        dataset=dataset,
        model=fitted.outputs["model"],
    )
    calibrated = good.outputs["calibrated"]
    sliced = slices(project=project, overrides=overrides, dataset=dataset, calibrated=calibrated)
    staged = stage(
        project=project,
        overrides=overrides,
        run_id=run_id,
        job=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        parameters=parameters,
        dataset=dataset,
        calibrated=calibrated,
        slices=sliced.outputs["table"],
        trials=found.outputs["trials"],
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
