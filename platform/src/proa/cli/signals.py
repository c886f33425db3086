"""A canary's signals as a table: `proa status NAME` while one is under way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proa.cli.output import Output

__all__ = ["say_analysis"]

_HEAD = ("signal", "candidate", "champion", "baseline", "interval", "margin", "verdict")


def say_analysis(output: Output, analysis: Mapping[str, Any] | None) -> None:
    """One row per signal; the interval is of the difference or ratio of candidate and champion."""
    if analysis is None:
        return
    units = ", ".join(f"{side} {count:,}" for side, count in analysis["units"].items())
    output.line("")
    output.line(f"analysis: {analysis['value']}: {analysis['reason']}")
    output.line(f"units: {units}")
    output.table(_HEAD, [_row(signal) for signal in analysis["signals"]])


def _row(signal: Mapping[str, Any]) -> tuple[str, ...]:
    sides = [_number(signal[side]) for side in ("candidate", "champion", "baseline")]
    verdict = signal["value"]
    if signal["interval"] is None:
        verdict = "not reported" if signal["candidate"] is None else "too little"
    elif signal["champion_moved"]:
        verdict += ", champion moved"
    return (
        signal["signal"],
        *sides,
        _interval(signal["interval"]),
        _number(signal["margin"]),
        verdict,
    )


def _interval(interval: list[float | None] | None) -> str:
    return "-" if interval is None else f"{_number(interval[0])} … {_number(interval[1])}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
