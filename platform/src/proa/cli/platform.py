"""`up`, `down`, `status`, `keys`: the platform on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from proa.cli.output import Output, short
from proa.cli.signals import say_analysis


def platform_commands() -> list[click.Command]:
    """The commands of this file."""
    return [up, down, status, keys]


@click.command()
@click.option("--port", "ports", multiple=True, metavar="NAME=N", help="As gateway=9000.")
@click.option("--ports", "auto", type=click.Choice(["default", "auto"]), default="default")
@click.option("--engine", metavar="NAME", help="A language engine to start, as smollm2.")
@click.option(
    "--judge", type=float, metavar="SHARE", help="Of the answers, judged by the engine; 0 ends it."
)
@click.option(
    "--engine-standin", "standin", hidden=True, type=click.Path(exists=True, path_type=Path)
)
@click.pass_obj
def up(
    output: Output,
    ports: tuple[str, ...],
    auto: str,
    engine: str | None,
    judge: float | None,
    standin: Path | None,
) -> None:
    """Start the platform, or repair one that runs; waits until every part is ready."""
    from proa.embedded.engine_choice import choose_engine, stand_in
    from proa.embedded.home import find_home
    from proa.embedded.ports import PortPlan
    from proa.embedded.up import up as start

    home = find_home(Path(output.home) if output.home else None, os.environ)
    plan = PortPlan.parse(list(ports), auto=auto == "auto") if ports or auto == "auto" else None

    def progress(name: str, state: str, seconds: float, note: str) -> None:
        if state != "starting":
            output.say(f"{seconds:6.1f} s  {name:<12} {state} {note}".rstrip())

    spec = choose_engine(engine, os.environ) if engine else None
    if standin is not None:
        spec = stand_in(standin)
    platform = start(home, ports=plan, engine=spec, judge=judge, progress=progress)
    if not output.value({"home": str(home.root), "urls": dict(platform.urls)}):
        output.table(["part", "address"], sorted(platform.urls.items()))
        output.say("next: proa create pipelines/flight_delay")


@click.command()
@click.pass_obj
def down(output: Output) -> None:
    """Stop everything that `up` started; data stays."""
    from proa.embedded.home import find_home
    from proa.embedded.up import down as stop

    home = find_home(Path(output.home) if output.home else None, os.environ)
    done = stop(home)
    if output.value({"stopped": list(done.stopped), "kept": [str(path) for path in done.kept]}):
        return
    if not done.was_running:
        output.say("nothing was running")
    for name in done.stopped:
        output.say(f"stopped {name}")
    output.say(f"your data stays in {home.root}")


@click.command()
@click.argument("name", required=False)
@click.pass_obj
def status(output: Output, name: str | None) -> None:
    """What runs: the platform's parts and every model, or one model."""
    fleet = output.fleet()
    if name is not None:
        model = fleet.status(name)
        if not output.value(model):
            analysis = model.pop("analysis", None)
            output.table(["", ""], [(key, _plain(value)) for key, value in model.items()])
            say_analysis(output, analysis)
        return
    if output.platform() is None:
        parts, models = _parts(output), fleet.models()
        if output.value({"parts": parts, "models": models}):
            return
        rows = [
            (part["name"], "ready" if part["ready"] else "NOT READY", part["restarts"], part["url"])
            for part in parts
        ]
        output.table(["part", "state", "restarts", "address"], rows)
    else:
        platform, models = fleet.platform(), fleet.models()
        if output.value({"platform": platform, "models": models}):
            return
        _say_platform(output, platform)
    output.line("")
    output.table(["model", "kind", "champion", "phase", "traffic", "message"], map(_row, models))


def _say_platform(output: Output, platform: dict[str, Any]) -> None:
    """The leader and every gateway, with the routes that each has."""
    newest = platform["routes"]["generation"]
    # A controller that is alone leads without an election, and names itself.
    leader = platform["leader"] or (platform["identity"] if platform["leading"] else None)
    rows: list[tuple[object, ...]] = [
        ("controller", "leads" if leader else "NO LEADER", newest, leader or "-")
    ]
    for gateway in platform["gateways"]:
        behind = gateway["generation"] is None or gateway["generation"] < newest
        state = "ready" if gateway["ready"] else "NOT READY"
        rows.append(
            (
                "gateway",
                f"{state}, behind" if behind and gateway["ready"] else state,
                gateway["generation"],
                gateway["url"],
            )
        )
    output.table(["part", "state", "routes", "where"], rows)


def _row(model: dict[str, Any]) -> tuple[object, ...]:
    traffic = ", ".join(f"{short(ref)} {share:.0%}" for ref, share in model["traffic"].items())
    champion = short(model["champion"])
    message = "; ".join([*model["attention"], model["message"]]).removesuffix("; ")
    return model["model"], model["kind"], champion, model["phase"], traffic, message


def _parts(output: Output) -> list[dict[str, Any]]:
    from proa.embedded.home import find_home
    from proa.embedded.workloads import WorkloadFiles

    home = find_home(Path(output.home) if output.home else None, os.environ)
    files = WorkloadFiles(home)
    parts = []
    for path in sorted(home.workloads.glob("*.json")):
        found = files.status(path.stem)
        if found is not None and found.desired_release is None:
            parts.append(
                {
                    "name": found.name,
                    "ready": found.ready,
                    "restarts": found.restarts,
                    "url": found.url,
                    "pid": found.pid,
                    "failed": found.failed,
                }
            )
    return parts


def _plain(value: object) -> str:
    if isinstance(value, list):
        return "\n".join(str(item) for item in value) or "-"
    if isinstance(value, dict) and "hint" in value:
        refused = f"{short(value['release'])} ({value['code']}): {value['message']}"
        return f"{refused}\nmend: {value['hint']}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "-"
    return "-" if value is None or value == "" else str(value)


@click.group()
def keys() -> None:
    """Keys of callers: who they are, what they may do."""


@keys.command("create")
@click.option("--team", required=True)
@click.option("--feature", required=True)
@click.option("--right", "rights", multiple=True, default=("call",), show_default=True)
@click.option("--model", "models", multiple=True, help="Only these models (else all).")
@click.pass_obj
def keys_create(
    output: Output, team: str, feature: str, rights: tuple[str, ...], models: tuple[str, ...]
) -> None:
    """Make a key; its text is shown once and stored nowhere."""
    created = output.fleet().create_key(
        team=team, feature=feature, rights=list(rights), models=list(models) or None
    )
    if not output.value(created):
        output.line(created["key"])
