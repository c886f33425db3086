"""`kill -9` under load: what a client saw whole is in the ledger, exactly once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import httpx
import pytest

from .conftest import House

CONNECTIONS = 24
INFER = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [1.0]}]}
CHAT = {
    "model": "python-help",
    "stream": True,
    "messages": [{"role": "user", "content": json.dumps({"deltas": 3})}],
}


async def load(url: str, key: str, saw: list[str], enough: asyncio.Event) -> None:
    """Ask until the gateway is gone; note the ids of answers that came whole."""
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        while True:
            try:
                answer = await client.post("/v2/models/m/infer", json=INFER)
                if answer.status_code == 200 and answer.json():
                    saw.append(answer.headers["x-proa-request"])
                answer = await client.post("/v1/chat/completions", json=CHAT)
                if answer.content.endswith(b"data: [DONE]\n\n"):
                    saw.append(answer.headers["x-proa-request"])
            except httpx.TransportError:
                return
            if len(saw) > 300:
                enough.set()


@pytest.mark.parametrize("round_", range(3))
def test_kill_9_under_load(alone: House, round_: int) -> None:
    assert alone.proc is not None
    proc, saw = alone.proc, []
    key = alone.key("call").text

    async def main() -> None:
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(load(alone.url, key, saw, enough))
            await asyncio.wait_for(enough.wait(), 60)
            await asyncio.to_thread(alone.processes.kill, proc)

    asyncio.run(main())
    assert len(saw) > 300
    alone.start()
    recorded = Counter(call["request"] for call in alone.calls(limit=10_000))
    assert set(recorded.values()) == {1}
    assert not set(saw) - set(recorded)
    # At most the answers under way were written and never seen whole.
    assert len(recorded) - len(saw) <= CONNECTIONS
    assert alone.reader.get("/proa/v1/counts?model=m").json()["releases"]
    assert len(list((alone.home / "spool").glob("*.jsonl"))) == 1
