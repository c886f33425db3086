"""`rules`: what Prometheus is to watch of a project, and the tests that show it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proa.cli.output import Output
from proa.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from proa.findings.alerts import Floor, Scope
    from proa.project import Project


@click.command()
@click.argument("name", required=False)
@click.option(
    "--project",
    type=click.Path(path_type=Path),
    help="The project's folder (else this one, when its proa.yaml has that name).",
)
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the rules and promtool's tests of them into this folder.",
)
@click.option("--kubernetes", is_flag=True, help="A PrometheusRule instead of a rules file.")
@click.option("--namespace", help="The platform's namespace, a label of its series on a cluster.")
@click.option(
    "--objective",
    type=click.FloatRange(0.5, 0.99999),
    default=0.99,
    show_default=True,
    help="Share of calls that must not fail.",
)
@click.option(
    "--runbooks",
    default="charts/proa/RUNBOOKS.md#",
    show_default=True,
    help="In front of an alert's name in its runbook_url.",
)
@click.pass_obj
def rules(
    output: Output,
    name: str | None,
    project: Path | None,
    into: Path | None,
    kubernetes: bool,
    namespace: str | None,
    objective: float,
    runbooks: str,
) -> None:
    """Print Prometheus' rules for project NAME; without a name, those for every model.

    \b
    proa rules flight-delay --into alerts && promtool test rules alerts/*-test.yaml
    proa rules flight-delay --kubernetes --namespace proa | kubectl apply -f -
    """
    from proa.findings.alerts import Scope

    if name is None and project is not None:
        raise InvalidInput("--project: expected NAME beside it", param="project")
    found = {"namespace": namespace, "objective": objective, "runbooks": runbooks}
    scope = Scope(**found)  # type: ignore[arg-type]
    comments: list[str] = []
    if name is not None:
        scope, comments = _scope(_project(name, project), found)
    _give(output, scope, comments, into=into, kubernetes=kubernetes)


def _give(
    output: Output, scope: Scope, comments: list[str], *, into: Path | None, kubernetes: bool
) -> None:
    from proa.findings.rule_tests import promtool_tests
    from proa.findings.rules import kubernetes_object, rules_of, to_yaml

    made = rules_of(scope)
    shown = kubernetes_object(scope, made) if kubernetes else made
    if into is None:
        if not output.value(shown):
            click.echo(to_yaml(shown, *comments), nl=False)
        return
    into.mkdir(parents=True, exist_ok=True)
    title = scope.name or "models"
    plain = into / f"{title}.yaml"
    files = {plain: to_yaml(made, *comments)}
    files[into / f"{title}-test.yaml"] = to_yaml(promtool_tests(scope, rules=plain.name))
    if kubernetes:
        files[into / f"{title}-prometheusrule.yaml"] = to_yaml(shown, *comments)
    for path, text in files.items():
        path.write_text(text)
    if not output.value([str(path) for path in files]):
        for path in files:
            output.line(str(path))


def _project(name: str, folder: Path | None) -> Project:
    from proa.project import load

    try:
        project = load(folder or Path())
    except NotFound as error:
        if folder is not None:
            raise
        raise NotFound(
            f"{name}: expected its proa.yaml in this folder", hint="give --project FOLDER"
        ) from error
    if project.name != name:
        raise InvalidInput(
            f"{project.folder} is the project {project.name!r}, not {name!r}",
            param="project",
            hint=None if folder is not None else "give --project FOLDER",
        )
    return project


def _scope(project: Project, found: dict[str, Any]) -> tuple[Scope, list[str]]:
    """The project's scope, and what a reader of the file should know."""
    from proa.findings.alerts import Scope

    spec = project.spec
    floors, left = _floors(project)
    scope = Scope(
        name=project.name,
        kind=spec.kind,
        team=spec.team,
        floors=floors,
        slices=tuple(getattr(spec, "slices", ())),
        **found,
    )
    comments = [f"Of {project.name}, by `proa rules {project.name}`: change proa.yaml, not this."]
    if left:
        comments.append(f"Floors of the exam that no call shows: {', '.join(left)}.")
    return scope, comments


def _floors(project: Project) -> tuple[tuple[Floor, ...], list[str]]:
    """Floors of the exam on what the monitor measures, and the names of the others."""
    from proa.exam.exam import load_rules
    from proa.findings.alerts import Floor
    from proa.quality.state import METRICS

    if project.path("exam") is None:
        return (), []
    measured = {metric for metrics in METRICS.values() for metric in metrics}
    measured |= {"calibration_gap", "ece"}
    floors, left = [], []
    for floor in load_rules(project).floors:
        bound = floor.max if floor.min is None else floor.min
        if floor.metric in measured and not floor.suite and bound is not None:
            floors.append(Floor(floor.metric, bound, floor.min is not None))
        else:
            left.append(" ".join([floor.metric, *floor.suite]))
    return tuple(floors), left
