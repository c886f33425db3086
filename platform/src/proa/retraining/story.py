"""One request told in sentences: finding, triage, runs, exams, rollout; from the journal alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from proa.retraining.request import Line, Request

__all__ = ["tell"]

_OF_ROLLOUT: Final = {
    "created": "made",
    "refused": "refused",
    "requested": "its rollout was asked for",
    "step": "canary",
    "step_passed": "canary step passed",
    "aborted": "its rollout was stopped",
    "promoted": "became champion",
    "rolled_back": "served again after a rollback",
}


def tell(request: Request, lines: Sequence[Line]) -> list[str]:
    """Sentences, oldest first, each with the day of event time or the moment of the journal.

    Args:
        lines: of the model, from the request's first on.
    """
    return list(_sentences(request, lines))


def _sentences(request: Request, lines: Sequence[Line]) -> Iterator[str]:
    first = request.lines[0]["details"]
    for found in first["findings"]:
        yield f"finding {found['id']}: {found['message']}{_figures(found)}"
    yield f"triage: {first['triage']['verdict']}: {first['triage']['reason']}"
    own = {line["seq"] for line in request.lines}
    end = request.lines[-1]["seq"] if not request.is_open else None
    releases = {line["release"] for line in request.lines if line["release"]}
    for line in lines:
        if end is not None and line["seq"] > end:
            return
        if line["seq"] in own:
            yield _own(line)
        elif line["release"] in releases and line["action"] in _OF_ROLLOUT:
            short = line["release"].partition("@")[0]
            word, why = _OF_ROLLOUT[line["action"]], line["reason"]
            yield f"{line['time'][:19]}Z: {short} {word}" + (f": {why}" if why else "")


def _own(line: Line) -> str:
    at, word = line["details"]["at"][:10], line["action"].removeprefix("retraining_")
    who = "" if line["who"] == "proa-controller" else f" by {line['who']}"
    return f"{at}: {word}{who}: {line['reason']}"


def _figures(found: Mapping[str, Any]) -> str:
    effect, limit, unit = found["effect"], found["limit"], found["unit"]
    since = f" since {found['since'][:10]}"
    if effect is None:
        return since
    against = "" if limit is None else f", ordinary up to {limit:.4g}"
    return f" ({effect:.4g} {unit}{against}){since}"
