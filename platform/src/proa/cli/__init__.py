"""`proa`, the command line: parse, call the fleet, render. No rule of proa lives here."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from proa.cli.calls import calls_commands
from proa.cli.decisions import decision_commands
from proa.cli.environments import environments
from proa.cli.exams import exam_commands
from proa.cli.journal import journal_commands
from proa.cli.judge import judge
from proa.cli.output import Output
from proa.cli.platform import platform_commands
from proa.cli.projects import project_commands
from proa.cli.releases import release_commands
from proa.cli.rollouts import rollout_commands
from proa.errors import ProaError

__all__ = ["main", "make_cli"]

_HELP = """proa: classic models and language models as one fleet.

\b
Exit codes: 0 done          2 bad input        3 key or right missing   4 not found
            5 conflict      6 refused by rule  7 limit reached          8 not available
            70 a fault of proa itself
Answers go to stdout, everything else to stderr; --json prints one JSON value.
"""


def make_cli() -> click.Group:
    """The command tree."""

    @click.group(help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
    @click.option(
        "--home",
        envvar="PROA_HOME",
        type=click.Path(file_okay=False),
        help="The platform's home folder (else PROA_HOME, else ./.proa).",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON value on stdout.")
    @click.version_option(package_name="proa")
    @click.pass_context
    def proa(context: click.Context, home: str | None, as_json: bool) -> None:
        context.obj = Output(home=home, as_json=as_json)

    for command in (
        *platform_commands(),
        *project_commands(),
        *release_commands(),
        *exam_commands(),
        judge,
        *rollout_commands(),
        *decision_commands(),
        *journal_commands(),
        environments,
        *calls_commands(),
    ):
        proa.add_command(command)
    return proa


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; a user's mistake ends in one sentence, a hint and an exit code."""
    try:
        make_cli().main(args=_lift_json(arguments), standalone_mode=False)
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
