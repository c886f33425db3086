"""Which engines there are: the `engines` and `prices` sections of platform.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proa.errors import InvalidInput, NotFound
from proa.http.bodies import decode_object
from proa.ledger.prices import CallPrice, TokenPrice

__all__ = ["Engine", "EngineTable", "parse_engines"]


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine.

    Attributes:
        identity: its name on the wire, `--served-model-name`.
        url: `unix:///path.sock` or `http://host:port`.
        api_key: what the engine asks for; it never leaves this process towards a client.
        continuous_usage: the engine can say the usage so far with every delta (vLLM can), so that
            a stream the client left is counted exactly.
    """

    identity: str
    url: str
    price: TokenPrice
    api_key: str | None = field(default=None, repr=False)
    continuous_usage: bool = False


@dataclass(frozen=True, slots=True)
class EngineTable:
    """Every engine, and the price of a classic call."""

    engines: Mapping[str, Engine]
    call_price: CallPrice

    def engine(self, identity: str) -> Engine:
        """Raises NotFound when there is no such engine."""
        engine = self.engines.get(identity)
        if engine is None:
            there = ", ".join(sorted(self.engines)) or "none yet"
            raise NotFound(
                f"there is no engine {identity[:80]!r}; the engines are: {there}",
                code="unknown_engine",
                param="model",
            )
        return engine


def parse_engines(data: bytes) -> EngineTable:
    """Read platform.json; its other sections belong to others.

    Raises:
        InvalidInput: what is wrong, with its path in the file.
    """
    value = decode_object(data, what="platform.json")
    engines = value.get("engines") or {}
    prices = value.get("prices") or {"classic_call_micro": 0}
    if not isinstance(engines, dict):
        raise InvalidInput(f"engines = {engines!r}: expected an object")
    return EngineTable(
        {identity: _engine(identity, spec) for identity, spec in engines.items()},
        CallPrice.parse(prices, where="prices"),
    )


def _engine(identity: str, spec: Any) -> Engine:
    where = f"engines.{identity}"
    url = spec.get("url") if isinstance(spec, dict) else None
    if not isinstance(url, str) or not url.startswith(("unix:///", "http://", "https://")):
        raise InvalidInput(f"{where}.url = {url!r}: expected unix:///path.sock or http(s)://host")
    return Engine(
        identity,
        url.rstrip("/"),
        TokenPrice.parse(spec.get("prices"), where=f"{where}.prices"),
        api_key=_api_key(spec.get("key_file"), where),
        continuous_usage=bool(spec.get("continuous_usage", False)),
    )


def _api_key(key_file: Any, where: str) -> str | None:
    if key_file is None:
        return None
    try:
        return Path(key_file).read_text().strip()
    except (OSError, TypeError) as error:
        raise InvalidInput(f"{where}.key_file = {key_file!r} cannot be read: {error}") from error
