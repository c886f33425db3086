"""The book of findings: observations in, findings that open, last and close out. Pure.

Each (key, type, subject) is a line of its own. A line remembers its newest `LOOK_BACK` windows one
by one, and everything before them as one sum; so a window that is judged again, or out of order,
gives what it would have given in time, as long as it is not older than those. The ids of findings
are made from what they are of and when they began: the same history gives the same ones.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, NamedTuple

import orjson

from proa.errors import InvalidInput
from proa.findings.finding import Finding
from proa.findings.observation import PATIENCE, Observation

__all__ = ["LOOK_BACK", "BookKey", "FindingBook", "finding_id"]

SCHEMA_VERSION: Final = 1
LOOK_BACK: Final = 8
"""Windows of a line that can still be judged again."""
LINES: Final = 4000
"""Lines of one key; more of them are not kept, and counted in `left_out`."""
_LENIENT: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
GONE: Final = "(gone)"
"""Name of the window that a key's end counts as."""


class BookKey(NamedTuple):
    """What is judged: a release in one place of its rollout, in windows of one length.

    `release` and `track` may be empty for what is of a whole model; `scale` is empty for the
    windows the monitor counts in, else the name of a longer one (`week`).
    """

    model: str
    kind: str
    release: str
    track: str
    scale: str = ""


class _Entry(NamedTuple):
    """A window of one line; `seen` is None when the thing was not there."""

    start: str
    end: str
    window: str
    seen: Observation | None


@dataclass(frozen=True, slots=True)
class _Run:
    """Windows running that showed a thing; `count` 0 when the last one did not."""

    count: int = 0
    since: str = ""
    seen: str = ""
    window: str = ""
    observation: Observation | None = None


@dataclass(frozen=True, slots=True)
class _Line:
    """One type and subject: `run` up to `through` (a window's start), then `recent`, in order."""

    run: _Run = _Run()
    through: str = ""
    recent: tuple[_Entry, ...] = ()


@dataclass(slots=True)
class _Page:
    lines: dict[tuple[str, str], _Line] = field(default_factory=dict)
    left_out: int = 0


class FindingBook:
    """Every line of every key."""

    def __init__(self) -> None:
        self._pages: dict[BookKey, _Page] = {}

    @property
    def keys(self) -> list[BookKey]:
        return list(self._pages)

    @property
    def left_out(self) -> int:
        """Observations not kept, because their key has `LINES` lines already."""
        return sum(page.left_out for page in self._pages.values())

    def see(
        self,
        key: BookKey,
        window: str,
        window_start: str,
        window_end: str,
        observations: Iterable[Observation],
    ) -> list[Finding]:
        """Take in what was observed in a window, for the first time or again.

        Observations of that window that are not among these stay as they were: judges come at
        their own times, those of late labels long after the others.

        Args:
            window_start, window_end: RFC 3339 as `proa.http.clock.rfc3339` writes it.

        Returns:
            the findings that are new or changed, whole.
        """
        page = self._pages.setdefault(key, _Page())
        changed: list[Finding] = []
        for seen in observations:
            place = (seen.type, seen.subject)
            line = page.lines.get(place)
            if line is None:
                if len(page.lines) >= LINES:
                    page.left_out += 1
                    continue
                line = _Line()
            after = _with(line, _Entry(window_start, window_end, window, seen), seen.type)
            changed += _changes(key, place, line, after)
            page.lines[place] = after
        return changed

    def end(self, key: BookKey, moment: str) -> list[Finding]:
        """The release serves no more: what is open closes at `moment`, never before it was seen.

        Returns:
            the changed findings.
        """
        changed: list[Finding] = []
        page = self._pages.get(key, _Page())
        for place, line in page.lines.items():
            run = _run_of(line, place[0])
            if run.count:
                gone = max(moment, run.seen)  # a week ends after the day that was its last
                after = _with(line, _Entry(gone, gone, GONE, None), place[0])
                changed += _changes(key, place, line, after)
                page.lines[place] = after
        return changed

    def findings(self, key: BookKey) -> list[Finding]:
        """The open findings of a key, and those closed within the look-back."""
        page = self._pages.get(key, _Page())
        return [
            finding
            for place, line in page.lines.items()
            for finding in _findings(key, place, line).values()
        ]

    def to_bytes(self, key: BookKey) -> bytes:
        """What is known of a key, for `restore`."""
        page = self._pages.get(key, _Page())
        lines = [[*place, *_line_json(line)] for place, line in page.lines.items()]
        value = {"schema_version": SCHEMA_VERSION, "left_out": page.left_out, "lines": lines}
        return zlib.compress(orjson.dumps(value, default=str, option=_LENIENT), 1)

    def restore(self, key: BookKey, data: bytes | None) -> None:
        """Put a key back to what `to_bytes` wrote; None forgets it.

        Raises:
            InvalidInput: other bytes, or another version.
        """
        if data is None:
            self._pages.pop(key, None)
            return
        try:
            value = orjson.loads(zlib.decompress(data))
            if value["schema_version"] != SCHEMA_VERSION:
                raise InvalidInput(
                    f"a page of findings of version {value['schema_version']!r}: "
                    f"expected {SCHEMA_VERSION}"
                )
            lines = {(kind, subject): _line_of(rest) for kind, subject, *rest in value["lines"]}
            self._pages[key] = _Page(lines, value["left_out"])
        except (zlib.error, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"not a page of findings: {error!r}") from error


