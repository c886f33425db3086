"""Steady traffic while something is moved: requests at a rate, and streams that are always open."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp

_PIECE = re.compile(rb'"content": ?"[^"]')
INFER = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [1.0]}]}


@dataclass
class Load:
    """Traffic on one gateway, from a thread of its own, over connections that are kept alive.

    Attributes:
        url: of the user door.
        classic, llm: models; None: no such traffic.
        rate: requests per second, sent whether or not earlier ones were answered.
        streams: open at any time.
        orders: what the stand-in behind `llm` does with each; `deltas` pieces make a whole answer.
        failed: what went wrong with a request, or a stream before its first piece.
        truncated: streams that did not reach their end whole.
    """

    url: str
    key: str
    classic: str | None = None
    llm: str | None = None
    rate: float = 60.0
    streams: int = 100
    orders: dict[str, Any] = field(default_factory=lambda: {"deltas": 40, "pace_ms": 50})
    answered: int = 0
    ended: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    truncated: Counter[str] = field(default_factory=Counter)
    tracks: Counter[str] = field(default_factory=Counter)
    open: int = 0
    slowest: float = 0.0
    begun: float = 0.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Send nothing new, and wait for what is under way."""
        self._stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive(), "the load did not end"

    @property
    def sent_per_second(self) -> float:
        return self.answered / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        return (
            f"{self.answered} answers ({self.sent_per_second:.0f}/s, slowest {self.slowest:.2f} s),"
            f" {self.ended} whole streams, failed {dict(self.failed)},"
            f" truncated {dict(self.truncated)}"
        )

    async def _run(self) -> None:
        self.begun = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=90)
        headers = {"authorization": f"Bearer {self.key}"}
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as session,
            asyncio.TaskGroup() as group,
        ):
            if self.llm is not None:
                for number in range(self.streams):
                    group.create_task(self._stream_on(session, number))
            if self.classic is not None:
                await self._ask_on(session, group)
        self.seconds = time.monotonic() - self.begun

    async def _ask_on(self, session: aiohttp.ClientSession, group: asyncio.TaskGroup) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            group.create_task(self._ask(session))
            due += 1 / self.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        begun = time.monotonic()
        try:
            url = f"{self.url}/v2/models/{self.classic}/infer"
            async with session.post(url, json=INFER) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failed[f"{type(error).__name__}: {error}"] += 1
            return
        self.slowest = max(self.slowest, time.monotonic() - begun)
        if answer.status != 200:
            self.failed[f"{answer.status}: {text[:300]}"] += 1
            return
        self.answered += 1
        self.tracks[answer.headers.get("x-proa-track", "")] += 1

    async def _stream_on(self, session: aiohttp.ClientSession, number: int) -> None:
        await asyncio.sleep(number * 0.02)
        while not self._stop.is_set():
            try:
                await self._stream(session)
            except (aiohttp.ClientError, TimeoutError) as error:
                self.failed[f"stream: {type(error).__name__}: {error}"] += 1

    async def _stream(self, session: aiohttp.ClientSession) -> None:
        message = {"role": "user", "content": json.dumps(self.orders)}
        body = {"model": self.llm, "stream": True, "messages": [message]}
        text, self.open = b"", self.open + 1
        try:
            async with session.post(f"{self.url}/v1/chat/completions", json=body) as answer:
                if answer.status != 200:
                    self.failed[f"stream: {answer.status}: {(await answer.text())[:300]}"] += 1
                    return
                try:
                    text = await answer.read()
                except (aiohttp.ClientError, TimeoutError) as error:
                    self.truncated[f"{type(error).__name__}: {error}"] += 1
                    return
        finally:
            self.open -= 1
        pieces = len(_PIECE.findall(text))
        if text.endswith(b"data: [DONE]\n\n") and pieces == self.orders["deltas"]:
            self.ended += 1
        else:
            self.truncated[f"{pieces} pieces, then {text[-200:]!r}"] += 1
