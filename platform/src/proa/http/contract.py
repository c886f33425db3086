"""The contract of a process that serves a release, checked over HTTP (services/CONTRACT.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from proa.errors import Refused, Unavailable
from proa.http import headers

__all__ = ["Finding", "Report", "check_contract"]

_VALUES = ("probability", "probabilities", "prediction")


@dataclass(frozen=True, slots=True)
class Finding:
    """One point of the contract: what was expected, whether it holds, what was seen."""

    point: str
    holds: bool
    seen: str


@dataclass(frozen=True, slots=True)
class Report:
    """Every point that was looked at."""

    findings: tuple[Finding, ...]

    @property
    def broken(self) -> list[Finding]:
        """The points that do not hold."""
        return [finding for finding in self.findings if not finding.holds]

    def require(self) -> None:
        """Raise Refused (`contract_broken`) naming every point that does not hold."""
        if self.broken:
            told = "; ".join(f"{f.point}: {f.seen}" for f in self.broken)
            raise Refused(
                f"the process breaks {len(self.broken)} of {len(self.findings)} points of the "
                f"HTTP contract: {told}",
                code="contract_broken",
                hint="services/CONTRACT.md; proa check-contract URL looks again",
            )

    def to_json(self) -> list[dict[str, Any]]:
        """A JSON list."""
        return [asdict(finding) for finding in self.findings]


def check_contract(
    url: str,
    *,
    name: str,
    rows: Sequence[Mapping[str, Any]] = (),
    release: str | None = None,
    kind: str = "classic",
    timeout: float = 30.0,
) -> Report:
    """Ask a process everything that the gateway and the exam will ask of it.

    Args:
        url: `http://127.0.0.1:8000`.
        name: the model's name.
        rows: rows of a classic model, raw columns; without any, answers are not looked at.
        release: what it must say it serves; None takes what `/release` says.
        kind: `classic` or `llm`.

    Raises:
        Unavailable: nothing answers at `url`.
    """
    with httpx.Client(base_url=url, timeout=timeout, trust_env=False) as client:
        asked = _Asked(client, name, release)
        try:
            asked.health()
            if kind == "llm":
                asked.chat()
            elif rows:
                asked.rows([dict(row) for row in rows])
            asked.nonsense(
                "/v1/chat/completions" if kind == "llm" else f"/v1/models/{name}/predict"
            )
        except httpx.HTTPError as error:
            raise Unavailable(f"{url} did not answer: {error!r}", hint="start it first") from error
    return Report(tuple(asked.findings))


class _Asked:
    def __init__(self, client: httpx.Client, name: str, release: str | None) -> None:
        self._client, self._name, self._release = client, name, release
        self.findings: list[Finding] = []

    def _note(self, point: str, holds: bool, seen: object) -> None:
        self.findings.append(Finding(point, bool(holds), str(seen)[:200]))

    def health(self) -> None:
        for path in ("/healthz", "/readyz"):
            status = self._client.get(path).status_code
            self._note(f"GET {path} answers 200", status == 200, status)
        answer = self._client.get("/release")
        body = _json(answer)
        said = body.get("release") if isinstance(body, dict) else None
        self._release = self._release or (said if isinstance(said, str) else None)
        self._note(
            "GET /release names the release of PROA_RELEASE",
            answer.status_code == 200 and said is not None and said == self._release,
            said if said is not None else f"{answer.status_code} {answer.text[:80]}",
        )

    def rows(self, rows: list[dict[str, Any]]) -> None:
        infer = self._client.post(f"/v2/models/{self._name}/infer", json={"inputs": _tensors(rows)})
        self._named("infer", infer)
        values = self._infer(infer, len(rows))
        predict = self._client.post(f"/v1/models/{self._name}/predict", json={"rows": rows})
        self._named("predict", predict)
        body = _json(predict)
        found = body.get("predictions") if isinstance(body, dict) else None
        good = isinstance(found, list) and len(found) == len(rows)
        seen = f"{predict.status_code} {str(body)[:120]}"
        point = "POST /v1/models/NAME/predict answers one prediction per row"
        self._note(point, predict.status_code == 200 and good, seen)
        if good and values is not None:
            assert isinstance(found, list)
            other = [_value(row) for row in found]
            self._note("both doors say the same", other == values, f"{values[:2]} and {other[:2]}")

    def _infer(self, answer: httpx.Response, count: int) -> list[Any] | None:
        body = _json(answer)
        point = "POST /v2/models/NAME/infer answers tensors of one value per row"
        outputs = body.get("outputs") if isinstance(body, dict) else None
        if answer.status_code != 200 or not isinstance(outputs, list):
            self._note(point, False, f"{answer.status_code} {answer.text[:120]}")
            return None
        named = {item.get("name"): item for item in outputs if isinstance(item, dict)}
        name = next((key for key in _VALUES if key in named), None)
        self._note(f"an output is called one of {', '.join(_VALUES)}", name is not None, [*named])
        if name is None:
            return None
        data, shape = named[name].get("data"), named[name].get("shape")
        if not isinstance(data, list):
            self._note(point, False, f"data {data!r:.80}")
            return None
        width = max(1, len(data) // count) if name == "probabilities" else 1
        wanted = [count, width] if name == "probabilities" else [count]
        holds = len(data) == count * width and shape == wanted
        self._note(point, holds, f"shape {shape}, {data!r:.80}")
        if name != "probabilities" or not holds:
            return data if holds else None
        return [data[i : i + width] for i in range(0, len(data), width)]

    def chat(self) -> None:
        body = {"model": self._name, "messages": [{"role": "user", "content": "hello"}]}
        answer = self._client.post("/v1/chat/completions", json=body)
        self._named("chat", answer)
        try:
            text = answer.json()["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            text = None
        self._note("POST /v1/chat/completions answers a chat completion",
                   answer.status_code == 200 and isinstance(text, str),
                   f"{answer.status_code} {answer.text[:120]}")  # fmt: skip

    def nonsense(self, path: str) -> None:
        answer = self._client.post(path, content=b"{", headers={"content-type": "application/json"})
        body = _json(answer)
        error = body.get("error") if isinstance(body, dict) else None
        named = isinstance(error, dict) and isinstance(error.get("message"), str)
        self._note("a body that is no JSON gets 4xx with error.message",
                   400 <= answer.status_code < 500 and named,
                   f"{answer.status_code} {answer.text[:80]}")  # fmt: skip

    def _named(self, what: str, answer: httpx.Response) -> None:
        said = answer.headers.get(headers.RELEASE)
        point = f"the answer of {what} has the header {headers.RELEASE}"
        self._note(point, said is not None and said == self._release, said)


def _value(row: Any) -> Any:
    return (
        next((row[key] for key in _VALUES if key in row), None) if isinstance(row, dict) else None
    )


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _tensors(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One input per column, with the datatype that its values have."""
    tensors = []
    for name in rows[0]:
        values = [row.get(name) for row in rows]
        known = [value for value in values if value is not None]
        kind = "INT64"
        if any(isinstance(value, str) for value in known):
            kind = "BYTES"
        elif known and all(isinstance(value, bool) for value in known):
            kind = "BOOL"
        elif any(isinstance(value, float) for value in known):
            kind = "FP64"
        tensors.append({"name": name, "shape": [len(rows)], "datatype": kind, "data": values})
    return tensors
