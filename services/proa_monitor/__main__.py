"""Compose and run the monitor: `python -m proa_monitor --help`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import disable_created_metrics

from proa.errors import ProaError
from proa.http.serving import Health, serve
from proa.ledger.keys import KeyStore
from proa.ledger.sqlite import path_of
from proa_monitor.app import monitor_app
from proa_monitor.monitor import Monitor, Settings


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; every setting has its unit in its name."""
    parser = argparse.ArgumentParser("proa_monitor", description=__doc__, allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--events", type=Path, required=True, help="folder, for this process alone")
    parser.add_argument("--bundles", required=True, help="file:///path of the bundle store")
    parser.add_argument("--reports", type=Path, required=True, help="folder for Evidently's pages")
    parser.add_argument("--ledger", required=True, help="sqlite:////path/ledger.db, for its keys")
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
    ledger = path_of(asked.ledger)
    ledger.parent.mkdir(parents=True, exist_ok=True)
    keys = KeyStore(ledger)
    monitor = Monitor(
        Settings(
            events=asked.events,
            reports=asked.reports,
            bundles=asked.bundles,
            window=asked.window,
            file_bytes=asked.file_bytes,
            file_seconds=asked.file_seconds,
            series=asked.series,
        )
    )
    serve(
        monitor_app(monitor, keys, health),
        host=asked.host,
        port=asked.port,
        health=health,
        drain_seconds=asked.drain_seconds,
        linger_seconds=asked.linger_seconds,
        on_start=monitor.start,
        on_drain=monitor.stop,
    )
    keys.close()


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
