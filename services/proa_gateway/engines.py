"""Which engines there are: of platform.json, or of many ConfigMaps with an entry of each engine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proa.errors import InvalidInput, NotFound, ProaError
from proa.http.bodies import decode_object
from proa.ledger.prices import CallPrice, TokenPrice
from proa_gateway.documents import Document
from proa_gateway.last_good import Reading

__all__ = ["Engine", "EngineEntries", "EngineTable", "parse_engines"]


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

    def urls(self) -> set[str]:
        """Every address calls may go to."""
        return {engine.url for engine in self.engines.values()}

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


class EngineEntries:
    """Reads many documents of the form `{IDENTITY: entry}`, each by whoever runs those engines.

    A bad document costs nobody else anything: what it said when it was good stays. Where two name
    the same identity the older one answers.

    Args:
        keys: the folder that key files must lie in: who may write an entry may not have any other
            file of this process sent to an address of theirs.
    """

    def __init__(self, call_price: CallPrice, *, keys: Path) -> None:
        self._call_price = call_price
        self._keys = keys
        self._good: dict[str, dict[str, Engine]] = {}

    def __call__(self, documents: Sequence[Document]) -> Reading[EngineTable]:
        good, faults = self._good, []
        self._good = {}
        for document in documents:
            try:
                self._good[document.name] = self._parse(document.body)
            except ProaError as error:
                faults.append(f"{document.name}: {error.message}")
                if document.name in good:
                    self._good[document.name] = good[document.name]
        engines: dict[str, Engine] = {}
        owners: dict[str, str] = {}
        for name, entries in self._good.items():
            for identity, engine in entries.items():
                owner = owners.setdefault(identity, name)
                if owner != name:
                    faults.append(f"engine {identity!r} stands in {owner} and in {name}")
                    continue
                engines[identity] = engine
        return Reading(EngineTable(engines, self._call_price), faults)

    def _parse(self, body: bytes) -> dict[str, Engine]:
        entries = decode_object(body, what="engines.json")
        return {name: _engine(name, spec, self._keys) for name, spec in entries.items()}


def _engine(identity: str, spec: Any, keys: Path | None = None) -> Engine:
    where = f"engines.{identity}"
    url = spec.get("url") if isinstance(spec, dict) else None
    if not isinstance(url, str) or not url.startswith(("unix:///", "http://", "https://")):
        raise InvalidInput(f"{where}.url = {url!r}: expected unix:///path.sock or http(s)://host")
    return Engine(
        identity,
        url.rstrip("/"),
        TokenPrice.parse(spec.get("prices"), where=f"{where}.prices"),
        api_key=_api_key(spec.get("key_file"), where, keys),
        continuous_usage=bool(spec.get("continuous_usage", False)),
    )


def _api_key(key_file: Any, where: str, keys: Path | None) -> str | None:
    if key_file is None:
        return None
    if keys is not None and keys not in Path(os.path.normpath(str(key_file))).parents:
        raise InvalidInput(f"{where}.key_file = {key_file!r}: expected a file below {keys}")
    try:
        return Path(key_file).read_text().strip()
    except (OSError, TypeError) as error:
        raise InvalidInput(f"{where}.key_file = {key_file!r} cannot be read: {error}") from error
