"""What the predictor is measured against: other ways to put the same model behind HTTP.

`starlette`: the smallest Starlette app a person would write, with the same compiled scorer and no
checks, events, metrics, or headers. `frame`: the same, asking `model.predict_proba` with a
DataFrame per request. `bentoml`: BentoML's own API method in the ASGI app of `to_asgi()`. `sink`: a
monitor that believes every event; a real one would take the core that is to make the load.

    python -m tests.standins.classic_peers starlette --port 8000 --folder RELEASE_FOLDER
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import uvicorn

from proa.release import model_files, scoring
from proa.release.compiled import prepare
from proa.release.manifest import ClassicSpec, parse_manifest


def load(folder: Path) -> tuple[Any, ClassicSpec, Any]:
    """The model of a laid-out release, its spec and its scorer."""
    import sklearn
    from threadpoolctl import threadpool_limits

    manifest = parse_manifest((folder / "manifest.json").read_bytes())
    assert manifest.classic is not None
    sklearn.set_config(assume_finite=True, skip_parameter_validation=True)
    threadpool_limits(1)
    model = model_files.load(manifest, folder)
    background = orjson.loads((folder / "background.json").read_bytes())["columns"]
    return model, manifest.classic, prepare(model, manifest.classic, background)


def columns_of(body: bytes) -> dict[str, list[Any]]:
    return {item["name"]: item["data"] for item in orjson.loads(body)["inputs"]}


def answered(outputs: dict[str, list[Any]]) -> dict[str, Any]:
    return {"outputs": [{"name": name, "data": data} for name, data in outputs.items()]}


def starlette_app(folder: Path, *, frame: bool) -> Any:
    """One route."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    model, spec, scorer = load(folder)

    async def infer(request: Request) -> Response:
        columns = columns_of(await request.body())
        if frame:
            found = scoring.score(model, spec, columns)
        else:
            found = scorer.score(columns)
        return Response(orjson.dumps(answered(found)), media_type="application/json")

    async def ready(_: Request) -> Response:
        return Response("ok")

    return Starlette(
        routes=[
            Route("/readyz", ready),
            Route("/v2/models/flight-delay/infer", infer, methods=["POST"]),
        ]
    )


def bentoml_app(folder: Path) -> Any:
    """An API method, as BentoML's documentation writes one; no batching."""
    import bentoml

    _, _, scorer = load(folder)

    class Peer:
        @bentoml.api(route="/v2/models/flight-delay/infer")  # type: ignore[untyped-decorator]
        async def infer(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            return answered(scorer.score({item["name"]: item["data"] for item in inputs}))

    service: Any = bentoml.service(
        name="peer", logging={"access": {"enabled": False}}, metrics={"enabled": True}
    )(Peer)
    return service.to_asgi()


class Sink(asyncio.Protocol):
    """Takes JSON lines and accepts them all."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + size:
            return
        body, self._buffer = self._buffer[end + 4 : end + 4 + size], self._buffer[end + 4 + size :]
        lines = body.count(b"\n") + 1 if body.strip() else 0
        answer = b'{"accepted":%d,"duplicates":0,"rejected":[]}' % lines
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self._transport.write(head % len(answer) + answer)


async def _sink(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", port)
    await server.serve_forever()


async def _serve(app: Any, port: int) -> None:
    config = uvicorn.Config(
        app, port=port, log_config=None, access_log=False, lifespan="off", http="httptools"
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        await uvicorn.Server(config).serve()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["starlette", "frame", "bentoml", "sink"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    import uvloop

    if asked.kind == "sink":
        uvloop.run(_sink(asked.port))
    elif asked.kind == "bentoml":
        uvloop.run(_serve(bentoml_app(asked.folder), asked.port))
    else:
        uvloop.run(_serve(starlette_app(asked.folder, frame=asked.kind == "frame"), asked.port))


if __name__ == "__main__":
    main()
