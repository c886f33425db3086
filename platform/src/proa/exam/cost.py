"""What an exam will ask, take and cost: said before it is spent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from proa.errors import Refused
from proa.exam.exam import Exam
from proa.exam.runner import BATCH, CHATS, LATENCY_ROWS, REPEATS

_USUALLY_APART: Final = 0.1
"""The share of tasks asked again when no earlier exam says how many the sides disagree on."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one task, and where that is known from."""

    into: float
    out: float
    basis: str


@dataclass(frozen=True, slots=True)
class Cost:
    """An estimate for both sides together.

    Attributes:
        questions: calls, repeats included.
        kept: of these, answers that an interrupted gate left; they cost nothing again.
        tokens_in, tokens_out: 0 for a classic exam.
        money: in `currency`; None when a price is not known.
        seconds: None when no earlier exam tells.
        basis: where the figures come from.
    """

    questions: int
    kept: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    money: float | None = None
    currency: str = ""
    seconds: float | None = None
    basis: str = ""

    def __str__(self) -> str:
        parts = [f"{self.questions:,} questions" + (f", {self.kept:,} known" if self.kept else "")]
        if self.tokens_in or self.tokens_out:
            parts.append(f"about {self.tokens_in:,} tokens in and {self.tokens_out:,} out")
        if self.money is not None:
            parts.append(f"about {self.money:,.4f} {self.currency}")
        else:
            parts.append("no price known")
        if self.seconds is not None:
            parts.append(f"about {self.seconds:,.0f} s")
        return ", ".join(parts) + (f" ({self.basis})" if self.basis else "")

    def check(self, budget: float) -> None:
        """Refuse before anything is asked.

        Raises:
            Refused: it would cost more than `budget`, or nobody knows what it costs.
        """
        if self.money is None:
            raise Refused(
                f"a budget of {budget:g} was given, and no price is known: {self}",
                hint="set the engine's prices in platform.json, or say --yes",
                code="PriceUnknown",
            )
        if self.money > budget:
            raise Refused(
                f"this exam would cost about {self.money:,.4f} {self.currency}, the budget is "
                f"{budget:g}: {self}",
                hint="raise --budget, or say --yes to go ahead",
                code="BudgetExceeded",
            )


def estimate_rows(
    exam: Exam, *, sides: int, kept: int, micro_per_call: int | None, currency: str
) -> Cost:
    """The cost of a classic exam: a call per batch and the calls that measure latency."""
    batches = -(-len(exam.rows) // BATCH) + min(LATENCY_ROWS, len(exam.rows))
    calls = batches * sides
    return Cost(
        questions=calls,
        kept=kept,
        money=None if micro_per_call is None else calls * micro_per_call / 1e6,
        currency=currency,
        basis=f"{len(exam.rows):,} rows in batches of {BATCH}",
    )


def estimate_tasks(
    exam: Exam,
    *,
    tokens: Tokens,
    prices: list[tuple[float, float]] | None,
    sides: int,
    kept: int,
    currency: str,
    before: Mapping[str, Any] | None,
) -> Cost:
    """The cost of golden tasks.

    Args:
        tokens: of one task.
        prices: money per token in and out, for each side; None when one is not known.
        kept: answers that are there already.
        before: the evidence of an earlier exam of the model.
    """
    apart = _share_apart(before) if sides > 1 else 0.0
    each = len(exam.tasks) * (1 + REPEATS * apart)
    new = max(0.0, each * sides - kept)
    money = None
    if prices is not None:
        mean = [sum(side) / len(prices) for side in zip(*prices, strict=True)]
        money = new * (tokens.into * mean[0] + tokens.out * mean[1])
    taken = _mean_latency(before)
    return Cost(
        questions=round(each * sides),
        kept=kept,
        tokens_in=round(new * tokens.into),
        tokens_out=round(new * tokens.out),
        money=money,
        currency=currency,
        seconds=None if taken is None else new * taken / 1000 / CHATS,
        basis=tokens.basis,
    )


def tokens_of(before: Mapping[str, Any] | None, *, most: tuple[int, int]) -> Tokens:
    """Tokens of one task: as the longer side of the last exam, else the most the release allows.

    The last candidate may have been a short-spoken failure; its champion sits this exam again.
    """
    sides = [
        [
            (item["tokens_in"], item["tokens_out"])
            for item in (before or {}).get(side) or ()
            if item.get("tokens_in") is not None and item.get("tokens_out") is not None
        ]
        for side in ("candidate_results", "champion_results")
    ]
    means = [
        (sum(into for into, _ in known) / len(known), sum(out for _, out in known) / len(known))
        for known in sides
        if known
    ]
    if not means:
        return Tokens(*most, "at most, by the release's limits")
    return Tokens(*max(means, key=sum), "as in the last exam")


def _share_apart(before: Mapping[str, Any] | None) -> float:
    results = (before or {}).get("candidate_results") or ()
    if not results or (before or {}).get("champion_results") is None:
        return _USUALLY_APART
    return sum(bool(item.get("repeats")) for item in results) / len(results)


def _mean_latency(before: Mapping[str, Any] | None) -> float | None:
    known = [
        item["latency_ms"]
        for item in (before or {}).get("candidate_results", ())
        if item.get("latency_ms") is not None
    ]
    return sum(known) / len(known) if known else None
