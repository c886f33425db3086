"""`platform.json`: what `up` decided about a platform. It holds no secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from proa.embedded.files import read_json, write_json
from proa.embedded.home import Home
from proa.embedded.ports import HOST, PortPlan
from proa.errors import InvalidInput, NotFound

__all__ = ["Platform", "read_platform", "write_platform"]

SCHEMA_VERSION: Final = 1
CURRENCY: Final = "USD"
DEFAULT_PRICES: Final[Mapping[str, int]] = {"classic_call_micro": 20}
"""Micro (1e-6 of the currency) per call of a classic model, until somebody says otherwise."""


@dataclass(frozen=True, slots=True)
class Platform:
    """One platform on this machine.

    Attributes:
        engines: identity → `url`, `key_file`, `base_model`, `max_model_len`, `prices`.
        aliases: what a project calls an engine (`smollm2`) → identity.
        weights: folder below which weights of embedders lie.
        prices: what is not an engine's, in micro of `currency`.
        judge: `engine` (identity) and `share` of the answers that it judges; None: nobody does.
    """

    home: Home
    ports: PortPlan
    engines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    weights: Path | None = None
    prices: Mapping[str, int] = field(default_factory=lambda: dict(DEFAULT_PRICES))
    currency: str = CURRENCY
    judge: Mapping[str, Any] | None = None

    @property
    def urls(self) -> dict[str, str]:
        """Part → where it answers, e.g. `gateway` → `http://127.0.0.1:8080`."""
        return {name: f"http://{HOST}:{port}" for name, port in self.ports.to_json().items()}

    def to_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "ports": self.ports.to_json(),
            "urls": self.urls,
            "engines": {name: dict(engine) for name, engine in self.engines.items()},
            "aliases": dict(self.aliases),
            "weights": str(self.weights) if self.weights else None,
            "prices": dict(self.prices),
            "currency": self.currency,
            "judge": dict(self.judge) if self.judge else None,
        }


def read_platform(home: Home) -> Platform:
    """The platform of a home.

    Raises:
        NotFound: there is none yet.
        InvalidInput: the file has another shape; the message names file and key.
    """
    path = home.platform_file
    try:
        value = read_json(path)
    except NotFound as error:
        raise NotFound(
            f"there is no platform in {home.root}", hint="proa up", code="no_platform"
        ) from error
    try:
        if value["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version = {value['schema_version']!r}: expected 1")
        weights = value["weights"]
        return Platform(
            home=home,
            ports=PortPlan.from_json(value["ports"]),
            engines=dict(value["engines"]),
            aliases=dict(value["aliases"]),
            weights=Path(weights) if weights else None,
            prices=dict(value["prices"]),
            currency=str(value["currency"]),
            judge=value.get("judge"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(
            f"{path}: not a platform file: {type(error).__name__} {error}"
        ) from error


def write_platform(platform: Platform) -> bool:
    """Store it when it says something new; True when it did."""
    path = platform.home.platform_file
    value = platform.to_json()
    if path.exists() and read_json(path) == value:
        return False
    write_json(path, value)
    return True
