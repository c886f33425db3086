"""Compose and run a predictor: `python -m proa_predictor --help`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.abc
import logging
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from proa.errors import Internal, InvalidInput, ProaError
from proa.http.serving import Health, metrics_listener, operations, serve
from proa.release.reference import ReleaseRef
from proa_predictor.metrics import Metrics

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from proa.events.emitter import Emitter
    from proa.release.manifest import ClassicSpec
    from proa_predictor.online import OnlineFeatures

_LEFT_OUT = ("dask", "matplotlib", "pyarrow", "pytest")
REFUSED = 78
"""Exit code for a release that must not serve (EX_CONFIG of sysexits.h)."""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; every setting has its unit in its name."""
    parser = argparse.ArgumentParser("proa_predictor", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--release", required=True, help="name/version@sha256:hex; empty: none yet, answer 503"
    )
    parser.add_argument("--bundles", required=True, help="the bundle store: file:///folder")
    parser.add_argument("--workdir", required=True, help="folder for laid-out releases")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, help="/metrics here, not on --port")
    parser.add_argument("--monitor", default="none", help="http://host:port, or none: no events")
    parser.add_argument("--features", default="none", help="the feature server's URL, or none")
    parser.add_argument("--key-file", help="a key with the right `events`, for the monitor")
    parser.add_argument(
        "--reasons-share",
        type=_share,
        default=0.0,
        help="share of answers whose event gets reasons; more than 0 costs 80 MiB for shap",
    )
    parser.add_argument("--max-rows", type=int, default=10_000, help="rows of one request")
    parser.add_argument("--drain-seconds", type=float, default=20.0)
    parser.add_argument("--linger-seconds", type=float, default=0.5)
    parser.add_argument("--fault-delay-ms", type=float, default=0.0, help="tests only")
    parser.add_argument("--fault-error-ratio", type=float, default=0.0, help="tests only")
    return parser.parse_args(argv)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(text)
    return value


def _key(path: str | None) -> str:
    if path is None:
        raise InvalidInput("--key-file is missing: the monitor takes events only with a key")
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise InvalidInput(f"--key-file {path}: {error.strerror}") from error


class _LeaveOut(importlib.abc.MetaPathFinder):
    """Lets the import of optional modules fail.

    pandas and scikit-learn load what they find beside them, and in the embedded environment they
    find everything: 60 MiB that no answer needs.
    """

    def __init__(self, *names: str) -> None:
        self._names = names

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname in self._names:
            raise ModuleNotFoundError(f"{fullname} is left out of this process", name=fullname)


class Process:
    """Every part of one predictor process, wired when the loop runs."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.ref = ReleaseRef.parse(arguments.release) if arguments.release else None
        self.metrics = Metrics(self.ref)
        self.health = Health()
        self.app: object = None
        self._closing = AsyncExitStack()

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        await self.app(scope, receive, send)  # type: ignore[operator]

    async def start(self) -> None:
        """Load the release, prove it, and put the app together; what fails ends the process."""
        routes = operations(
            self.health, self.metrics.registry, metrics=self.arguments.metrics_port is None
        )
        if self.ref is None:
            from proa.http.no_release import no_release_app

            self.app = no_release_app("classic", routes)
        else:
            await self._start(self.ref, routes)

    async def _start(self, ref: ReleaseRef, routes: list[BaseRoute]) -> None:
        from proa.http.clock import WallClock
        from proa.release.bundle import BundleStore
        from proa.release.runtime import built_lock
        from proa_predictor import app
        from proa_predictor.answer import Writer, output_names
        from proa_predictor.hosting import host
        from proa_predictor.loading import load
        from proa_predictor.predictor import Predictor
        from proa_predictor.question import Reader

        asked, metrics = self.arguments, self.metrics
        if built_lock() is None:
            sys.meta_path.insert(0, _LeaveOut(*_LEFT_OUT))
        try:
            loaded = load(ref, BundleStore.from_url(asked.bundles), Path(asked.workdir))
        except ProaError:
            raise
        except Exception as error:
            raise Internal(f"release {ref.short} cannot be loaded: {error!r}") from error
        features, sink = self._features(loaded.spec), self._sink(metrics)
        predictor = Predictor(
            loaded,
            features=features,
            sink=sink,
            clock=WallClock(),
            reasons_share=asked.reasons_share,
        )
        # before the emitter is closed: what waits for its reasons is sent with it
        self._closing.push_async_callback(asyncio.to_thread, predictor.close)
        reader = Reader(
            loaded.spec,
            outputs=output_names(loaded.spec),
            online=features is not None,
            max_rows=asked.max_rows,
        )
        writer = Writer(ref, loaded.spec)
        faults = app.Faults(asked.fault_delay_ms, asked.fault_error_ratio)
        hot = app.endpoints(predictor, reader, writer, metrics, faults)
        # BentoML's own /healthz and /readyz come first.
        cold, alive = host(
            ref.name, [*routes, *app.routes(predictor, writer, self.health)], self.health
        )
        await self._closing.enter_async_context(alive)
        self.app = app.dispatch(hot, cold, predictor)
        # What was loaded is never garbage: the collector need not look at it again.
        gc.collect()
        gc.freeze()

    def _features(self, spec: ClassicSpec) -> OnlineFeatures | None:
        if self.arguments.features == "none" or not spec.feature_views:
            return None
        from proa_predictor.online import OnlineFeatures

        features = OnlineFeatures(self.arguments.features, spec.feature_views)
        self._closing.push_async_callback(features.close)
        return features

    def _sink(self, metrics: Metrics) -> Emitter | None:
        if self.arguments.monitor == "none":
            return None
        from proa.events.emitter import Emitter

        emitter = Emitter(self.arguments.monitor, _key(self.arguments.key_file))
        metrics.counter("events_sent", "Events the monitor has", lambda: emitter.sent)
        metrics.counter("events_dropped", "Events given up", lambda: emitter.dropped)
        metrics.counter("events_rejected", "Events the monitor refused", lambda: emitter.rejected)
        self._closing.push_async_callback(asyncio.to_thread, emitter.close)
        return emitter

    async def drain(self) -> None:
        """Send the events that are queued, close every connection."""
        await self._closing.aclose()

    def run(self) -> None:
        """Serve until SIGTERM."""
        asked = self.arguments
        serve(
            self,
            host=asked.host,
            port=asked.port,
            health=self.health,
            also=metrics_listener(self.metrics.registry, asked.host, asked.metrics_port),
            drain_seconds=asked.drain_seconds,
            linger_seconds=asked.linger_seconds,
            on_start=self.start,
            on_drain=self.drain,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit code: 78 when the release must not serve."""
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    # The emitter shares this process: an answer waits for it at most this long, not 5 ms.
    sys.setswitchinterval(0.0005)
    try:
        Process(parse(argv)).run()
    except ProaError as error:
        hint = f" ({error.hint})" if error.hint else ""
        print(f"proa_predictor: {error.message}{hint}", file=sys.stderr)
        return error.exit_code if error.code == "address_taken" else REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