def finding_id(key: BookKey, place: tuple[str, str], since: str) -> str:
    """16 hex digits from what a finding is of and when it began."""
    named = (key.model, key.release, key.track, key.scale, *place, since)
    return hashlib.sha256("\0".join(named).encode()).hexdigest()[:16]


def _with(line: _Line, entry: _Entry, kind: str) -> _Line:
    """The line with one more window, or with one of its windows replaced."""
    if entry.start <= line.through and line.through:
        return line  # older than what can be taken back
    # An end may begin where the newest window does: it lies behind it.
    kept = [one for one in line.recent if (one.start, one.window) != (entry.start, entry.window)]
    holds = None if entry.window == GONE or entry.seen is None else entry.seen.holds
    if holds or holds is False or entry.window == GONE:
        kept.append(entry if holds else entry._replace(seen=None))
        kept.sort(key=lambda one: (one.start, one.window == GONE, one.window))
    run, through = line.run, line.through
    while len(kept) > LOOK_BACK:
        oldest = kept.pop(0)
        run, through = _step(run, oldest), oldest.start
    return _Line(run, through, tuple(kept))


def _step(run: _Run, entry: _Entry) -> _Run:
    if entry.seen is None:
        return _Run()
    since = run.since if run.count else entry.start
    return _Run(run.count + 1, since, entry.end, entry.window, entry.seen)


def _run_of(line: _Line, kind: str) -> _Run:
    run = line.run
    for entry in line.recent:
        run = _step(run, entry)
    return run


def _findings(key: BookKey, place: tuple[str, str], line: _Line) -> dict[str, Finding]:
    """The finding open at the line's sum, and every one of its recent windows; by id."""
    patience = PATIENCE.get(place[0], 1)
    found: dict[str, Finding] = {}
    run = line.run
    for entry in (None, *line.recent):
        if entry is not None:
            if entry.seen is None and run.count >= patience:
                gone = _finding(key, place, run, entry.end)
                found[gone.id] = gone
            run = _step(run, entry)
        if run.count >= patience:
            finding = _finding(key, place, run, None)
            found[finding.id] = finding
    return found


def _changes(key: BookKey, place: tuple[str, str], before: _Line, after: _Line) -> list[Finding]:
    old, new = _findings(key, place, before), _findings(key, place, after)
    changed = [finding for name, finding in new.items() if old.get(name) != finding]
    # One that was folded away stays as it is; one that late events took back closes at once.
    for name, finding in old.items():
        if name not in new and finding.since > after.through:
            evidence = {**finding.evidence, "taken_back": True}
            changed.append(replace(finding, until=finding.seen, evidence=evidence))
    return changed


def _finding(key: BookKey, place: tuple[str, str], run: _Run, until: str | None) -> Finding:
    seen = run.observation
    assert seen is not None
    return Finding(
        id=finding_id(key, place, run.since),
        model=key.model,
        kind=key.kind,
        release=key.release,
        track=key.track,
        type=place[0],
        subject=place[1],
        window=run.window,
        since=run.since,
        seen=run.seen,
        until=until,
        windows=run.count,
        severity=seen.severity,
        effect=_known(seen.effect),
        limit=_known(seen.limit),
        unit=seen.unit,
        message=seen.message,
        evidence=seen.evidence,
    )


def _known(number: float | None) -> float | None:
    """JSON has no NaN, and NaN is not equal to itself."""
    return None if number is None or not math.isfinite(number) else float(number)


_Json = list[Any]


def _line_json(line: _Line) -> _Json:
    run = line.run
    return [
        [run.count, run.since, run.seen, run.window, _observation_json(run.observation)],
        line.through,
        [[*entry[:3], _observation_json(entry.seen)] for entry in line.recent],
    ]


def _line_of(value: _Json) -> _Line:
    run, through, recent = value
    return _Line(
        _Run(run[0], run[1], run[2], run[3], _observation_of(run[4])),
        through,
        tuple(_Entry(e[0], e[1], e[2], _observation_of(e[3])) for e in recent),
    )


def _observation_json(seen: Observation | None) -> Mapping[str, Any] | None:
    return None if seen is None else asdict(seen)


def _observation_of(value: Mapping[str, Any] | None) -> Observation | None:
    return None if value is None else Observation(**value)
