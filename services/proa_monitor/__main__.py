"""Compose and run the monitor: `python -m proa_monitor --help`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, disable_created_metrics

from proa.errors import ProaError
from proa.http.serving import Health, metrics_listener, operations, serve
from proa.ledger.open import add_arguments, get_ready, journal_file, ledger_url, open_ledger
from proa_monitor.app import monitor_app
from proa_monitor.bill import Bills
from proa_monitor.decisions import Decisions
from proa_monitor.judging_access import add_judge_arguments, judge_access
from proa_monitor.monitor import Monitor, Settings
from proa_monitor.page_routes import page_routes
from proa_monitor.qualities import Qualities
from proa_monitor.views import Views


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; every setting has its unit in its name."""
    parser = argparse.ArgumentParser("proa_monitor", description=__doc__, allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--events", type=Path, required=True, help="folder, for this process alone")
    parser.add_argument("--bundles", required=True, help="the store: file:///path or s3://bucket")
    parser.add_argument("--reports", type=Path, required=True, help="folder for Evidently's pages")
    parser.add_argument("--metrics-port", type=int, help="/metrics apart; by default on --port")
    add_arguments(parser)
    state = parser.add_mutually_exclusive_group()
    state.add_argument("--state", metavar="URL", help="sqlite:////path; default EVENTS/state.db")
    state.add_argument(
        "--state-file", type=Path, metavar="FILE", help="holds the URL, postgresql://… for example"
    )
    parser.add_argument(
        "--match-calls", action="store_true", help="compare events with the ledger's calls"
    )
    parser.add_argument(
        "--match-seconds", type=float, default=120.0, help="after which the two have come"
    )
    parser.add_argument(
        "--journal", type=Path, metavar="FILE", help="the controller's, beside a SQLite ledger"
    )
    parser.add_argument("--currency", default="USD", help="what calls are priced in, for the page")
    parser.add_argument("--snapshots", type=Path, metavar="DIR", help="for Evidently's UI")
    add_judge_arguments(parser)
    parser.add_argument("--window", choices=("day", "hour"), default="day", help="of event time")
    parser.add_argument("--file-bytes", type=int, default=32 << 20, help="of a spool file")
    parser.add_argument("--file-seconds", type=float, default=3600.0, help="of a spool file")
    parser.add_argument("--series", type=int, default=10_000, help="budget of /metrics")
    parser.add_argument("--drain-seconds", type=float, default=20.0)
    parser.add_argument("--linger-seconds", type=float, default=0.5)
    return parser.parse_args(argv)


def run(asked: argparse.Namespace) -> None:
    """Run until SIGTERM."""
    health = Health()
    url = ledger_url(asked.ledger, asked.ledger_file)
    ledger = open_ledger(url, journal=asked.journal)
    state = (asked.state, asked.state_file)
    monitor = Monitor(
        Settings(
            events=asked.events,
            reports=asked.reports,
            bundles=asked.bundles,
            state=None if state == (None, None) else ledger_url(*state),
            window=asked.window,
            file_bytes=asked.file_bytes,
            file_seconds=asked.file_seconds,
            series=asked.series,
            match_seconds=asked.match_seconds,
            judge=judge_access(asked),
            snapshots=asked.snapshots,
        ),
        ledger.calls if asked.match_calls else None,
    )
    registry = CollectorRegistry(auto_describe=False)
    registry.register(monitor.collector)
    common = operations(health, registry, metrics=asked.metrics_port is None)
    views = Views(
        monitor,
        Bills(ledger, asked.currency),
        Qualities(monitor.quality),
        Decisions(ledger, asked.journal or journal_file(url)),
    )
    waiting: list[asyncio.Task[None]] = []

    async def start() -> None:
        await monitor.start()
        waiting.append(asyncio.create_task(get_ready(ledger, health)))

    async def stop() -> None:
        for task in waiting:
            task.cancel()
        await monitor.stop()
        await asyncio.to_thread(ledger.close)

    serve(
        monitor_app(monitor, ledger.keys, [*common, *page_routes(views, ledger.keys)]),
        host=asked.host,
        port=asked.port,
        health=health,
        drain_seconds=asked.drain_seconds,
        linger_seconds=asked.linger_seconds,
        also=metrics_listener(registry, asked.host, asked.metrics_port),
        on_start=start,
        on_drain=stop,
    )


def main() -> int:
    arguments = parse()
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        run(arguments)
    except ProaError as error:
        hint = f" ({error.hint})" if error.hint else ""
        print(f"proa_monitor: {error.message}{hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
