"""The sampled judge, as the command line gives it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proa.errors import InvalidInput
from proa.http.clock import Clock
from proa.profile.language_reference import LanguageReference
from proa_monitor.ingest import Ingest
from proa_monitor.judging import JudgeSettings, Judging
from proa_monitor.store import EventStore

__all__ = ["JudgeAccess", "add_judge_arguments", "judge_access", "judging_of"]


@dataclass(frozen=True, slots=True)
class JudgeAccess:
    """Where the judge is asked.

    Attributes:
        url: the gateway's engine door, without `/v1`.
        engine: identity of the judging engine.
        key: its text; rights `engine` and `judge`.
    """

    url: str
    engine: str
    key: str
    settings: JudgeSettings


def add_judge_arguments(parser: argparse.ArgumentParser) -> None:
    """`--judge-url` and what belongs to it."""
    parser.add_argument("--judge-url", metavar="URL", help="engine door; without it nobody judges")
    parser.add_argument("--judge-engine", help="identity of the engine that judges answers")
    parser.add_argument("--judge-key-file", type=Path, help="rights: engine, judge")
    parser.add_argument("--judge-share", type=float, default=0.05, help="of the answers")
    parser.add_argument("--judge-tokens-per-day", type=int, default=200_000)


def judge_access(asked: argparse.Namespace) -> JudgeAccess | None:
    """What the command line says; None without `--judge-url`.

    Raises:
        InvalidInput: an argument is missing, out of range, or its file cannot be read.
    """
    if asked.judge_url is None:
        return None
    if asked.judge_engine is None or asked.judge_key_file is None:
        raise InvalidInput(
            "--judge-url needs --judge-engine and --judge-key-file", param="judge-engine"
        )
    if not 0 <= asked.judge_share <= 1:
        raise InvalidInput(
            f"--judge-share {asked.judge_share:g}: expected 0 to 1", param="judge-share"
        )
    try:
        key = asked.judge_key_file.read_text().strip()
    except OSError as error:
        raise InvalidInput(
            f"--judge-key-file {asked.judge_key_file}: {error.strerror}", param="judge-key-file"
        ) from error
    settings = JudgeSettings(asked.judge_share, asked.judge_tokens_per_day)
    return JudgeAccess(asked.judge_url, asked.judge_engine, key, settings)


def judging_of(
    access: JudgeAccess,
    *,
    folder: Path,
    reference_of: Callable[[str], LanguageReference | None],
    store: EventStore,
    ingest: Ingest,
    clock: Clock,
) -> Judging:
    """The judge at work; whoever has none does not pay for importing it."""
    from proa.exam.judge import EngineJudge

    return Judging(
        access.settings,
        EngineJudge(url=access.url, key=access.key, engine=access.engine),
        folder=folder,
        reference_of=reference_of,
        known=store.known,
        take=ingest.take,
        clock=clock,
    )
