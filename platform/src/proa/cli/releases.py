"""`create`, `diff`, `show`: releases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from proa.cli.output import Output, as_person
from proa.errors import InvalidInput
from proa.http.clock import parse_time


def release_commands() -> list[click.Command]:
    """The commands of this file."""
    return [create, retrain, diff, show]


@click.command()
@click.argument(
    "project", default=".", type=click.Path(exists=True, path_type=Path), metavar="[PROJECT]"
)
@click.option("--from", "uri", metavar="MODEL", help="models:/NAME/VERSION, or a model's file.")
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A sample of rows for --from: Parquet, CSV or JSON lines.",
)
@click.option("--new-exam", is_flag=True, help="Replace the exam that --from made before.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="As train.trials=5.")
@click.option(
    "--until",
    type=click.Choice(["register", "gate", "promote"]),
    default="register",
    show_default=True,
    help="How far it goes.",
)
@click.option(
    "--on",
    type=click.Choice(["here", "cluster"]),
    default="here",
    show_default=True,
    help="Where it runs: on this machine, or on the platform file's Kubeflow Pipelines.",
)
@click.option("--every", metavar="CRON", help="With --on cluster: again and again; 'none' ends it.")
@click.option("--wait/--no-wait", default=True, help="With --on cluster: until the run ends.")
@click.pass_obj
def create(
    output: Output,
    project: Path,
    uri: str | None,
    data: Path | None,
    new_exam: bool,
    settings: tuple[str, ...],
    until: str,
    on: str,
    every: str | None,
    wait: bool,
) -> None:
    """Make a release: run a project's pipeline, or take a model that is made already.

    PROJECT is the folder of proa.yaml (else this one). With --from and --data, or the same keys in
    it, four lines are enough: name, task, label, unit.
    """
    from proa.project import OwnProject, load

    overrides = parse_settings(settings)
    fleet = output.fleet()
    if on == "cluster":
        if uri or data or new_exam:
            raise InvalidInput(
                "--from, --data and --new-exam are for this machine; on a cluster the lines "
                "`from:` and `data:` of proa.yaml say the same",
                param="on",
            )
        done = fleet.submit(
            project,
            overrides=overrides,
            until=until,
            every=every,
            wait=wait,
            on_line=output.say,
        )
        _tell_run(output, done)
        return
    if every is not None or not wait:
        raise InvalidInput("--every and --no-wait need --on cluster", param="on")
    if uri or data or new_exam or isinstance(load(project, overrides=overrides).spec, OwnProject):
        result = fleet.create_own(
            project,
            uri=uri,
            data=data,
            overrides=overrides,
            until=until,
            new_exam=new_exam,
            on_line=output.say,
        )
    else:
        result = fleet.create(project, overrides=overrides, until=until, on_line=output.say)
    if not output.value(result):
        output.line(result["release"])


def _tell_run(output: Output, done: dict[str, Any]) -> None:
    if not output.value(done):
        output.line(done.get("release") or done.get("url") or done["project"])


@click.command()
@click.argument("name")
@click.option("--reason", required=True, help="Why; it stands in the journal and in the run.")
@click.option("--cause", default="asked", show_default=True, help="One word, as drift, schedule.")
@click.option("--evidence", default="", help="Where it can be looked up: a finding, an address.")
@click.option(
    "--project",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The project's folder (else the one it was created from last).",
)
@click.option(
    "--labels-until",
    metavar="TIME",
    help="Train on all but the fresh days before TIME; they are the exam (section retrain).",
)
@click.option(
    "--until",
    type=click.Choice(["register", "gate", "promote"]),
    default="gate",
    show_default=True,
    help="How far it goes.",
)
@click.option("--wait/--no-wait", default=True, help="On a cluster: until the run ends.")
@as_person
@click.pass_obj
def retrain(
    output: Output,
    name: str,
    reason: str,
    cause: str,
    evidence: str,
    project: Path | None,
    labels_until: str | None,
    until: str,
    wait: bool,
    person: str | None,
) -> None:
    """Make a new release of a model for a reason that the journal and the run name."""
    moment = None if labels_until is None else parse_time(labels_until, what="labels-until")
    done = output.fleet(person).retrain(
        name,
        reason=reason,
        cause=cause,
        evidence=evidence,
        project=project,
        labels_until=moment,
        until=until,
        wait=wait,
        on_line=output.say,
    )
    _tell_run(output, done)


def parse_settings(settings: tuple[str, ...]) -> dict[str, str]:
    """Read `key=value` pairs."""
    pairs = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise InvalidInput(f"--set {setting!r}: expected key=value, as train.trials=5")
        pairs[key] = value
    return pairs


@click.command()
@click.argument("before")
@click.argument("after", required=False)
@click.pass_obj
def diff(output: Output, before: str, after: str | None) -> None:
    """What changed between two releases; with one, since the champion."""
    fleet = output.fleet()
    two = fleet.release(after or before)
    one = fleet.release(before) if after else fleet.release(f"{two.name}@champion")
    changes, lines = fleet.diff(one, two)
    exam = fleet.exam_changes(one, two)
    value = {"changes": [change.to_json() for change in changes], "text": lines, "exam": exam}
    if output.value(value):
        return
    output.say(f"{one.short} → {two.short}")
    for sentence in exam["loosened"]:
        output.line(f"the exam asks for less: {sentence}")
    if exam["tightened"]:
        output.line(f"the exam asks for more, in {len(exam['tightened'])} respects")
    if not changes:
        output.line("no difference")
        return
    rows = [(change.key, _brief(change.before), _brief(change.after)) for change in changes]
    output.table(["key", "before", "after"], rows)
    for line in lines:
        output.line(line)


def _brief(value: object) -> str:
    text = "-" if value is None else str(value)
    return text[:19] + "…" if text.startswith("sha256:") else text[:60]


@click.command()
@click.argument("release")
@click.pass_obj
def show(output: Output, release: str) -> None:
    """One release's manifest."""
    fleet = output.fleet()
    ref = fleet.release(release)
    manifest = fleet.manifest(ref)
    if not output.value({"release": str(ref), "manifest": manifest.model_dump(mode="json")}):
        from proa.release.page import release_page

        output.line(f"# {ref.short}\n\n{release_page(manifest, links={})}")
