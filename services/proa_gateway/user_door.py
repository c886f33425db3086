"""The user door: a model's name in, an answer of one of its releases out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from proa.errors import InvalidInput
from proa.http import headers as names
from proa.http import rights
from proa.http.bodies import Receive, Scope, Send, decode_object
from proa_gateway.caller import checked_text
from proa_gateway.calls import CallUnderWay
from proa_gateway.door import Gate
from proa_gateway.engines import EngineTable
from proa_gateway.errand import Errand, count_rows, count_tokens
from proa_gateway.last_good import LastGood
from proa_gateway.routes import Model, RouteTable, Track
from proa_gateway.shadows import Shadows
from proa_gateway.streams import StreamTally, ask_usage

__all__ = ["UserDoor", "read_chat"]

CHAT_PATH = "/v1/chat/completions"
_ASK = {"classic": "POST /v2/models/{}/infer", "llm": "POST /v1/chat/completions"}


@dataclass(frozen=True, slots=True)
class UserDoor:
    """Chat, infer and predict."""

    gate: Gate
    routes: LastGood[RouteTable]
    engines: LastGood[EngineTable]
    shadows: Shadows

    async def chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /v1/chat/completions`, OpenAI's shape, streamed or not."""
        await self.gate.handle(scope, receive, send, kind="llm", plan=self._plan_chat)

    async def infer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /v2/models/{name}/infer`, Open Inference Protocol v2."""
        await self.gate.handle(scope, receive, send, kind="classic", plan=self._plan_infer)

    async def predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /v1/models/{name}/predict`, plain rows."""
        await self.gate.handle(scope, receive, send, kind="classic", plan=self._plan_predict)

    def _plan_chat(self, call: CallUnderWay, _scope: Scope, body: bytes) -> Errand:
        chat = read_chat(body)
        call.user = checked_text(chat.get("user"), "user") or call.caller.user
        call.stream = bool(chat.get("stream"))
        call.caller.unit = call.caller.unit or call.user
        track = self._choose(call, chat["model"])
        tally = None
        if call.stream:
            body, asked = ask_usage(body, chat, continuous=False)
            tally = StreamTally(hide_usage=not asked)
        # An engine's tokens are charged at the engine door, where every one of them passes.
        return Errand(
            track.url,
            CHAT_PATH,
            body,
            _headers(call, track),
            _name(call, track),
            count_tokens,
            chat=True,
            tally=tally,
        )

    def _plan_infer(self, call: CallUnderWay, scope: Scope, body: bytes) -> Errand:
        return self._plan_classic(call, scope, body, "/v2/models/{}/infer", _infer_unit)

    def _plan_predict(self, call: CallUnderWay, scope: Scope, body: bytes) -> Errand:
        return self._plan_classic(call, scope, body, "/v1/predict", _predict_unit)

    def _plan_classic(
        self, call: CallUnderWay, scope: Scope, body: bytes, path: str, unit_in: Any
    ) -> Errand:
        name = scope["path_params"]["name"]
        model = self.routes.value.models.get(name)
        # Bodies are only opened when they alone can say who is served.
        if model is not None and model.unit is not None and call.caller.unit is None:
            call.caller.unit = unit_in(decode_object(body), model.unit)
        call.user = call.caller.user
        call.caller.unit = call.caller.unit or call.user
        track = self._choose(call, name)
        return Errand(
            track.url,
            path.format(quote(name)),
            body,
            _headers(call, track),
            _name(call, track),
            count_rows,
            price=self.engines.value.call_price,
            shadow=self._shadow(call, model, track),
        )

    def _shadow(
        self, call: CallUnderWay, model: Model | None, track: Track
    ) -> Callable[[CallUnderWay, Errand], None] | None:
        """What takes a copy of a user's call, while the model has a track in the shadow."""
        copied = None if model is None else model.shadow
        if copied is None or copied is track or call.caller.purpose != "user":
            return None
        return lambda answered, errand: self.shadows.offer(answered, errand, copied)

    def _choose(self, call: CallUnderWay, name: str) -> Track:
        """The track that answers; a key's rights come first, so that names are not told."""
        call.model = name[:128]
        call.caller.key.require_model(name)
        model = self.routes.value.model(name)
        _check_kind(model, call.kind)
        pinned = call.caller.track if call.caller.key.may(rights.JUDGE) else None
        call.caller.unit = call.caller.unit or call.caller.conversation
        track = model.choose(call.caller.unit or call.request, pinned)
        call.track, call.release = track.name, track.release
        return track


def read_chat(body: bytes) -> dict[str, Any]:
    """Decode a chat request and check what the gateway itself reads of it.

    Raises:
        InvalidInput: no JSON object, or `model`, `stream` has a wrong type.
    """
    chat = decode_object(body)
    model, stream = chat.get("model"), chat.get("stream")
    if not isinstance(model, str) or not model:
        found = "is missing" if "model" not in chat else f"= {str(model)[:80]}"
        raise InvalidInput(
            f"model {found}: expected the name of a model", code="wrong_type", param="model"
        )
    if stream is not None and not isinstance(stream, bool):
        raise InvalidInput(
            f"stream = {str(stream)[:80]}: expected true or false",
            code="wrong_type",
            param="stream",
        )
    return chat


def _headers(call: CallUnderWay, track: Track) -> dict[str, str]:
    return {**call.caller.forwarded(call.request), names.TRACK: track.name}


def _name(call: CallUnderWay, track: Track) -> str:
    return f"the {track.name} of {call.model!r}, {track.release},"


def _check_kind(model: Model, kind: str) -> None:
    if model.kind != kind:
        raise InvalidInput(
            f"model {model.name!r} is {model.kind}: ask {_ASK[model.kind].format(model.name)}",
            code="wrong_kind",
            param="model",
        )


def _infer_unit(body: Mapping[str, Any], column: str) -> str | None:
    inputs = body.get("inputs")
    for tensor in inputs if isinstance(inputs, list) else ():
        if isinstance(tensor, dict) and tensor.get("name") == column:
            return _first(tensor.get("data"))
    return None


def _predict_unit(body: Mapping[str, Any], column: str) -> str | None:
    for name in ("entities", "rows"):
        rows = body.get(name)
        if isinstance(rows, list) and rows and isinstance(rows[0], dict) and column in rows[0]:
            return _first(rows[0][column])
    return None


def _first(data: Any) -> str | None:
    """The first value, however nested: a request with many rows goes by its first."""
    while isinstance(data, list) and data:
        data = data[0]
    return str(data)[:256] if isinstance(data, str | int | float) else None
