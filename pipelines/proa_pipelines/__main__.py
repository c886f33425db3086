"""`python -m proa_pipelines run | own | submit | materialize | skew | compile`, see `--help`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

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
    run.add_argument(
        "--cause", dest="causes", action="append", default=[], type=_pair, metavar="KEY=VALUE"
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
    for verb in (run, own):
        verb.add_argument(
            "--platform", type=Path, metavar="FILE", help="the platform is this file's, not HOME's"
        )
    online = verbs.add_parser("materialize", help="bring the online features up to a moment")
    online.add_argument("project", type=Path, help="the folder that holds proa.yaml")
    online.add_argument("--home", type=Path, default=Path(".proa"), help="default ./.proa")
    online.add_argument("--until", required=True, metavar="TIME", help="RFC 3339 with a zone")
    skew = verbs.add_parser("skew", help="compare what a live model was given with its history")
    skew.add_argument("project", type=Path, help="the folder that holds proa.yaml")
    skew.add_argument("--home", type=Path, default=Path(".proa"), help="default ./.proa")
    skew.add_argument("--monitor", required=True, metavar="URL", help="http://host:port")
    skew.add_argument(
        "--key-file", type=Path, required=True, help="a key with the rights read and events"
    )
    skew.add_argument("--since", required=True, metavar="TIME", help="RFC 3339, of arrival")
    skew.add_argument("--limit", type=int, default=500, help="rows (default 500)")
    _cluster(verbs)
    return parser


def _cluster(verbs: Any) -> None:
    """What has to do with Kubeflow Pipelines."""
    away = verbs.add_parser("submit", help="run a project's pipeline on Kubeflow Pipelines")
    away.add_argument("project", help="the project's folder, or a model that was submitted before")
    away.add_argument(
        "--platform",
        type=Path,
        default=os.environ.get("PROA_PLATFORM"),
        metavar="FILE",
        help="the platform file (else PROA_PLATFORM)",
    )
    away.add_argument(
        "--set", dest="settings", action="append", default=[], type=_pair, metavar="KEY=VALUE"
    )
    away.add_argument(
        "--cause", dest="causes", action="append", default=[], type=_pair, metavar="KEY=VALUE"
    )
    away.add_argument("--until", choices=UNTIL[1:], default="register")
    away.add_argument("--every", metavar="CRON", help="a recurring run; 'none' ends it")
    away.add_argument("--no-wait", dest="wait", action="store_false")
    away.add_argument("--result", type=Path, metavar="FILE", help="write the result as JSON")
    build = verbs.add_parser("compile", help="write a pipeline as IR YAML for a cluster")
    build.add_argument("kind", choices=("classic", "llm", "own", "all"))
    build.add_argument("target", type=Path, metavar="FILE", help="for all: a folder")
    build.add_argument("--until", choices=UNTIL[1:], default="promote", help="default promote")
    build.add_argument(
        "--platform", type=Path, metavar="FILE", help="place its pods as this file says"
    )


def main(argv: list[str] | None = None) -> int:
    """Run one verb; a `ProaError` becomes its exit code and one or two lines on stderr."""
    result: Path | None = None
    try:
        options = _parser().parse_args(argv)
        result = getattr(options, "result", None)
        if result is not None:
            result.unlink(missing_ok=True)
        return _run(options)
    except ProaError as error:
        if result is not None and not result.exists():  # it failed before its first step
            result.parent.mkdir(parents=True, exist_ok=True)
            result.write_text(json.dumps(error.to_wire()))
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code


def _run(options: argparse.Namespace) -> int:
    if options.verb == "compile":
        _compile(options)
    elif options.verb == "submit":
        _submit(options)
    elif options.verb == "materialize":
        _materialize(options)
    elif options.verb == "skew":
        _skew(options)
    elif options.verb == "own":
        from proa_pipelines import own

        _settle_platform(options.platform)
        return own.run(options, say=lambda text: print(text, flush=True))
    else:
        from proa_pipelines import runner

        _settle_platform(options.platform)
        runner.run(
            options.project,
            options.home,
            overrides=dict(_pair(text) for text in options.settings),
            until=options.until,
            cause=dict(options.causes),
            result=options.result,
        )
    return 0


def _settle_platform(platform: Path | None) -> None:
    """Let the steps find the platform that was asked for, and none that the environment names."""
    if platform is None:
        os.environ.pop("PROA_PLATFORM", None)
    else:
        os.environ["PROA_PLATFORM"] = str(platform.absolute())


def _compile(options: argparse.Namespace) -> None:
    from proa_pipelines import compiling, submit

    if options.kind == "all":
        compiling.compile_all(options.target)
        return
    section = submit.section_of(options.platform)
    compiling.compile_pipeline(options.kind, options.target, until=options.until, section=section)


def _submit(options: argparse.Namespace) -> None:
    """Submit; the result file holds the result, or the error."""
    from proa_pipelines.submit import submit

    body: dict[str, Any] = {}
    if options.platform is None:
        raise InvalidInput("--platform is missing, and PROA_PLATFORM is not set", param="platform")
    try:
        body = submit(
            options.project,
            Path(options.platform),
            overrides=dict(options.settings),
            until=options.until,
            every=options.every,
            wait=options.wait,
            cause=dict(options.causes),
            say=lambda text: print(text, flush=True),
        )
    except ProaError as error:
        body = error.to_wire()
        raise
    finally:
        if options.result is not None:
            options.result.write_text(json.dumps(body, indent=1))


def _skew(options: argparse.Namespace) -> None:
    from proa_pipelines.skew import measure

    found = measure(
        options.project,
        options.home,
        monitor=options.monitor,
        key=options.key_file.read_text().strip(),
        since=options.since,
        limit=options.limit,
    )
    print(json.dumps(found, indent=1))


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
