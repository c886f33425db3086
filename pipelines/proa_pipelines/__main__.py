"""`python -m proa_pipelines run | materialize | compile`, see `--help`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from proa.errors import InvalidInput, ProaError
from proa_pipelines.steps import UNTIL


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m proa_pipelines", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="run a project's pipeline on this machine")
    run.add_argument("project", type=Path, help="the folder that holds proa.yaml")
    run.add_argument("--home", type=Path, default=Path(".proa"), help="default ./.proa")
    run.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another value for a key of proa.yaml, as train.trials=30; may be repeated",
    )
    run.add_argument("--until", choices=UNTIL, default="promote", help="how far (default promote)")
    run.add_argument("--result", type=Path, metavar="FILE", help="write the result as JSON")
    own = verbs.add_parser("own", help="make a release of a model that is made already")
    own.add_argument("project", type=Path, help="proa.yaml of name, task, label and unit")
    own.add_argument("--home", type=Path, default=Path(".proa"), help="default ./.proa")
    own.add_argument("--from", dest="uri", metavar="MODEL", help="models:/NAME/VERSION or a file")
    own.add_argument("--data", type=Path, metavar="FILE", help="a sample of rows")
    own.add_argument("--new-exam", action="store_true", help="replace the exam made before")
    own.add_argument(
        "--set", dest="settings", action="append", default=[], type=_pair, metavar="KEY=VALUE"
    )
    own.add_argument("--until", choices=UNTIL[1:], default="register")
    own.add_argument("--result", type=Path, metavar="FILE", help="write the result as JSON")
    online = verbs.add_parser("materialize", help="bring the online features up to a moment")
    online.add_argument("project", type=Path, help="the folder that holds proa.yaml")
    online.add_argument("--home", type=Path, default=Path(".proa"), help="default ./.proa")
    online.add_argument("--until", required=True, metavar="TIME", help="RFC 3339 with a zone")
    build = verbs.add_parser("compile", help="write a pipeline as IR YAML for a cluster")
    build.add_argument("kind", choices=("classic", "llm"))
    build.add_argument("target", type=Path, metavar="FILE")
    build.add_argument(
        "--until", choices=UNTIL, default="promote", help="how far (default promote)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one verb; a `ProaError` becomes its exit code and one or two lines on stderr."""
    options = _parser().parse_args(argv)
    from proa_pipelines import runner

    try:
        if options.verb == "compile":
            runner.compile_pipeline(options.kind, options.target, until=options.until)
            return 0
        if options.verb == "materialize":
            _materialize(options)
            return 0
        if options.verb == "own":
            from proa_pipelines import own

            return own.run(options, say=lambda text: print(text, flush=True))
        runner.run(
            options.project,
            options.home,
            overrides=dict(_pair(text) for text in options.settings),
            until=options.until,
            result=options.result,
        )
    except ProaError as error:
        if getattr(options, "result", None) is not None:
            return error.exit_code  # it stands in the result file, for whoever asked for one
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


def _materialize(options: argparse.Namespace) -> None:
    from proa_pipelines.release_steps import materialize

    done = materialize(str(options.project), str(options.home), options.until)
    for view, window in done.items():
        print(f"  {view}  {' to '.join(window) if window else 'up to date'}")


def _pair(text: str) -> tuple[str, str]:
    key, mark, value = text.partition("=")
    if not mark or not key:
        raise InvalidInput(f"--set {text!r}: expected KEY=VALUE, as train.trials=30")
    return key, value


if __name__ == "__main__":
    raise SystemExit(main())
