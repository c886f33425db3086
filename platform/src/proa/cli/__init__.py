"""`proa`, the command line: parse, call the fleet, render. No rule of proa lives here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import click
from click.core import ParameterSource

from proa.cli.calls import calls_commands
from proa.cli.decisions import decision_commands
from proa.cli.environments import environments
from proa.cli.exams import exam_commands
from proa.cli.journal import journal_commands
from proa.cli.judge import judge
from proa.cli.monitor import monitor
from proa.cli.output import Output
from proa.cli.platform import platform_commands
from proa.cli.projects import project_commands
from proa.cli.releases import release_commands
from proa.cli.retraining import retraining
from proa.cli.rollouts import rollout_commands
from proa.cli.rules import rules
from proa.cli.runtimes import runtime
from proa.cli.sweep import gc
from proa.cli.worklist import worklist
from proa.errors import ProaError

__all__ = ["kubectl", "main", "make_cli"]

_HELP = """proa: classic models and language models as one fleet.

\b
Exit codes: 0 done          2 bad input        3 key or right missing   4 not found
            5 conflict      6 refused by rule  7 limit reached          8 not available
            70 a fault of proa itself
Answers go to stdout, everything else to stderr; --json prints one JSON value.
"""


_KUBECTL_HELP = """kubectl proa: proa, for the platform in kubectl's cluster.

The platform is found by its Services' labels; what a command needs is port-forwarded while it runs.
"""


def make_cli(*, kubectl: bool = False) -> click.Group:
    """The command tree; with `kubectl`, for the platform in kubectl's cluster."""

    @click.group(
        help=(_KUBECTL_HELP if kubectl else "") + _HELP,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    @click.option(
        "--home",
        envvar="PROA_HOME",
        type=click.Path(file_okay=False),
        help="The platform's home folder (else PROA_HOME, else ./.proa).",
    )
    @click.option(
        "--platform",
        envvar="PROA_PLATFORM",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The file of a platform on a cluster (else PROA_PLATFORM).",
    )
    @click.option("-n", "--namespace", hidden=not kubectl, help="The platform's namespace.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON value on stdout.")
    @click.version_option(package_name="proa")
    @click.pass_context
    def proa(
        context: click.Context,
        home: str | None,
        platform: Path | None,
        namespace: str | None,
        as_json: bool,
    ) -> None:
        output = Output(home=home, as_json=as_json)
        if _said(context, "home") and not _said(context, "platform"):
            platform = None  # what was typed counts, not what the environment says
        output.platform = lambda: platform
        if kubectl and platform is None and not _said(context, "home"):
            output.platform = _in_cluster(context, output, namespace)
        elif namespace is not None:
            raise click.UsageError("-n is for kubectl proa, without --home and --platform")
        context.obj = output

    for command in (
        *platform_commands(),
        *project_commands(),
        *release_commands(),
        retraining,
        worklist,
        *exam_commands(),
        judge,
        *rollout_commands(),
        *decision_commands(),
        *journal_commands(),
        environments,
        rules,
        runtime,
        gc,
        *calls_commands(),
        monitor,
    ):
        proa.add_command(command)
    return proa


def _said(context: click.Context, option: str) -> bool:
    return context.get_parameter_source(option) is ParameterSource.COMMANDLINE


def _in_cluster(
    context: click.Context, output: Output, namespace: str | None
) -> Callable[[], Path]:
    """Opens the way into kubectl's cluster when a command first needs it."""
    verb = context.invoked_subcommand

    @cache
    def open_once() -> Path:
        from proa.cli.incluster import Reach, parts_of

        reach = Reach(namespace, os.environ, say=output.say)
        context.call_on_close(reach.close)
        return reach.open(parts_of(verb))

    return open_once


def kubectl(arguments: Sequence[str] | None = None) -> None:
    """`kubectl proa …`: the same commands, for the platform in kubectl's cluster."""
    main(arguments, kubectl=True)


def main(arguments: Sequence[str] | None = None, *, kubectl: bool = False) -> None:
    """Run a command; a user's mistake ends in one sentence, a hint and an exit code."""
    try:
        make_cli(kubectl=kubectl).main(args=_lift_json(arguments), standalone_mode=False)
    except ProaError as error:
        _fail(error.message, error.hint, error.exit_code)
    except click.ClickException as error:
        _fail(error.format_message(), None, 2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


def _lift_json(arguments: Sequence[str] | None) -> list[str]:
    """Let `--json` stand anywhere: `proa status --json` means `proa --json status`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    end = given.index("--") if "--" in given else len(given)
    head = [word for word in given[:end] if word != "--json"]
    return (["--json"] if len(head) < end else []) + head + given[end:]


def _fail(message: str, hint: str | None, code: int) -> None:
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    sys.exit(code)
