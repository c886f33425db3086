"""What a call costs, in integer millionths of the currency ("micro").

A call records the rates it was charged by, so that a bill can be checked from the ledger alone:
`tokens:150000:600000` is micro per million tokens in and out, `call:20` micro per call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from proa.errors import InvalidInput

__all__ = ["CallPrice", "TokenPrice"]

_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """Micro per million tokens, in and out. A price of 0 is counted like any other."""

    input_per_million_micro: int
    output_per_million_micro: int

    @classmethod
    def parse(cls, value: object, *, where: str) -> TokenPrice:
        """Read `{"input_per_million_micro", "output_per_million_micro"}`; `where` names it."""
        return cls(
            _rate(value, "input_per_million_micro", where),
            _rate(value, "output_per_million_micro", where),
        )

    def cost(self, tokens_in: int | None, tokens_out: int | None) -> int:
        """Micro for these tokens, a half rounded up; unknown counts cost nothing."""
        total = (tokens_in or 0) * self.input_per_million_micro
        total += (tokens_out or 0) * self.output_per_million_micro
        return (total + _MILLION // 2) // _MILLION

    def __str__(self) -> str:
        return f"tokens:{self.input_per_million_micro}:{self.output_per_million_micro}"


@dataclass(frozen=True, slots=True)
class CallPrice:
    """Micro per call of a classic model."""

    per_call_micro: int

    @classmethod
    def parse(cls, value: object, *, where: str) -> CallPrice:
        """Read `{"classic_call_micro"}`; `where` names it in errors."""
        return cls(_rate(value, "classic_call_micro", where))

    def __str__(self) -> str:
        return f"call:{self.per_call_micro}"


def _rate(value: object, name: str, where: str) -> int:
    table: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
    rate = table.get(name)
    if isinstance(rate, bool) or not isinstance(rate, int) or rate < 0:
        raise InvalidInput(
            f"{where}.{name} = {rate!r}: expected a whole number of micro, 0 or more", param=name
        )
    return rate
