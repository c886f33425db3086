"""Whole canary steps, simulated: what the gateways would count, and a look at every tick.

Made up, seeded: units come back (a geometric number of calls each), have a speed of their own, and
some fail far more often than others; latencies are of two kinds (a cache's answer and the work)
with a heavy tail. Everything after the calls is the real thing: `Tally`, `analyse`, the policy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from proa.ledger.tally import LATENCY_BASE, Sums, Tally
from proa.rollout.analysis import Analysis, analyse
from proa.rollout.policy import Policy

Array = Any


@dataclass(frozen=True, slots=True)
class Harm:
    """What is wrong with a side; nothing by default.

    Attributes:
        slower: factor on every latency.
        errors: added to the error ratio.
        longer: factor on an answer's tokens.
        shift: added to the logit of predictions.
        stops: added to the share of answers cut by length.
    """

    slower: float = 1.0
    errors: float = 0.0
    longer: float = 1.0
    shift: float = 0.0
    stops: float = 0.0


@dataclass(frozen=True, slots=True)
class Setting:
    """One kind of step.

    Attributes:
        weight: the challenger's share of units.
        calls: calls of the whole step, both sides.
        looks: how often the controller looks, evenly.
        error_ratio: of the champion.
        alike: share of the errors' variance that belongs to the unit, 0 to 1.
        per_unit: mean calls of one unit.
        candidate, champion: harm of both sides during the step; the baseline has none.
    """

    kind: str = "classic"
    weight: float = 0.1
    calls: int = 16_000
    looks: int = 50
    error_ratio: float = 0.01
    alike: float = 0.2
    per_unit: float = 2.0
    candidate: Harm = Harm()
    champion: Harm = Harm()
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class Calls:
    """Columns of n calls in order of time; `unit` counts from 0."""

    unit: Array
    latency: Array
    error: Array
    tokens: Array
    stop: Array
    place: Array

    def first(self, count: int) -> Calls:
        return Calls(*(getattr(self, name)[:count] for name in self.__slots__))


def make_calls(rng: Array, count: int, harm: Harm, setting: Setting) -> Calls:
    units = max(1, int(count / setting.per_unit))
    unit = _arrivals(rng, count, units)
    speed = rng.normal(0, 0.35, units)[unit]
    cached = rng.random(count) < 0.3
    base = np.where(cached, np.log(8.0), np.log(40.0))
    tail = np.where(rng.random(count) < 0.02, 1.2, 0.0)
    latency = harm.slower * np.exp(base + speed + tail + rng.normal(0, 0.4, count))
    share = min(0.99, setting.error_ratio + harm.errors)
    spread = 1 / max(setting.alike, 1e-6) - 1
    prone = rng.beta(share * spread, (1 - share) * spread, units)[unit]
    error = rng.random(count) < prone
    wordy = rng.normal(0, 0.3, units)[unit]
    tokens = np.maximum(1, harm.longer * np.exp(4 + wordy + rng.normal(0, 0.4, count))).astype(int)
    stop = rng.random(count) < 0.05 + harm.stops
    place = np.floor(2 * (rng.normal(-1.5, 1.0, units)[unit] + harm.shift)).astype(int)
    return Calls(unit, latency, error, tokens, stop, place)


def _arrivals(rng: Array, count: int, units: int) -> Array:
    """Which unit calls: new ones all along, and those who came before come again."""
    if units >= count:
        return np.arange(count)
    born = np.sort(rng.uniform(0, 1, units))
    known = rng.uniform(0, 1, count) ** 0.7 * np.linspace(0.05, 1, count)
    return np.minimum(np.searchsorted(born, known), units - 1)


def tally_of(calls: Calls, kind: str) -> Tally:
    """What the ledger would have summed."""
    good = ~calls.error
    figures = {
        "errors": sums_of(calls.unit, calls.error.astype(float)),
        "rejected": sums_of(calls.unit, np.zeros(len(calls.unit))),
        "log_latency": sums_of(calls.unit[good], np.log(calls.latency[good])),
    }
    places: dict[int, int] = {}
    if kind == "classic":
        figures["predictions"] = sums_of(calls.unit[good], np.ones(int(good.sum())))
        places = _count(calls.place[good])
    else:
        figures["tokens_out"] = sums_of(calls.unit[good], calls.tokens[good].astype(float))
        figures["length_stops"] = sums_of(calls.unit[good], calls.stop[good].astype(float))
    buckets = np.floor(np.log(calls.latency[good]) / np.log(LATENCY_BASE)).astype(int)
    units = figures["errors"].units
    figures = {name: sums for name, sums in figures.items() if sums.calls}
    return Tally(len(calls.unit), units, figures, _count(buckets), places)


def sums_of(unit: Array, value: Array) -> Sums:
    if not len(unit):
        return Sums()
    sizes, totals = np.bincount(unit), np.bincount(unit, weights=value)
    return Sums(
        len(unit),
        int((sizes > 0).sum()),
        float((sizes.astype(float) ** 2).sum()),
        float(value.sum()),
        float((totals**2).sum()),
        float((totals * sizes).sum()),
        float((value**2).sum()),
    )


def _count(values: Array) -> dict[int, int]:
    if not len(values):
        return {}
    least = int(values.min())
    counts = np.bincount(values - least)
    return {int(key) + least: int(counts[key]) for key in np.flatnonzero(counts)}


def run_step(setting: Setting, seed: int) -> tuple[Analysis, int]:
    """One step as the controller lives it: how it ended, and the units it took."""
    rng = np.random.default_rng([seed, 20261121])
    mine = max(1, int(setting.calls * setting.weight))
    candidate = make_calls(rng, mine, setting.candidate, setting)
    champion = make_calls(rng, setting.calls - mine, setting.champion, setting)
    before = tally_of(make_calls(rng, setting.calls, Harm(), setting), setting.kind)
    analysis = Analysis("inconclusive", "no look")
    for look in range(1, setting.looks + 1):
        part = look / setting.looks
        analysis = analyse(
            tally_of(candidate.first(int(len(candidate.unit) * part)), setting.kind),
            tally_of(champion.first(int(len(champion.unit) * part)), setting.kind),
            setting.policy,
            kind=setting.kind,
            baseline=before,
        )
        if analysis.value != "inconclusive":
            break
    return analysis, analysis.units[0]


def outcomes(setting: Setting, trials: int) -> dict[str, Any]:
    """Shares of how `trials` steps ended, and the median units of those that passed."""
    ends = [run_step(setting, seed) for seed in range(trials)]
    values = [analysis.value for analysis, _ in ends]
    passed = [units for analysis, units in ends if analysis.value == "pass"]
    return {
        **{value: values.count(value) / trials for value in ("pass", "fail", "inconclusive")},
        "units": float(np.median(passed)) if passed else float("nan"),
    }
