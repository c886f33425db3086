"""What a predictor or assistant is while nothing was promoted to it: Ready, and without an answer.

`helm install --wait` must end before the first release exists, so such a pod is Ready. No route
leads to it; whoever asks anyway, `GET /release` included, hears 503 `no_release` and that the
release is null.
"""

from __future__ import annotations

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from proa.errors import Unavailable
from proa.http import headers as names
from proa.http.ids import new_id
from proa.http.serving import App

__all__ = ["no_release_app"]

_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")


def no_release_app(kind: str, operations: list[BaseRoute]) -> App:
    """The app of a process without a release.

    Args:
        kind: `classic` or `llm`, what it would serve.
        operations: as `proa.http.serving.operations` gives them.
    """

    async def nothing(request: Request) -> Response:
        asked = request.headers.get(names.REQUEST) or new_id()
        error = Unavailable(
            "nothing has been promoted here yet: this process serves no release",
            code="no_release",
            hint="proa promote NAME/VERSION",
        )
        head = {names.REQUEST: asked, "retry-after": "1"}
        body = {"release": None, "kind": kind, **error.to_wire(asked)}
        return Response(orjson.dumps(body), 503, head, "application/json")

    return Starlette(
        routes=[
            *operations,
            Route("/{path:path}", nothing, methods=list(_METHODS)),
        ]
    )
