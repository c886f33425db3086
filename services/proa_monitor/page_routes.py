"""The page and its views: files anyone may read, figures by right.

The page's files come with a policy under which a browser runs these scripts, asks this process, and
does nothing else: no inline script, no style from elsewhere, no request to another origin.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proa.errors import NotFound
from proa.http import rights
from proa.ledger.keys import Key, KeyStore
from proa_monitor.views import Views
from proa_monitor.wire import authorized

__all__ = ["page_routes"]

_FOLDER: Final = Path(__file__).with_name("page")
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}


def page_routes(views: Views, keys: KeyStore) -> list[Route]:
    """`/`, `/page/*` and `/v1/view/*`."""
    doors = _Doors(views, keys, _files())
    return [
        Route("/", doors.page),
        Route("/page/{name}", doors.file),
        Route("/v1/view/fleet", doors.fleet),
        Route("/v1/view/models/{name}", doors.model),
        Route("/v1/view/models/{name}/examples", doors.examples),
    ]


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    media_type: str
    etag: str


def _files() -> dict[str, _File]:
    found = {}
    for path in sorted(_FOLDER.iterdir()):
        if path.suffix in _TYPES:
            body = path.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
            found[path.name] = _File(body, _TYPES[path.suffix], etag)
    return found


@dataclass(frozen=True, slots=True)
class _Doors:
    """One method per route."""

    views: Views
    keys: KeyStore
    files: dict[str, _File]

    async def page(self, request: Request) -> Response:
        """The page; what it shows it asks for with the reader's key. Right: none."""
        return self._send(request, "index.html")

    async def file(self, request: Request) -> Response:
        """A script, the style, or the mark. Right: none."""
        return self._send(request, request.path_params["name"])

    async def fleet(self, request: Request) -> Response:
        """Every model. Right: `read`."""
        self._key(request)
        return _json(await self.views.fleet())

    async def model(self, request: Request) -> Response:
        """One model; query: `window`, `release`, `track`, what is shown in detail.

        Right: `read`; with `protected` also figures by group of a protected attribute.
        """
        key = self._key(request)
        query = request.query_params
        view = await self.views.model(
            request.path_params["name"],
            window=query.get("window"),
            release=query.get("release"),
            track=query.get("track"),
            protected=key.may(rights.PROTECTED),
        )
        return _json(view)

    async def examples(self, request: Request) -> Response:
        """Some calls of a window; query as of `model`, and `feature`. Right: `read`."""
        self._key(request)
        query = request.query_params
        found = await self.views.examples(
            request.path_params["name"],
            window=query.get("window"),
            release=query.get("release"),
            track=query.get("track"),
            feature=query.get("feature"),
        )
        return _json(found)

    def _send(self, request: Request, name: str) -> Response:
        file = self.files.get(name)
        if file is None:
            raise NotFound(f"the page has no file {name!r:.80}", code="unknown_file")
        headers = {**_HEADERS, "etag": file.etag}
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        return Response(file.body, media_type=file.media_type, headers=headers)

    def _key(self, request: Request) -> Key:
        return authorized(self.keys, request, rights.READ)


def _json(value: object) -> Response:
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(orjson.dumps(value), media_type="application/json", headers=headers)
