"""The engine door: every token of every engine passes here, with its caller's team on it."""

from __future__ import annotations

from dataclasses import dataclass

from proa.http.bodies import Receive, Scope, Send
from proa_gateway.caller import checked_text
from proa_gateway.calls import CallUnderWay
from proa_gateway.door import Gate
from proa_gateway.engines import EngineTable
from proa_gateway.errand import Errand, count_tokens
from proa_gateway.last_good import LastGood
from proa_gateway.streams import StreamTally, ask_usage
from proa_gateway.user_door import CHAT_PATH, read_chat

__all__ = ["EngineDoor"]


@dataclass(frozen=True, slots=True)
class EngineDoor:
    """Chat with an engine by its identity."""

    gate: Gate
    engines: LastGood[EngineTable]

    async def chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /v1/chat/completions` with `model` = engine identity."""
        await self.gate.handle(scope, receive, send, kind="llm", plan=self._plan)

    def _plan(self, call: CallUnderWay, _scope: Scope, body: bytes) -> Errand:
        chat, caller = read_chat(body), call.caller
        call.engine = chat["model"][:128]
        call.user, call.stream = checked_text(chat.get("user"), "user"), bool(chat.get("stream"))
        engine = self.engines.value.engine(chat["model"])
        call.track, call.release = caller.track, caller.release
        call.model = caller.release.partition("/")[0] if caller.release else None
        tally = None
        if call.stream:
            body, asked = ask_usage(body, chat, continuous=engine.continuous_usage)
            tally = StreamTally(hide_usage=not asked)
        headers = {"content-type": "application/json"}
        if engine.api_key is not None:
            headers["authorization"] = f"Bearer {engine.api_key}"
        if caller.traceparent is not None:
            headers["traceparent"] = caller.traceparent
        return Errand(
            engine.url,
            CHAT_PATH,
            body,
            headers,
            f"engine {engine.identity!r}",
            count_tokens,
            price=engine.price,
            chat=True,
            tally=tally,
            own_key=True,
        )
