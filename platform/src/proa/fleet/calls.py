"""`predict`, `chat`, costs, keys, and what the monitor saw of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from proa.errors import Unavailable, error_from_wire
from proa.fleet.wire import Wire, decoded


@dataclass(frozen=True, slots=True)
class Prediction:
    """Rows predicted by a classic model, and who did it."""

    release: str
    request: str
    predictions: list[dict[str, Any]]


class Calls(Wire):
    """Verbs that use models, and the records of use."""

    def predict(
        self,
        name: str,
        *,
        rows: Sequence[Mapping[str, Any]] | None = None,
        entities: Sequence[Mapping[str, Any]] | None = None,
        explain: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Prediction:
        """Predict raw rows, or entities whose features are read online."""
        body: dict[str, Any] = {"explain": explain}
        if rows is not None:
            body["rows"] = list(rows)
        if entities is not None:
            body["entities"] = list(entities)
        url = f"{self.endpoints.gateway}/v1/models/{name}/predict"
        answer = self._send("POST", url, body, headers)
        return Prediction(
            release=answer.headers["x-proa-release"],
            request=answer.headers["x-proa-request"],
            predictions=answer.json()["predictions"],
        )

    def chat(
        self,
        name: str,
        messages: Sequence[Mapping[str, str]],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """One answer of an assistant, whole: an OpenAI chat completion with a `proa` object."""
        body = {"model": name, "messages": list(messages)}
        url = f"{self.endpoints.gateway}/v1/chat/completions"
        return dict(self._send("POST", url, body, headers).json())

    def chat_stream(
        self,
        name: str,
        messages: Sequence[Mapping[str, str]],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """The chunks of a streamed answer; ends after `[DONE]`.

        Raises:
            Unavailable: the stream broke or carried an error.
        """
        body = {
            "model": name,
            "messages": list(messages),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        url = f"{self.endpoints.gateway}/v1/chat/completions"
        with self._http.stream("POST", url, json=body, headers=dict(headers or {})) as answer:
            if answer.status_code != 200:
                answer.read()
                raise error_from_wire(answer.status_code, decoded(answer))
            for line in answer.iter_lines():
                if not line.startswith("data: "):
                    continue
                data = line.removeprefix("data: ")
                if data == "[DONE]":
                    return
                chunk = orjson.loads(data)
                if "error" in chunk:
                    raise error_from_wire(503, chunk)
                yield chunk
        raise Unavailable("the stream ended before it was complete")

    def calls(self, **query: str) -> list[dict[str, Any]]:
        """Calls from the ledger; filters: since, model, request, limit."""
        return list(self._gateway("GET", "/proa/v1/calls", params=query)["calls"])

    def costs(self, by: str = "team", **query: str) -> dict[str, Any]:
        """Calls, tokens and cost by team, feature, model, release or purpose."""
        return dict(self._gateway("GET", "/proa/v1/costs", params={"by": by, **query}))

    def create_key(self, **settings: Any) -> dict[str, Any]:
        """Make a key; its text is in the answer and nowhere else."""
        return dict(self._gateway("POST", "/proa/v1/keys", settings))

    def watch(self, name: str) -> dict[str, Any]:
        """What the monitor knows: windows, counts, the drift figure of each window."""
        return dict(self._ask("GET", f"{self.endpoints.monitor}/v1/models/{name}"))

    def findings(self, name: str, **query: object) -> list[dict[str, Any]]:
        """What the monitor noticed of a model, newest first.

        Args:
            query: `open` (true, false or all), `type`, `since`, `limit`.
        """
        url = f"{self.endpoints.monitor}/v1/findings"
        params = {"model": name, **{key: str(value) for key, value in query.items()}}
        return list(self._ask("GET", url, params=params)["findings"])

    def label(self, name: str, labels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Report what came true, hours or months after the answer.

        Args:
            labels: each with `request` or `entity`, `value`, and `time` (RFC 3339, when it became
                known) where that is not now.

        Returns:
            `accepted`, `duplicates` and `rejected` (line and error).
        """
        url = f"{self.endpoints.monitor}/v1/models/{name}/labels"
        return dict(self._ask("POST", url, {"labels": list(labels)}))

    def overview(self) -> dict[str, Any]:
        """Every model as the monitor's page shows it: health, drift, quality, cost, release."""
        return dict(self._ask("GET", f"{self.endpoints.monitor}/v1/view/fleet"))

    def look(self, name: str, *, window: str | None = None) -> dict[str, Any]:
        """One model as the monitor's page shows it.

        Args:
            window: shown in detail, `2013-04-01` or `2013-04-01T10`; the newest by default.
        """
        url = f"{self.endpoints.monitor}/v1/view/models/{name}"
        return dict(self._ask("GET", url, params={"window": window} if window else None))

    def report(self, name: str, *, finding: str | None = None) -> dict[str, Any]:
        """Have the monitor write an Evidently report of the present window, or of a finding's."""
        way = f"models/{name}" if finding is None else f"findings/{finding}"
        return dict(self._ask("POST", f"{self.endpoints.monitor}/v1/{way}/report", {}))

    def seen_requests(self, **query: str) -> list[str]:
        """Request ids for which the monitor has an event."""
        url = f"{self.endpoints.monitor}/v1/requests"
        return list(self._ask("GET", url, params=query)["requests"])
