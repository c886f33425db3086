"""Why a model is as it is now: findings, releases first met, and decisions, in the order of time.

Findings and releases have event time, decisions the clock on the wall. For a model that lives they
are the same; of a replayed year the decisions stand after everything else, and their time says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from proa.findings.finding import Finding
from proa.ledger.journal import Line
from proa_monitor.windows import Track

__all__ = ["ACTIONS", "marks_of", "story_of"]

ACTIONS: Final = {
    "promoted": "promoted",
    "rolled_back": "rolled back to",
    "undone": "put back by kubectl",
    "aborted": "rollout aborted, back to",
    "held": "rollout held",
    "refused": "refused",
    "revoked": "revoked",
    "retraining_asked": "retraining asked",
    **{
        f"retraining_{word}": f"retraining {word}"
        for word in (
            *("approved", "refused", "started", "judged", "promoting", "done"),
            *("failed", "held", "withdrawn"),
        )
    },
    "overridden": "admitted by override",
    "judged": "sat its exam",
    "approved": "approved",
    "adopted": "found running",
    "created": "created",
}
"""Lines of the journal that belong to the story, and how people say them."""
_AHEAD: Final = ("rolled_back", "undone", "aborted")
"""Said before the release, the others after it."""
_GRAVE: Final = frozenset(
    ("refused", "revoked", "aborted", "rolled_back", "undone", "retraining_failed")
)
_SERVED: Final = ("promoted", "rolled_back", "undone", "adopted")
MOST: Final = 200


def story_of(
    findings: Sequence[Finding], tracks: Sequence[Track], lines: Sequence[Line]
) -> list[dict[str, Any]]:
    """Everything that happened, the newest first, at most `MOST` of it."""
    story = [*_found(findings), *_met(tracks), *map(_decided, _plain(lines))]
    story.sort(key=lambda item: str(item["time"]), reverse=True)
    return story[:MOST]


def marks_of(tracks: Sequence[Track], lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Where a release first served as champion: the lines across the charts."""
    why = {line.release: line for line in lines if line.action in _SERVED and line.release}
    marks: list[dict[str, Any]] = []
    for track in tracks:
        if track.key.track not in ("champion", "") or not track.total.first:
            continue
        if any(mark["short"] == _short(track.key.release) for mark in marks):
            continue
        line = why.get(track.key.release)
        marks.append(
            {
                "window": min(track.windows, default=None),
                "time": track.total.first,
                "short": _short(track.key.release),
                "what": "first seen" if line is None else ACTIONS[line.action],
                "who": None if line is None else line.who,
                "reason": None if line is None else line.reason,
            }
        )
    return sorted(marks, key=lambda mark: str(mark["time"]))


def _found(findings: Iterable[Finding]) -> Iterable[dict[str, Any]]:
    for finding in findings:
        link = {"window": finding.window, "feature": finding.subject or None}
        common = {"severity": finding.severity, "who": None, "link": link}
        title = finding.type.replace("_", " ")
        if finding.subject:
            title += f": {finding.subject}"
        yield {
            "time": finding.since,
            "what": "finding",
            "title": title,
            "text": finding.message,
            **common,
        }
        if finding.until is not None:
            windows = f"after {finding.windows} window{'' if finding.windows == 1 else 's'}"
            yield {
                "time": finding.until,
                "what": "closed",
                "title": f"{title}: gone",
                "text": windows,
                **common,
                "severity": "info",
            }


def _met(tracks: Iterable[Track]) -> Iterable[dict[str, Any]]:
    for track in tracks:
        if track.total.first:
            place = f" as {track.key.track}" if track.key.track else ""
            yield {
                "time": track.total.first,
                "what": "release",
                "severity": "info",
                "title": f"{_short(track.key.release)} first met{place}",
                "text": track.reference.note or "",
                "who": None,
                "link": None,
            }


def _plain(lines: Iterable[Line]) -> Iterable[Line]:
    return (line for line in lines if line.action in ACTIONS)


def _decided(line: Line) -> dict[str, Any]:
    release = f" {_short(line.release)}" if line.release else ""
    word = ACTIONS[line.action]
    ahead = line.action.startswith("retraining_") or line.action in _AHEAD
    bad = line.action in _GRAVE
    return {
        "time": line.time,
        "what": "decision",
        "severity": "warning" if bad else "info",
        "title": f"{word}{release}" if ahead else f"{release.strip()} {word}".strip(),
        "text": line.reason,
        "who": line.who,
        "link": None,
    }


def _short(release: str) -> str:
    return release.partition("@")[0]
