"""Compose and run the gateway: `python -m proa_gateway --help`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import disable_created_metrics

from proa.errors import ProaError
from proa.http import rights
from proa.http.bodies import BODY_LIMIT
from proa.http.clock import WallClock
from proa.http.serving import Health, Listener, serve
from proa.ledger.call import Door
from proa.ledger.keys import KeyStore
from proa.ledger.mover import Mover
from proa.ledger.prices import CallPrice
from proa.ledger.spool import Spool
from proa.ledger.sqlite import path_of as sqlite_path_of
from proa.ledger.store import SqliteCallStore
from proa_gateway.admin import Admin
from proa_gateway.app import engine_app, user_app
from proa_gateway.calls import Recorder
from proa_gateway.door import Gate
from proa_gateway.engine_door import EngineDoor
from proa_gateway.engines import EngineTable, parse_engines
from proa_gateway.metrics import Metrics
from proa_gateway.routes import RouteTable, parse_routes
from proa_gateway.shadows import Shadows
from proa_gateway.upstream import Upstream
from proa_gateway.user_door import UserDoor
from proa_gateway.watched import WatchedFile, path_of


@dataclass
class Gateway:
    """Every part of one gateway process, wired."""

    arguments: argparse.Namespace
    health: Health = field(default_factory=Health)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        asked = self.arguments
        ledger = sqlite_path_of(asked.ledger)
        ledger.parent.mkdir(parents=True, exist_ok=True)
        self.keys = KeyStore(ledger)
        self.store = SqliteCallStore(ledger)
        self.spool = Spool(Path(asked.spool))
        self.mover = Mover(self.spool, self.store)
        self.routes = WatchedFile(
            path_of(asked.routes, what="--routes"), parse_routes, empty=RouteTable(0, {})
        )
        self.engines = WatchedFile(
            path_of(asked.engines, what="--engines"),
            parse_engines,
            empty=EngineTable({}, CallPrice(0)),
        )
        self.upstream = Upstream(timeout=asked.timeout_seconds)
        self.recorder = Recorder(self.spool, self.metrics)
        self.shadows = Shadows(self.upstream, self.recorder, WallClock())
        self._watching: list[asyncio.Task[None]] = []
        gauge = self.metrics.gauge
        gauge("spool_backlog_bytes", "Calls not yet moved", self.spool.backlog_bytes)
        gauge("rejected_records", "Spool records set aside", lambda: self.mover.rejected)
        gauge("shadow_answered", "Copies answered", self.shadows.answered.total)
        gauge("shadow_dropped", "Copies there was no room for", self.shadows.dropped.total)
        gauge("routes_generation", "Routes in force", lambda: self.routes.value.generation)

    def gate(self, door: Door, right: str) -> Gate:
        return Gate(
            door,
            right,
            self.keys,
            self.upstream,
            self.recorder,
            self.metrics,
            WallClock(),
            self.arguments.body_limit,
        )

    async def start(self) -> None:
        """Read what there is, and move what a process before us left."""
        for file in (self.routes, self.engines):
            file.check()
            self._watching.append(asyncio.create_task(file.watch()))
        self.mover.start()
        self.shadows.start()
        # What lives from here on is small; what was loaded is never garbage.
        gc.collect()
        gc.freeze()

    async def drain(self) -> None:
        """Every call is in the ledger, every connection closed."""
        for task in self._watching:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.shadows.stop()
        await self.upstream.close()
        await asyncio.to_thread(self.mover.close)
        self.spool.close()
        self.store.close()
        self.keys.close()

    def run(self) -> None:
        asked, registry = self.arguments, self.metrics.registry
        user = UserDoor(self.gate("user", rights.CALL), self.routes, self.engines, self.shadows)
        engine = EngineDoor(self.gate("engine", rights.ENGINE), self.engines)
        admin = Admin(self.keys, self.store, self.store, self.mover, self.routes, self.shadows)
        serve(
            user_app(user, admin, self.health, registry),
            host=asked.host,
            port=asked.port,
            also=[
                Listener(engine_app(engine, self.health, registry), asked.host, asked.engine_port)
            ],
            health=self.health,
            drain_seconds=asked.drain_seconds,
            linger_seconds=asked.linger_seconds,
            on_start=self.start,
            on_drain=self.drain,
        )


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; every setting has its unit in its name."""
    parser = argparse.ArgumentParser("proa_gateway", description=__doc__, allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="user door and /proa/v1")
    parser.add_argument("--engine-port", type=int, required=True, help="engine door")
    parser.add_argument("--ledger", required=True, help="sqlite:////path/ledger.db")
    parser.add_argument("--spool", required=True, help="folder for calls on their way to it")
    parser.add_argument("--routes", required=True, help="file:///path/routes.json")
    parser.add_argument("--engines", required=True, help="file:///path/platform.json")
    parser.add_argument("--timeout-seconds", type=float, default=120.0, help="of an answer")
    parser.add_argument("--body-limit", type=int, default=BODY_LIMIT, help="bytes")
    parser.add_argument("--drain-seconds", type=float, default=20.0)
    parser.add_argument("--linger-seconds", type=float, default=0.5)
    return parser.parse_args(argv)


def main() -> int:
    arguments = parse()
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    # The mover shares this process: an answer waits for it at most this long, not 5 ms.
    sys.setswitchinterval(0.0001)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        Gateway(arguments).run()
    except ProaError as error:
        hint = f" ({error.hint})" if error.hint else ""
        print(f"proa_gateway: {error.message}{hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
