"""The pipeline of a model that is made already: one step, from MLflow to a judged release.

On one machine:  proa create FOLDER --from models:/NAME/VERSION --data SAMPLE   (without Kubeflow)
On a cluster:    proa create FOLDER --on cluster, with the lines `from:` and `data:` in proa.yaml
"""

# mypy: disable-error-code="untyped-decorator, no-any-return"

from collections.abc import Callable
from typing import Any

from kfp import dsl

from proa_pipelines.steps import HOME, IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def bring(
    project: str,
    overrides: str,
    home: str,
    until: str,
    run_id: str,
    job: str,
    cause: str,
    requested_by: str,
    finding: str,
    page: dsl.Output[dsl.Markdown],
    figures: dsl.Output[dsl.Metrics],
) -> str:
    from proa_pipelines.cards import lift
    from proa_pipelines.steps import run

    release = run(
        "own",
        "bring",
        project=project,
        overrides=overrides,
        home=home,
        until=until,
        run_id=run_id or job,
        cause=cause,
        requested_by=requested_by,
        finding=finding,
        page=page.path,
        figures=figures.path,
    )
    lift(figures)
    return release


def build(until: str, dress: Callable[[], None]) -> Any:
    """The pipeline as far as `until`: `register`, `gate` or `promote`."""

    @dsl.pipeline(name="own", description="From a model in MLflow to a judged release.")
    def own(
        project: str,
        home: str = HOME,
        run_id: str = "",
        overrides: str = "{}",
        cause: str = "",
        requested_by: str = "",
        evidence: str = "",
    ) -> None:
        bring(
            project=project,
            overrides=overrides,
            home=home,
            until=until,
            run_id=run_id,
            job=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            cause=cause,
            requested_by=requested_by,
            finding=evidence,
        )
        dress()

    return own
