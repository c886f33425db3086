"""Compose and run an assistant: `python -m proa_assistant --help`.

A release that cannot be proved (a wrong digest, another runtime, a failing selftest) is never
served: the process says so in one line and ends with 78 (EX_CONFIG).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import disable_created_metrics

from proa.errors import InvalidInput, ProaError
from proa.events.emitter import Emitter
from proa.http.no_release import no_release_app
from proa.http.serving import Health, metrics_listener, operations, serve
from proa.release.reference import ReleaseRef
from proa_assistant.annotator import Annotator
from proa_assistant.answer import Answerer
from proa_assistant.app import make_app
from proa_assistant.engine import EngineDoor
from proa_assistant.exchange import Chat, Emit, Faults
from proa_assistant.loading import Loaded, load
from proa_assistant.metrics import Metrics
from proa_assistant.question import Limits

NOT_SERVABLE = 78


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; every setting has its unit in its name."""
    parser = argparse.ArgumentParser("proa_assistant", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--release", required=True, help="name/version@sha256:hex; empty: none yet, answer 503"
    )
    parser.add_argument("--bundles", required=True, help="the bundle store: file:///folder")
    parser.add_argument("--workdir", required=True, type=Path, help="where releases are laid out")
    parser.add_argument(
        "--weights",
        required=True,
        type=Path,
        help="weights of embedders, one folder each; those of the release are laid out here",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, help="/metrics here, not on --port")
    parser.add_argument("--monitor", required=True, help="http://host:port")
    parser.add_argument("--engine", required=True, help="the engine door, http://host:port/v1")
    parser.add_argument(
        "--key-file", required=True, type=Path, help="rights: engine, internal, events"
    )
    parser.add_argument("--embed-answers", type=float, default=1.0, help="share, 0 to 1")
    parser.add_argument("--ground-answers", type=float, default=0.1, help="share, 0 to 1")
    parser.add_argument("--max-messages", type=int, default=Limits().messages)
    parser.add_argument("--max-prompt-characters", type=int, default=Limits().characters)
    parser.add_argument("--engine-idle-seconds", type=float, default=60.0)
    parser.add_argument("--drain-seconds", type=float, default=20.0)
    parser.add_argument("--linger-seconds", type=float, default=0.5)
    parser.add_argument("--fault-delay-ms", type=float, default=0.0)
    parser.add_argument("--fault-error-ratio", type=float, default=0.0)
    return parser.parse_args(argv)


class Assistant:
    """Every part of one assistant process, wired.

    Args:
        loaded: None while there is no release.
    """

    def __init__(self, asked: argparse.Namespace, loaded: Loaded | None, key: str) -> None:
        self.asked = asked
        self.health = Health()
        self.metrics = Metrics(None if loaded is None else loaded.ref)
        routes = operations(self.health, self.metrics.registry, metrics=asked.metrics_port is None)
        self.engine: EngineDoor | None = None
        self.emitter: Emitter | None = None
        self.annotator: Annotator | None = None
        if loaded is None:
            self.app = no_release_app("llm", routes)
            return
        self.emitter = emitter = Emitter(asked.monitor, key)
        self.metrics.counter("events_sent", "Events the monitor has", lambda: emitter.sent)
        self.metrics.counter("events_dropped", "Events lost here", lambda: emitter.dropped)
        self.engine = EngineDoor(
            asked.engine,
            key,
            engine=loaded.spec.engine,
            sampling=loaded.spec.sampling,
            idle_seconds=asked.engine_idle_seconds,
        )
        chat = Chat(
            Answerer(loaded, self.engine, self.metrics),
            self._annotated(loaded, emitter),
            self.metrics,
            Limits(asked.max_messages, asked.max_prompt_characters),
            Faults(asked.fault_delay_ms, asked.fault_error_ratio),
        )
        self.app = make_app(chat, loaded, routes)

    def _annotated(self, loaded: Loaded, emitter: Emitter) -> Emit:
        """What takes events: the annotator where there is something to embed with."""
        retrieval, searcher = loaded.spec.retrieval, loaded.searcher
        if retrieval is None or searcher is None:
            return lambda event, _: emitter.emit(event)
        self.annotator = annotator = Annotator(
            emitter.emit,
            searcher,
            embedder=retrieval.embedder_digest,
            name=retrieval.embedder,
            answers=self.asked.embed_answers,
            grounded=self.asked.ground_answers,
        )
        self.metrics.counter("events_annotated", "Events with more to them than the answer knew",
                             lambda: annotator.annotated)  # fmt: skip
        self.metrics.counter("events_passed_on", "Events that went on as they came",
                             lambda: annotator.passed_on)  # fmt: skip
        return annotator

    async def drain(self) -> None:
        """Close the engine's connections and hand over the last events."""
        if self.engine is not None:
            await self.engine.close()
        if self.annotator is not None:
            await asyncio.to_thread(self.annotator.close)
        if self.emitter is not None:
            await asyncio.to_thread(self.emitter.close, 5.0)

    def run(self) -> None:
        """Serve until SIGTERM."""
        asked = self.asked
        serve(
            self.app,
            host=asked.host,
            port=asked.port,
            health=self.health,
            also=metrics_listener(self.metrics.registry, asked.host, asked.metrics_port),
            drain_seconds=asked.drain_seconds,
            linger_seconds=asked.linger_seconds,
            on_start=None if self.engine is None else self.engine.open,
            on_drain=self.drain,
        )


def read_key(path: Path) -> str:
    """The clear key in a file.

    Raises:
        InvalidInput: no such file, or it is empty.
    """
    try:
        key = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InvalidInput(f"--key-file {path}: {error.strerror}", param="key-file") from error
    if not key:
        raise InvalidInput(f"--key-file {path}: the file is empty", param="key-file")
    return key


def main(argv: Sequence[str] | None = None) -> int:
    """Load, prove and serve a release."""
    asked = parse(argv)
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        key = read_key(asked.key_file)
        ref = ReleaseRef.parse(asked.release) if asked.release else None
    except ProaError as error:
        return _say(error, error.exit_code)
    try:
        loaded = None
        if ref is not None:
            loaded = load(ref, bundles=asked.bundles, workdir=asked.workdir, weights=asked.weights)
    except ProaError as error:
        return _say(error, NOT_SERVABLE)
    try:
        Assistant(asked, loaded, key).run()
    except ProaError as error:
        return _say(error, error.exit_code)
    return 0


def _say(error: ProaError, code: int) -> int:
    hint = f" ({error.hint})" if error.hint else ""
    print(f"proa_assistant: {error.message}{hint}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
