"""Compose and run the gateway: `python -m proa_gateway --help`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import disable_created_metrics

from proa.errors import ProaError, Unavailable
from proa.http import rights
from proa.http.bodies import BODY_LIMIT
from proa.http.clock import WallClock
from proa.http.serving import Health, Listener, metrics_listener, operations, serve
from proa.ledger.call import Door
from proa.ledger.mover import Mover
from proa.ledger.open import add_arguments, get_ready, ledger_url, open_ledger
from proa.ledger.prices import CallPrice
from proa.ledger.spool import Spool
from proa_gateway.admin import Admin
from proa_gateway.app import engine_app, user_app
from proa_gateway.calls import Recorder
from proa_gateway.directory import Directory
from proa_gateway.door import Gate
from proa_gateway.engine_door import EngineDoor
from proa_gateway.metrics import Metrics
from proa_gateway.shadows import Shadows
from proa_gateway.upstream import Upstream
from proa_gateway.user_door import UserDoor


@dataclass
class Gateway:
    """Every part of one gateway process, wired."""

    arguments: argparse.Namespace
    health: Health = field(default_factory=Health)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        asked = self.arguments
        self.ledger = open_ledger(ledger_url(asked.ledger, asked.ledger_file))
        self.spool = Spool(Path(asked.spool))
        self.mover = Mover(self.spool, self.ledger.calls)
        self.directory = Directory(
            asked.routes,
            asked.engines,
            keys=Path(asked.engine_keys),
            call_price=CallPrice(asked.classic_call_micro),
        )
        routes, engines = self.directory.routes, self.directory.engines
        self.upstream = Upstream(timeout=asked.timeout_seconds, services=self.directory.services)
        self.recorder = Recorder(self.spool, self.metrics)
        self.shadows = Shadows(self.upstream, self.recorder, WallClock())
        gauge = self.metrics.gauge
        gauge("spool_backlog_bytes", "Calls not yet moved", self.spool.backlog_bytes)
        gauge("rejected_records", "Spool records set aside", lambda: self.mover.rejected)
        gauge("shadow_answered", "Copies answered", self.shadows.answered.total)
        gauge("shadow_dropped", "Copies there was no room for", self.shadows.dropped.total)
        gauge("routes_generation", "Routes in force", lambda: routes.value.generation)
        gauge("routes_refused", "1: not as written", lambda: routes.error is not None)
        gauge("engines_refused", "1: not as written", lambda: engines.error is not None)

    def gate(self, door: Door, right: str) -> Gate:
        return Gate(
            door,
            right,
            self.ledger.keys,
            self.upstream,
            self.recorder,
            self.metrics,
            WallClock(),
            self.arguments.body_limit,
        )

    async def start(self) -> None:
        """Read what there is, and move what a process before us left."""
        self.directory.start(self.health)
        self._waiting = asyncio.create_task(get_ready(self.ledger, self.health))
        self.mover.start()
        self.shadows.start()
        # What lives from here on is small; what was loaded is never garbage.
        gc.collect()
        gc.freeze()

    async def drain(self) -> None:
        """Every call is in the ledger, every connection closed."""
        await self.directory.close()
        await self.shadows.stop()
        await self.upstream.close()
        self._waiting.cancel()
        try:
            await asyncio.to_thread(self.mover.close)
        except Unavailable as error:
            logging.error("calls wait in the spool for the next process: %s", error)
        self.spool.close()
        await asyncio.to_thread(self.ledger.close)

    def run(self) -> None:
        asked, registry = self.arguments, self.metrics.registry
        routes, engines = self.directory.routes, self.directory.engines
        user = UserDoor(self.gate("user", rights.CALL), routes, engines, self.shadows)
        engine = EngineDoor(self.gate("engine", rights.ENGINE), engines)
        admin = Admin(self.ledger.keys, self.ledger.calls, self.mover, routes, self.shadows)
        common = operations(self.health, registry, metrics=asked.metrics_port is None)
        serve(
            user_app(user, admin, common),
            host=asked.host,
            port=asked.port,
            also=[
                Listener(engine_app(engine, common), asked.host, asked.engine_port),
                *metrics_listener(registry, asked.host, asked.metrics_port),
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
    parser.add_argument("--metrics-port", type=int, help="/metrics apart; by default on each door")
    add_arguments(parser)
    parser.add_argument("--spool", required=True, help="folder for calls on their way to it")
    parser.add_argument(
        "--routes", required=True, help="file:///path/routes.json or configmap://NS/NAME"
    )
    parser.add_argument(
        "--engines",
        required=True,
        help="file:///path/platform.json or configmaps://NS,NS?label=KEY",
    )
    parser.add_argument(
        "--engine-keys", default="/etc/proa/engine-key", help="folder of ConfigMaps' key files"
    )
    parser.add_argument(
        "--classic-call-micro", type=int, default=0, help="price of a call, where no file says it"
    )
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
