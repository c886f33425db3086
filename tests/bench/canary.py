"""The canary's rule over whole simulated steps: `make bench-canary`.

200 seeded trials of each setting (`tests.canary_trials`): units that come back, cluster-wise
errors, two kinds of latency with a heavy tail, a look at every tick. Equal releases must not be
stopped; +50 % of p95 latency and +5 points of errors must not get through. The peer of a row is
what the rule before this one did on the same trials: fixed 95 % intervals by call, at every look.

The power table says how many units each margin needs: the defaults of `Policy` are read off it.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np

from proa.rollout.policy import Policy
from proa.rollout.sequence import boundary
from tests.bench.rows import Row, finish
from tests.canary_trials import Harm, Setting, make_calls, run_step, tally_of

BAR = 0.02
SLOW, ERRING = Harm(slower=1.5), Harm(errors=0.05)
INCIDENT = Harm(errors=0.2, slower=2.0)
CLASSIC = Setting(calls=40_000, weight=0.1)
CHAT = Setting(kind="llm", calls=8_000, weight=0.5)
ONE_CALL = Setting(calls=12_000, weight=0.2, per_unit=1.0, alike=1e-6)
FAITHFUL = Setting(calls=60_000, weight=0.1, per_unit=10.0, alike=0.5)
STEPS = {
    "classic at 10 %": CLASSIC,
    "language model at 50 %": CHAT,
    "one call a unit at 20 %": ONE_CALL,
    "ten calls a unit, half of all errors its own": FAITHFUL,
}


def ends(
    pool: ProcessPoolExecutor, setting: Setting, trials: int
) -> tuple[dict[str, float], float]:
    """Shares of pass, fail and inconclusive, and the median units until a pass."""
    found = list(pool.map(partial(_end, setting), range(trials), chunksize=8))
    values = [value for value, _ in found]
    units = [units for value, units in found if value == "pass"]
    shares = {value: values.count(value) / trials for value in ("pass", "fail", "inconclusive")}
    return shares, float(np.median(units)) if units else math.nan


def _end(setting: Setting, seed: int) -> tuple[str, int]:
    analysis, units = run_step(setting, seed)
    return analysis.value, units


def _fixed_end(setting: Setting, seed: int) -> str:
    """The rule before: Newcombe at 1.96 by call against the margin, and the p95s' bare ratio."""
    rng = np.random.default_rng([seed, 20261121])
    mine = max(1, int(setting.calls * setting.weight))
    sides = [
        make_calls(rng, count, harm, setting)
        for count, harm in (
            (mine, setting.candidate),
            (setting.calls - mine, setting.champion),
        )
    ]
    for look in range(1, setting.looks + 1):
        one, other = (side.first(int(len(side.unit) * look / setting.looks)) for side in sides)
        value = _fixed(tally_of(one, setting.kind), tally_of(other, setting.kind), setting.policy)
        if value != "inconclusive":
            return value
    return "inconclusive"


def _fixed(one: object, other: object, policy: Policy) -> str:
    from proa.ledger.tally import Tally, quantile

    assert isinstance(one, Tally)
    assert isinstance(other, Tally)
    sides = [side.of("errors") for side in (one, other)]
    if not all(side.calls for side in sides) or one.calls < 30:
        return "inconclusive"
    p = [side.mean for side in sides]
    half = 1.96 * math.hypot(
        *(math.sqrt(q * (1 - q) / side.calls) for q, side in zip(p, sides, strict=True))
    )
    if p[0] - p[1] - half > policy.error_margin:
        return "fail"
    if p[0] > p[1] + policy.error_margin:
        return "inconclusive"
    if quantile(one.latency, 0.95) > quantile(other.latency, 0.95) * policy.latency_ratio + 10:
        return "fail"
    return "pass"


