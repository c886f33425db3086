"""What is watched in an event: the same values for the reference and for every window.

A classic release is watched in its input columns and outputs; a language release in what can be
read off one answer without judging it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["ANSWER_FEATURES", "answer_values"]

ANSWER_FEATURES: Final[dict[str, str]] = {
    "question_characters": "number",
    "answer_characters": "number",
    "tokens_in": "number",
    "tokens_out": "number",
    "time_to_first_token_ms": "number",
    "passages": "number",
    "retrieval_score": "number",
    "refused": "category",
    "finish_reason": "category",
    "guard_rule": "category",
}
"""Watched values of an answer and how they are binned."""


def answer_values(record: Mapping[str, Any]) -> dict[str, Any]:
    """The watched values of one answer; a key that `record` lacks is left out.

    Args:
        record: an answer event, or any part of one (`question`, `answer`, `retrieved`, …).
    """
    values: dict[str, Any] = {}
    for key in ("question", "answer"):
        if key in record:
            text = record[key]
            values[f"{key}_characters"] = None if text is None else len(text)
    for key in ("tokens_in", "tokens_out", "finish_reason", "refused"):
        if key in record:
            values[key] = record[key]
    if "ttft_ms" in record:
        values["time_to_first_token_ms"] = record["ttft_ms"]
    if "retrieved" in record:
        passages = record["retrieved"] or ()
        values["passages"] = len(passages)
        values["retrieval_score"] = passages[0].get("score") if passages else None
    if "guard" in record:
        rules = record["guard"] or ()
        values["guard_rule"] = rules[0].get("rule") if rules else "none"
    return values
