"""Why a model runs what it runs: the last change told in sentences, from its journal alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from proa.http.clock import parse_time
from proa.release.reference import ReleaseRef
from proa.rollout.record import SERVED, Line
from proa.rollout.timeline import replay, weight_of

_ASKED = {"promoted": "requested", "rolled_back": "rollback_requested", "undone": "undo_requested"}


def why(lines: Sequence[Line]) -> list[str]:
    """Sentences about the last change of a model's champion, and what came after it.

    Args:
        lines: all of one model's journal lines, in order of `seq`.
    """
    ends = [number for number, line in enumerate(lines) if line["action"] in SERVED]
    if not ends:
        return ["Nothing has served yet.", *_since(lines)]
    end = ends[-1]
    before = replay(lines[:end]).champion
    return [
        *_change(lines[: end + 1], before),
        *_since(lines[end + 1 :]),
    ]


def _change(lines: Sequence[Line], before: str | None) -> Iterator[str]:
    last = lines[-1]
    release, action = last["release"], last["action"]
    if action == "promoted":
        place = f"in place of {_short(before)}" if before else "as the first release"
        yield f"{_short(release)} became champion at {_time(last)}, {place}."
    elif action == "rolled_back":
        yield f"{_short(before)} was rolled back to {_short(release)} at {_time(last)}."
    else:
        yield f"{_short(before)} was set back to {_short(release)} at {_time(last)}."
    start = _asked(lines)
    if start is None:
        yield f"{last['who']} did it by hand: {last['reason']}."
        return
    asked = lines[start]
    yield f"{asked['who']} asked for it at {_time(asked)}{_because(asked['reason'])}."
    if action == "promoted":
        yield from _origin(lines[:start], release)
        yield from _grounds(lines[: start + 1], release)
    else:
        yield from _cause(lines[:start], before)
    yield from _steps(lines[start:])


def _asked(lines: Sequence[Line]) -> int | None:
    """The request that the last line fulfils; None when nobody asked in words."""
    wanted = _ASKED[lines[-1]["action"]]
    for number in range(len(lines) - 2, -1, -1):
        if lines[number]["action"] in SERVED:
            return None
        if lines[number]["action"] == wanted:
            return number
    return None


def _origin(lines: Sequence[Line], release: str) -> Iterator[str]:
    for line in lines:
        if line["action"] == "created" and line["release"] == release:
            yield f"{line['who']} created it at {_time(line)}{_because(line['reason'])}."
            return


def _grounds(lines: Sequence[Line], release: str) -> Iterator[str]:
    """Refusals before, the verdict, an approval, an override; the request is the last line."""
    digest = release.partition("@")[2]
    refused = [line for line in lines if line["action"] == "refused" and line["release"] == release]
    for line in refused[-3:]:
        yield f"It had been refused at {_time(line)} ({_code(line)}): {_sentence(line['reason'])}"
    if len(refused) > 3:
        yield f"Refusals before those: {len(refused) - 3}."
    verdict = _last(lines, ("judged", "carried"), digest)
    if verdict is None:
        yield "It had no verdict."
    else:
        yield _verdict(lines, verdict)
        yield from _figures(verdict["details"])
    smoke = _last(lines, ("smoked",), digest)
    if smoke is not None and verdict is not None and verdict["action"] == "carried":
        yield f"It sat a smoke exam here at {_time(smoke)}: {_sentence(smoke['reason'])}"
    for line in lines:
        if line["action"] == "approved" and line["release"] == release:
            yield f"{line['who']} approved it at {_time(line)}{_because(line['reason'])}."
    if len(lines) > 1 and lines[-2]["action"] == "overridden" and lines[-2]["release"] == release:
        over = lines[-2]
        codes = ", ".join(over["details"]["codes"])
        yield f"{over['who']} overrode {codes}{_because(over['reason'])}."
        for message in over["details"]["messages"]:
            yield f"  overridden: {_sentence(message)}"


def _verdict(lines: Sequence[Line], line: Line) -> str:
    details = line["details"]
    rival = next(
        (
            _short(other["release"])
            for other in reversed(lines)
            if other["release"] and other["release"].endswith(str(details["champion"]))
        ),
        None,
    )
    against = "with no champion to compare with" if rival is None else f"against {rival}"
    came = ""
    if line["action"] == "carried":
        came = f" in the environment {details['source'].get('environment', '?')}"
    return (
        f"The exam {details['exam'][7:19]} had judged it {details['value']} {against}{came} at "
        f"{_time(line)}: {_sentence(details['reason'])}"
    )


def _figures(details: Mapping[str, Any]) -> Iterator[str]:
    """The checks with a figure, champion beside candidate."""
    figures = [
        f"{check['name']} {check['value']:.4g}"
        + (f" against {check['champion']:.4g}" if check.get("champion") is not None else "")
        for check in details.get("checks", ())
        if check["kind"] in ("comparison", "floor", "safety") and check["value"] is not None
    ]
    if figures:
        more = f", and {len(figures) - 6} more" if len(figures) > 6 else ""
        yield f"  figures: {', '.join(figures[:6])}{more}."


def _cause(lines: Sequence[Line], before: str | None) -> Iterator[str]:
    for line in reversed(lines):
        if line["action"] in SERVED:
            return
        if line["action"] == "revoked" and line["release"] == before:
            yield f"{line['who']} had revoked {_short(before)} at {_time(line)}: {line['reason']}."
            return


def _steps(lines: Sequence[Line]) -> Iterator[str]:
    began: Line | None = None
    for line in lines:
        if line["action"] == "step":
            began = line
        elif line["action"] == "step_passed" and began is not None:
            yield (
                f"At {weight_of(began)} % from {_time(began)} for {_seconds(began, line)}: "
                f"{_sentence(line['reason'])}"
            )
        elif line["action"] in ("paused", "resumed"):
            yield f"{line['who']} {line['action']} it at {_time(line)}{_because(line['reason'])}."


def _since(lines: Sequence[Line]) -> Iterator[str]:
    """What came after the last change, one sentence for each line that tells something."""
    for line in lines:
        short, reason = _short(line["release"]), _because(line["reason"])
        match line["action"]:
            case "requested":
                yield f"Since then {line['who']} asked for {short} at {_time(line)}{reason}."
            case "aborted" | "held":
                yield (
                    f"Since then the rollout of {short} was {line['action']} at {_time(line)}: "
                    f"{_sentence(line['reason'])}"
                )
            case "refused":
                yield (
                    f"Since then {short} was refused at {_time(line)} ({_code(line)}): "
                    f"{_sentence(line['reason'])} To mend it: {line['details'].get('hint')}"
                )
            case "judged" | "carried":
                yield (
                    f"Since then {short} was judged {line['details']['value']} at {_time(line)}: "
                    f"{_sentence(line['reason'])}"
                )
            case "created" | "approved" | "overridden" | "revoked" | "unrevoked" | "put_back":
                word = line["action"].replace("_", " ")
                yield f"Since then {short} was {word} at {_time(line)} by {line['who']}{reason}."
            case "step":
                yield f"It has {weight_of(line)} % of traffic since {_time(line)}."
            case "rollback_requested":
                asked = f"{line['who']} asked to return to {short}"
                yield f"Since then {asked} at {_time(line)}{reason}."
            case _:
                pass


def _last(lines: Sequence[Line], actions: tuple[str, ...], digest: str) -> Line | None:
    found = (
        line
        for line in reversed(lines)
        if line["action"] in actions and line["details"]["candidate"] == digest
    )
    return next(found, None)


def _short(release: str | None) -> str:
    return "nothing" if release is None else ReleaseRef.parse(release).short


def _code(line: Line) -> str:
    return str(line["details"].get("code", "refused"))


def _because(reason: str) -> str:
    return f", because “{reason}”" if reason else ""


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _moment(line: Line) -> datetime:
    return parse_time(line["time"])


def _time(line: Line) -> str:
    return f"{_moment(line):%Y-%m-%d %H:%M:%S} UTC"


def _seconds(one: Line, other: Line) -> str:
    seconds = (_moment(other) - _moment(one)).total_seconds()
    return "a while (the clock stepped back)" if seconds < 0 else f"{seconds:.0f} s"