def rows(trials: int) -> Iterator[Row]:
    """Every figure of the table."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for name, setting in STEPS.items():
            yield from _truths(pool, name, setting, trials)
        both = replace(CLASSIC, candidate=INCIDENT, champion=INCIDENT, looks=40)
        shares, _ = ends(pool, both, trials)
        yield _share("an incident that hits both: aborted", shares["fail"])
        yield _share("an incident that hits both: passed", shares["pass"])
        guards = {"tokens +100 %": Harm(longer=2.0), "length stops +15 points": Harm(stops=0.15)}
        for what, harm in guards.items():
            shares, _ = ends(pool, replace(CHAT, candidate=harm, calls=16_000), trials)
            yield _share(f"language model, {what}: missed", shares["pass"])
        shares, _ = ends(pool, replace(CLASSIC, candidate=Harm(shift=1.0)), trials)
        yield _share("classic, predictions shifted by one logit: missed", shares["pass"])
    yield from power()


def _truths(pool: ProcessPoolExecutor, name: str, setting: Setting, trials: int) -> Iterator[Row]:
    shares, units = ends(pool, setting, trials)
    fixed = list(pool.map(partial(_fixed_end, setting), range(trials), chunksize=8))
    yield _share(f"{name}, equal: false abort", shares["fail"], fixed.count("fail") / trials)
    yield Row(f"{name}, equal: passed", round(shares["pass"], 4), "of trials")
    yield Row(f"{name}, equal: units until it passed, median", units, "units")
    for what, harm in (("p95 +50 %", SLOW), ("errors +5 points", ERRING)):
        hurt = replace(setting, candidate=harm)
        shares, _ = ends(pool, hurt, trials)
        fixed = list(pool.map(partial(_fixed_end, hurt), range(trials), chunksize=8))
        yield _share(f"{name}, {what}: missed", shares["pass"], fixed.count("pass") / trials)
        yield Row(f"{name}, {what}: aborted", round(shares["fail"], 4), "of trials")


def _share(figure: str, value: float, peer: float | None = None) -> Row:
    return Row(figure, round(value, 4), "of trials", peer, BAR, value <= BAR)


def power() -> Iterator[Row]:
    """Independent units the challenger needs until health is shown, champion ten times as many."""
    policy = Policy()
    for base in (0.0, 0.01, 0.02):
        needed = next(n for n in range(10, 10**6) if _error_bound(n, base) < policy.error_margin)
        yield Row(f"units until errors of {base:.0%} are within {policy.error_margin:.0%}",
                  needed, "units")  # fmt: skip
    for ratio in (1.25, 1.5, 2.0):
        needed = next(n for n in range(180, 10**6) if _latency_bound(n) < math.log(ratio))
        yield Row(f"units until a p95 (log-normal, sigma 0.5) is within {ratio:g} times",
                  needed, "units")  # fmt: skip
    least = next(n for n in range(10, 1000) if 0.95 + _half(n, 0.95) < 1)
    yield Row("units until a p95 has an upper bound at all", least, "units")
    yield Row("default minimum_units", policy.minimum_units, "units")


def _half(count: int, share: float) -> float:
    return boundary(count, count) * math.sqrt(share * (1 - share) / count)


def _error_bound(count: int, base: float) -> float:
    """Upper end of the excess when both have exactly `base` errors (Wilson, MOVER)."""
    width = boundary(count, Policy().minimum_units)
    z2, halves = width * width, []
    for n in (count, count * 10):
        centre = (base + z2 / (2 * n)) / (1 + z2 / n)
        half = width * math.sqrt(base * (1 - base) / n + z2 / (4 * n * n)) / (1 + z2 / n)
        halves.append((max(0.0, centre - half), centre + half))
    return math.hypot(halves[0][1] - base, base - halves[1][0])


def _latency_bound(count: int) -> float:
    from statistics import NormalDist

    normal, halves = NormalDist(0, 0.5), []
    for n, sign in ((count, 1), (count * 10, -1)):
        share = 0.95 + sign * boundary(count, Policy().minimum_units) * math.sqrt(0.0475 / n)
        if share >= 1:
            return math.inf
        halves.append(abs(normal.inv_cdf(share) - normal.inv_cdf(0.95)))
    return math.hypot(*halves)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    return finish("canary", rows(parser.parse_args().trials))


if __name__ == "__main__":
    raise SystemExit(main())
