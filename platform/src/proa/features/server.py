"""The feature server: `python -m proa.features.server --folder HOME/feast --port 6566`.

Feast's own server app in one process. `feast serve` wraps the same app in gunicorn: killed with
-9 its master leaves a worker that keeps the port, every 1,000 requests the worker restarts, and
one half-written registry ends its refresh timer for good. Here a thread follows the registry file
and survives a bad read, and only the routes that read are served. Loopback only: no key is asked.
"""

from __future__ import annotations

import argparse
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proa.http.serving import Health

_READ_ROUTES = frozenset({"/get-online-features", "/health"})
_REFRESH_SECONDS = 0.5
_log = logging.getLogger("proa.features")


def build_app(store: Any, health: Health) -> Any:
    """Feast's ASGI app for `store`, cut down to its reading routes, with our operations routes."""
    from feast.feature_server import get_app
    from prometheus_client import CollectorRegistry, ProcessCollector

    from proa.http.serving import operations

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    app = get_app(store, registry_ttl_sec=0)
    reading = [r for r in app.router.routes if getattr(r, "path", None) in _READ_ROUTES]
    app.router.routes[:] = [*reading, *operations(health, registry)]
    return app


def follow_registry(store: Any, registry: Path, stop: threading.Event) -> None:
    """Reload the registry whenever its file changed, until `stop` is set."""
    seen: tuple[int, int] | None = None
    while True:
        stamp = _stamp(registry)
        if stamp != seen:
            try:
                store.refresh_registry()
            except Exception as error:  # half-written: any error of the parser; looked at again
                _log.warning("registry not readable yet, looking again: %s", error)
            else:
                seen = stamp
        if stop.wait(_REFRESH_SECONDS):
            return


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM; return 0."""
    parser = argparse.ArgumentParser(prog="proa.features.server", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="the feature store's folder")
    parser.add_argument("--host", default="127.0.0.1", help="loopback address (default 127.0.0.1)")
    parser.add_argument("--port", type=int, required=True, help="TCP port")
    options = parser.parse_args(argv)

    from proa.features.store import open_store
    from proa.http.serving import Health, serve

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    store = open_store(options.folder)
    health = Health()
    stop = threading.Event()
    registry = options.folder / "registry.db"
    threading.Thread(
        target=follow_registry, args=(store, registry, stop), name="registry", daemon=True
    ).start()
    serve(
        build_app(store, health),
        host=options.host,
        port=options.port,
        health=health,
        drain_seconds=5,
        on_start=store.initialize,
    )
    stop.set()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
