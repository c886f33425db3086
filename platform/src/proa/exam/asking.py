"""Ask a release through the gateway, pinned to its track, as exam traffic."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import httpx
import orjson

from proa.errors import error_from_wire
from proa.exam.exam import Row, Scalar
from proa.http import headers

_ATTEMPTS = 4
_FIRST_WAIT = 0.2
_T = TypeVar("_T")
_NOT_THE_MODEL = frozenset({401, 403, 429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Prediction:
    """A classic model's answer to one row; `decision` is None where it takes none."""

    value: float | list[float] | None
    decision: float | str | bool | None
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """A language model's answer: its own text without the list of sources.

    `ttft_ms`: milliseconds to the first piece of text; None unless the answer was streamed.
    """

    text: str
    citations: Sequence[Mapping[str, Any]] = ()
    refused: bool = False
    tokens_in: int | None = None
    tokens_out: int | None = None
    ttft_ms: float | None = None
    guard: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


class Unanswered(Exception):
    """No usable answer. `blame` is `model` (it answered wrongly) or `transport`.

    `divisible`: the request as a whole was refused, so a smaller one may tell which row is at
    fault.
    """

    def __init__(self, message: str, *, blame: str, divisible: bool = False) -> None:
        super().__init__(message)
        self.blame = blame
        self.divisible = divisible


class Ask(Protocol):
    """One side of an exam, asked from several threads at once."""

    def rows(self, rows: Sequence[Row], datatypes: Mapping[str, str]) -> list[Prediction]:
        """One prediction per row, or `Unanswered`; `datatypes` are those of `datatypes_of`."""

    def chat(self, conversation: Sequence[Mapping[str, str]]) -> Said:
        """The answer to a conversation, or `Unanswered`."""


