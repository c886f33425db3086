"""BentoML as the host: its service class, its ASGI app, our routes inside.

One process: the app comes from BentoML's public `to_asgi()` and runs in proa's own shell
(`proa.http.serving`), which drains and tells a taken port. The two paths that answer rows stand in
front of it (`app.dispatch`): BentoML's middleware takes 0.2 ms of every request, its own API
methods twice the CPU of a bare Starlette app (tests/bench/predictor.py), its own server a second
process, and its adaptive batching had a p99 of 217 ms with 16 callers on one core.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from proa.errors import ProaError
from proa.http.serving import App, Health
from proa_predictor.app import answer_error

__all__ = ["host"]


def host(
    name: str, routes: list[BaseRoute], health: Health
) -> tuple[App, AbstractAsyncContextManager[Any]]:
    """A BentoML service `name` with these routes; `/healthz` and `/readyz` are BentoML's own.

    Returns:
        Its ASGI app, and the context in which it is alive.
    """
    import bentoml

    handlers: dict[Any, Any] = {ProaError: answer_error, HTTPException: answer_error}
    ours = Starlette(routes=routes, exception_handlers=handlers)

    @bentoml.service(
        name=name,
        traffic={"timeout": 60},
        metrics={"enabled": False},
        logging={"access": {"enabled": False}},
    )
    class Service:
        """Serves one release of proa."""

        async def __is_ready__(self) -> bool:
            return health.ready

    service: Any = Service
    service.mount_asgi_app(ours, path="/")
    app = service.to_asgi()
    app.add_exception_handler(HTTPException, answer_error)
    return app, app.router.lifespan_context(app)
