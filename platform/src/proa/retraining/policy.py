"""When a request may be made, and when its run may start. Pure; event time throughout."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from proa.http.clock import parse_time, rfc3339
from proa.project.retrain import RetrainSection
from proa.retraining.request import Past, Request
from proa.retraining.windows import Windows, midnight, shift

__all__ = ["Refusal", "next_windows", "read_windows", "why_not"]


class Refusal(str):
    """Why nothing may start: one sentence, and a word in `code` for the journal."""

    code: str

    def __new__(cls, code: str, sentence: str) -> Refusal:
        made = super().__new__(cls, sentence)
        made.code = code
        return made


def why_not(past: Past, section: RetrainSection, now: datetime) -> Refusal | None:
    """Why no request may be made now; None when one may.

    Args:
        now: the model's event time.
    """
    if past.open is not None:
        return Refusal("open", f"request {past.open.id} is under way ({past.open.state})")
    if past.stopped:
        return Refusal(
            "stopped",
            f"{past.failed_in_a_row} candidates failed in a row: nothing starts until a person "
            "resets it",
        )
    if not past.requests:
        return None
    ready = past.requests[-1].last + timedelta(days=section.cooldown_days)
    if now < ready:
        return Refusal("cooldown", f"request {past.requests[-1].id} ended less than "
                       f"{section.cooldown_days} days ago: wait until {_day(ready)}")  # fmt: skip
    begin = now - timedelta(days=section.budget_days)
    spent = [request for request in past.requests if request.asked > begin]
    if len(spent) >= section.budget:
        free = spent[-section.budget].asked + timedelta(days=section.budget_days)
        return Refusal("budget", f"{len(spent)} requests in {section.budget_days} days is the "
                       f"whole budget: wait until {_day(free)}")  # fmt: skip
    return None


def next_windows(
    request: Request, section: RetrainSection, *, labelled: datetime, trained: datetime | None
) -> Windows | Refusal:
    """The windows of the request's next run, or which labels are waited for.

    The fresh days lie in the time that was bad: on days before it both releases do well, and an
    exam over them would say nothing. The candidate has learned from `again_days` at least that
    the champion has not: else both are the same.

    Args:
        labelled: up to when labels are mature.
        trained: the last moment of the champion's own training data.
    """
    windows = shift(labelled, section.fresh_days, section.zone)
    news = timedelta(days=section.again_days)
    begin = request.since if trained is None else max(request.since, trained + news)
    first = shift(begin, 0, section.zone).until
    if first < begin:  # a day begun is not whole: the next one counts
        first = midnight(first.date() + timedelta(days=1), section.zone)
    enough = midnight(first.date() + timedelta(days=section.fresh_days), section.zone)
    if request.until is not None:
        again = request.until.astimezone(enough.tzinfo).date()
        enough = max(enough, midnight(again + timedelta(days=section.again_days), section.zone))
    if windows.until < enough:
        return Refusal(
            "labels",
            f"labels reach {_day(labelled)}; {section.fresh_days} fresh days are there when they "
            f"reach {_day(enough)}",
        )
    return windows


def read_windows(stored: Mapping[str, str]) -> Windows:
    """The windows of a run as its journal line has them."""
    return Windows(parse_time(stored["trained"]), parse_time(stored["until"]))


def _day(moment: datetime) -> str:
    return rfc3339(moment)[:16].replace("T", " ") + " UTC"