class GatewayAsk:
    """Asks over HTTP through the gateway's user door.

    Args:
        url: the user door, `http://127.0.0.1:8080`.
        key: a key with the rights `call` and `judge`.
        model: the model's name.
        track: `champion` or `challenger`.
        release: the release that must answer; an answer of another one does not count.
        timeout: seconds one answer may take.
        stream: ask for streams, so that the time to the first token is measured.
        sleep: waits between attempts after a broken connection.
    """

    def __init__(
        self,
        *,
        url: str,
        key: str,
        model: str,
        track: str,
        release: str,
        timeout: float = 120.0,
        stream: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._model, self._release, self._sleep = model, release, sleep
        self._stream = stream
        self._client = httpx.Client(
            base_url=url,
            timeout=timeout,
            limits=httpx.Limits(max_connections=32),
            trust_env=False,
            headers={
                "authorization": f"Bearer {key}",
                headers.TRACK: track,
                headers.PURPOSE: "gate",
            },
        )

    def __enter__(self) -> GatewayAsk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def rows(self, rows: Sequence[Row], datatypes: Mapping[str, str]) -> list[Prediction]:
        """Send raw columns as one Open Inference Protocol request."""
        inputs = to_columns(rows, datatypes)
        answer = self._post(f"/v2/models/{self._model}/infer", {"inputs": inputs})
        return to_predictions(answer, len(rows))

    def chat(self, conversation: Sequence[Mapping[str, str]]) -> Said:
        """Send an OpenAI chat request."""
        body: dict[str, Any] = {"model": self._model, "messages": list(conversation)}
        path = "/v1/chat/completions"
        if not self._stream:
            return to_said(self._post(path, body))
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        return self._tried(lambda: self._streamed(path, body))

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        response = self._tried(lambda: self._client.post(path, json=body))
        self._check(response)
        try:
            return response.json()
        except ValueError as error:
            raise Unanswered(f"the answer is not JSON: {error}", blame="model") from error

    def _streamed(self, path: str, body: Mapping[str, Any]) -> Said:
        began = time.monotonic()
        with self._client.stream("POST", path, json=body) as response:
            if response.status_code >= 400:
                response.read()
            self._check(response)
            return read_stream(response.iter_lines(), began=began)

    def _check(self, response: httpx.Response) -> None:
        if response.status_code >= 400:
            raise self._refused(response)
        answered = response.headers.get(headers.RELEASE)
        if answered != self._release:
            raise Unanswered(
                f"answered by {answered or 'an unnamed release'}, expected {self._release}",
                blame="transport",
            )

    def _tried(self, act: Callable[[], _T]) -> _T:
        for attempt in range(_ATTEMPTS):
            try:
                return act()
            except httpx.TransportError as error:
                if attempt == _ATTEMPTS - 1:
                    raise Unanswered(
                        f"no answer after {_ATTEMPTS} attempts: {type(error).__name__}: {error}",
                        blame="transport",
                    ) from error
                self._sleep(_FIRST_WAIT * 2**attempt)
        raise AssertionError("unreachable")

    def _refused(self, response: httpx.Response) -> Unanswered:
        """An error under our release's name is the model's, unless something below it was down."""
        try:
            body: object = response.json()
        except ValueError:
            body = response.text
        error = error_from_wire(response.status_code, body)
        by_model = (
            response.headers.get(headers.RELEASE) == self._release
            and response.status_code not in _NOT_THE_MODEL
        )
        return Unanswered(
            f"HTTP {response.status_code}: {error.message}",
            blame="model" if by_model else "transport",
            divisible=by_model and response.status_code < 500,
        )


def datatypes_of(rows: Sequence[Row]) -> dict[str, str]:
    """The datatype of every column of an exam, by all of its values: a batch may hold only nulls.

    Whole numbers are INT64, which a column of decimals takes too, as is a column without values.
    """
    found: dict[str, str] = {}
    for row in rows:
        for name, value in row.inputs.items():
            known = found.get(name)
            if known != "BYTES":
                found[name] = _wider(known, value)
    return {name: datatype or "INT64" for name, datatype in found.items()}


def _wider(known: str | None, value: Scalar) -> str:
    if value is None:
        return known or ""
    if isinstance(value, str):
        return "BYTES"
    if isinstance(value, bool):
        return "BOOL" if known in (None, "", "BOOL") else known or ""
    if isinstance(value, float) or known == "FP64":
        return "FP64"
    return "INT64"


def to_columns(rows: Sequence[Row], datatypes: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows as input tensors, one per column; what is missing is null."""
    columns = []
    for name, datatype in datatypes.items():
        values = [row.inputs.get(name) for row in rows]
        if datatype == "FP64":
            values = [None if value is None else float(value) for value in values]
        columns.append({"name": name, "shape": [len(values)], "datatype": datatype, "data": values})
    return columns


def to_predictions(answer: Any, count: int) -> list[Prediction]:
    """Read `probability`, `probabilities` or `prediction`, and `label`, of `count` rows."""
    try:
        outputs = {item["name"]: item for item in answer["outputs"]}
    except (TypeError, KeyError) as error:
        raise Unanswered("the answer has no outputs", blame="model") from error
    name = next((key for key in _VALUES if key in outputs), None)
    if name is None:
        raise Unanswered(
            f"the answer has {sorted(outputs)}: expected one of {list(_VALUES)}", blame="model"
        )
    values = outputs[name].get("data")
    decisions = outputs["label"].get("data") if "label" in outputs else [None] * count
    if isinstance(values, list) and name == "probabilities" and not _is_nested(values):
        width = len(values) // count
        values = [values[start : start + width] for start in range(0, len(values), width or 1)]
    for key, found in ((name, values), ("label", decisions)):
        if not isinstance(found, list) or len(found) != count:
            raise Unanswered(f"{key}: expected {count} values", blame="model")
    lower, upper = (_bound_of(outputs, name, count) for name in ("lower", "upper"))
    return [Prediction(*parts) for parts in zip(values, decisions, lower, upper, strict=True)]


def _bound_of(outputs: Mapping[str, Any], name: str, count: int) -> list[float | None]:
    """One end of the intervals a regression or forecast may give; None without them."""
    if name not in outputs:
        return [None] * count
    found = outputs[name].get("data")
    if not isinstance(found, list) or len(found) != count:
        raise Unanswered(f"{name}: expected {count} values", blame="model")
    return found


_VALUES = ("probability", "probabilities", "prediction")


def _is_nested(values: list[Any]) -> bool:
    return bool(values) and isinstance(values[0], list)


def to_said(answer: Any) -> Said:
    """Read an OpenAI chat answer with its `proa` part."""
    try:
        text = answer["choices"][0]["message"]["content"]
    except (TypeError, KeyError, IndexError) as error:
        raise Unanswered("the answer has no message", blame="model") from error
    if not isinstance(text, str):
        raise Unanswered("the answer's message has no text", blame="model")
    extra = answer.get("proa") or {}
    usage = answer.get("usage") or {}
    citations = extra.get("citations") or []
    if citations:
        text = text.rpartition("\n\nSources:")[0] or text
    return Said(
        text,
        tuple(citations),
        bool(extra.get("refused")),
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
        guard=tuple(extra.get("guard") or ()),
    )


def read_stream(lines: Iterable[str], *, began: float) -> Said:
    """Put the chunks of a streamed chat answer together.

    Args:
        lines: of the event stream.
        began: when it was asked for, by `time.monotonic`.

    Raises:
        Unanswered: it carried an error, or ended before `[DONE]`.
    """
    first, text, last, done = None, "", dict[str, Any](), False
    for line in lines:
        data = line.removeprefix("data: ")
        if data == line:
            continue
        if data == "[DONE]":
            done = True
            break
        chunk = _chunk(data)
        for choice in chunk.get("choices") or ():
            piece = (choice.get("delta") or {}).get("content") or ""
            if piece and first is None:
                first = (time.monotonic() - began) * 1000
            text += piece
        last |= {key: chunk[key] for key in ("usage", "proa") if chunk.get(key)}
    if not done:
        raise Unanswered("the stream ended before it was complete", blame="transport")
    said = to_said({"choices": [{"message": {"content": text}}], **last})
    return replace(said, ttft_ms=first)


def _chunk(data: str) -> dict[str, Any]:
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Unanswered(f"a chunk of the stream is not JSON: {error}", blame="model") from error
    if not isinstance(chunk, dict):
        raise Unanswered("a chunk of the stream is no object", blame="model")
    if "error" in chunk:
        said = error_from_wire(503, chunk).message
        raise Unanswered(f"the stream broke: {said}", blame="transport")
    return chunk
