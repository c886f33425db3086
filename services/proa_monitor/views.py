"""What the page and `proa monitor show` say: the fleet, and one model, as JSON.

Nothing here is judged anew: windows, findings, figures of quality, the bill and the journal are put
side by side. What nobody knows is null and said in words, never 0. `GET /v1/view/*`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

from proa.errors import NotFound, ProaError
from proa.findings.finding import Finding
from proa.http.clock import rfc3339
from proa_monitor.bill import Bill, Bills
from proa_monitor.decisions import Decisions
from proa_monitor.examples import examples_of
from proa_monitor.language_view import language_view
from proa_monitor.monitor import Monitor
from proa_monitor.qualities import Qualities, newest_point
from proa_monitor.story import marks_of, story_of
from proa_monitor.traffic import Traffic
from proa_monitor.window_view import Look, detail_of, look_at
from proa_monitor.windows import Track

__all__ = ["Views", "served_in"]

SCHEMA_VERSION: Final = 1
_FLEET_WINDOWS: Final = 30
_MODEL_WINDOWS: Final = 120
_BEFORE: Final = 7
"""Windows before one that its language is compared with."""
_FINDINGS: Final = 100


@dataclass(slots=True)
class Views:
    """Puts together what the parts of the monitor know."""

    monitor: Monitor
    bills: Bills
    qualities: Qualities
    decisions: Decisions

    async def fleet(self) -> dict[str, Any]:
        """Every model of both kinds, those with open findings first."""
        bill = await self.bills.newest()
        times = {track.key.model: "" for track in self.monitor.windows}
        times = {name: self._now(self.monitor.windows.of_model(name)) for name in sorted(times)}
        qualities = await self.qualities.of(times)
        models = []
        for name in times:
            models.append(self._fleet_row(name, bill, qualities[name]))
            await asyncio.sleep(0)  # events come in between
        models.sort(key=lambda row: (_GRAVITY.index(row["health"]["state"]), row["name"]))
        return self._head(bill) | {"models": models}

    async def model(
        self,
        name: str,
        *,
        window: str | None = None,
        release: str | None = None,
        track: str | None = None,
        protected: bool = False,
    ) -> dict[str, Any]:
        """One model.

        Args:
            window, release, track: what is shown in detail; by default the newest window of the
                champion. `release` is whole or `name/version`.
            protected: whether figures by group of a protected attribute may be shown.

        Raises:
            NotFound: no event of the model, the release or the window has come.
        """
        tracks, chosen, shown = self._asked(name, window, release, track)
        bill = await self.bills.newest()
        lines, notes = await asyncio.to_thread(self.decisions.of, name)
        findings = await asyncio.to_thread(self._findings, name)
        quality = await self.qualities.view(
            name,
            self._now(tracks),
            protected=protected,
            release=chosen.key.release,
            track=chosen.key.track,
        )
        talk = await self._language(chosen, shown)
        head, now = self._head(bill), self.monitor.clock.now()
        seen = self.monitor.judged.of(chosen.key, shown)
        return head | {
            "name": name,
            "kind": chosen.kind,
            "notes": [*head["notes"], *notes],
            "health": _health(findings, tracks, self._look),
            "releases": [_release(one, tracks) for one in tracks],
            "now": _now(name, tracks, bill, quality, self._look),
            "series": _series(tracks, _MODEL_WINDOWS, self._look),
            "marks": marks_of(tracks, lines),
            "findings": [_wire(finding, protected) for finding in findings],
            "detail": detail_of(chosen, shown, now, seen),
            **quality,
            "language": talk,
            "judging": await asyncio.to_thread(self._judging, name, chosen.kind),
            "story": story_of(findings, tracks, lines),
        }

    async def examples(
        self,
        name: str,
        *,
        window: str | None,
        release: str | None,
        track: str | None,
        feature: str | None,
    ) -> dict[str, Any]:
        """Some calls of a window of one model; see `model` for the arguments."""
        _, chosen, shown = self._asked(name, window, release, track)
        return await asyncio.to_thread(examples_of, self.monitor.store, chosen, shown, feature)

    def _asked(
        self, name: str, window: str | None, release: str | None, place: str | None
    ) -> tuple[list[Track], Track, str]:
        """All tracks of a model, the one asked for, and the name of its window."""
        tracks = self.monitor.windows.of_model(name)
        if not tracks:
            raise NotFound(f"no event of the model {name!r:.80} has come", code="unknown_model")
        # A judgement of several windows is named `2013-04-01/P7D`: its first one is shown.
        wanted = None if window is None else window.partition("/")[0]
        chosen = _chosen(tracks, release, place)
        if wanted is not None and release is None and place is None:
            chosen = served_in(tracks, wanted) or chosen
        shown = wanted or chosen.newest
        if shown is None or shown not in chosen.windows:
            held = ", ".join(sorted(chosen.windows)[-5:]) or "none"
            raise NotFound(
                f"{chosen.key.release} has no window {shown!r:.40}; the newest are: {held}",
                param="window",
            )
        return tracks, chosen, shown

    async def _language(self, track: Track, window: str) -> dict[str, Any] | None:
        """Topics and signals of a language model's window; None for a classic one."""
        reference = track.reference
        if track.windows[window].parts.language is None:
            return None
        before = sorted(name for name in track.windows if name < window)[-_BEFORE:]
        states = [
            (name, state)
            for name in (*before, window)
            if (state := track.windows[name].still(reference).language) is not None
        ]
        return await asyncio.to_thread(
            language_view, reference.language, states[-1][1], states[:-1]
        )

    def _judging(self, model: str, kind: str) -> dict[str, Any] | None:
        """The sampled judge of a language model, and how far it agrees with people."""
        if kind != "llm":
            return None
        judging = self.monitor.judging
        view = None if judging is None else judging.view(model)
        try:
            found = self.monitor.opinions.agreement(model)
        except ProaError:
            found = None
        if view is None and not (found and found.scored):
            return None
        known = found is not None and found.scored > 0
        return {
            **(view or {"share": None, "judged": None, "good": None}),
            "agreement": found.accuracy if found is not None and known else None,
            "kappa": found.kappa if found is not None and known else None,
            "n": found.scored if found is not None else 0,
        }

    def _look(self, track: Track, window: str) -> Look:
        return look_at(track, window, self.monitor.judged.of(track.key, window))

    def _head(self, bill: Bill) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "time": rfc3339(self.monitor.clock.now()),
            "window": self.monitor.windows.length,
            "currency": self.bills.currency,
            "cost_since": bill.since,
            "notes": [bill.note] if bill.note else [],
        }

    def _fleet_row(self, name: str, bill: Bill, quality: Mapping[str, Any]) -> dict[str, Any]:
        tracks = self.monitor.windows.of_model(name)
        findings = self.monitor.findings.open(name)
        series = _series(tracks, _FLEET_WINDOWS, self._look)
        points = _points(quality)
        return {
            "name": name,
            "kind": tracks[0].kind,
            "health": _health(findings, tracks, self._look),
            "releases": {
                "champion": _place(tracks, ("champion", "")),
                "challenger": _place(tracks, ("challenger",)),
            },
            **_now(name, tracks, bill, quality, self._look),
            "findings": {
                severity: sum(finding.severity == severity for finding in findings)
                for severity in ("critical", "warning", "info")
            },
            "series": series
            | {
                "marks": marks_of(tracks, ()),
                "quality": [points.get(window[:10]) for window in series["windows"]],
            },
        }

    def _findings(self, model: str) -> list[Finding]:
        """Open ones first, the newest first."""
        found, _ = self.monitor.findings.find(model, limit=_FINDINGS)
        known = {finding.id for finding in found}
        old = [finding for finding in self.monitor.findings.open(model) if finding.id not in known]
        return sorted([*found, *old], key=_rank)

    def _now(self, tracks: Sequence[Track]) -> str:
        """The newest event time of a model, at which its quality is looked at."""
        return max((track.total.last for track in tracks), default="") or rfc3339(
            self.monitor.clock.now()
        )


_Looks = Callable[[Track, str], Look]
_GRAVITY: Final = ("critical", "warning", "info", "unknown", "quiet", "unwatched")


def _rank(finding: Finding) -> int:
    return _GRAVITY.index(finding.severity) if finding.open else len(_GRAVITY)


def _health(findings: Sequence[Finding], tracks: Sequence[Track], look: _Looks) -> dict[str, Any]:
    """The gravest open finding, else what the newest window says."""
    grave = [f for f in findings if f.open]
    for severity in ("critical", "warning", "info"):
        these = [finding for finding in grave if finding.severity == severity]
        if these:
            more = f", and {len(grave) - 1} more" if len(grave) > 1 else ""
            return {"state": severity, "reason": these[0].message + more}
    track = _serving(tracks)
    seen = look(track, track.newest) if track.newest else None
    if seen is None or seen.state == "not watched":
        return {"state": "unwatched", "reason": seen.note if seen else "no window is held"}
    if seen.state == "not enough data":
        return {"state": "unknown", "reason": seen.note}
    if seen.state == "drift":
        return {"state": "info", "reason": f"{seen.note}; not for long enough to be a finding"}
    return {"state": "quiet", "reason": "nothing lasting was found"}


def _serving(tracks: Sequence[Track]) -> Track:
    """The champion that answered last; without one, whatever did."""
    champions = [track for track in tracks if track.key.track in ("champion", "")]
    return (champions or list(tracks))[0]


def served_in(tracks: Sequence[Track], window: str) -> Track | None:
    """Whose window that is where no release is named: the champion's that answered most in it."""
    there = [track for track in tracks if window in track.windows]
    champions = [track for track in there if track.key.track in ("champion", "")]
    best = champions or there
    return max(best, key=lambda track: track.windows[window].traffic.calls, default=None)


def _chosen(tracks: Sequence[Track], release: str | None, place: str | None) -> Track:
    if release is None and place is None:
        return _serving(tracks)
    for track in tracks:
        whole, short = track.key.release, track.key.release.partition("@")[0]
        if release in (None, whole, short) and place in (None, track.key.track):
            return track
    raise NotFound(
        f"no event of {release or 'any release'} as {place or 'any track'} has come",
        code="unknown_release",
    )


def _place(tracks: Sequence[Track], names: tuple[str, ...]) -> dict[str, Any] | None:
    for track in tracks:
        if track.key.track in names:
            whole = track.key.release
            return {
                "release": whole,
                "short": whole.partition("@")[0],
                "since": track.total.first or None,
            }
    return None


def _release(track: Track, tracks: Sequence[Track]) -> dict[str, Any]:
    short, _, digest = track.key.release.partition("@")
    return {
        "release": track.key.release,
        "short": short,
        "digest": digest,
        "track": track.key.track or None,
        "first": track.total.first or None,
        "last": track.total.last or None,
        "calls": track.total.calls,
        "errors": track.total.errors,
        "watched": track.reference.profile is not None,
        "note": track.reference.note,
        "current": track is _serving(tracks),
    }


def _points(quality: Mapping[str, Any]) -> dict[str, float | None]:
    """Day to figure of the first metric; what was measured goes before what was estimated."""
    metrics = (quality["quality"] or {}).get("metrics", ())
    points = metrics[0]["points"] if metrics else ()
    ordered = sorted(points, key=lambda point: str(point["source"]))
    return {point["window"]: point["value"] for point in ordered}


def _wire(finding: Finding, protected: bool) -> dict[str, Any]:
    """A finding; evidence of fairness only for who may see groups."""
    hidden: dict[str, Any] = {} if protected or finding.type != "fairness" else {"evidence": {}}
    return finding.to_wire() | hidden


def _now(
    name: str,
    tracks: Sequence[Track],
    bill: Bill,
    quality: Mapping[str, Any],
    look: _Looks,
) -> dict[str, Any]:
    """The newest window in figures."""
    newest = max((track.newest for track in tracks if track.newest), default=None)
    serving = _serving(tracks)
    drift = None
    if serving.newest is not None:
        drift = {"window": serving.newest, **look(serving, serving.newest).to_json()}
    cost = bill.models.get(name)
    return {
        "traffic": None if newest is None else {"window": newest, **_merged(tracks, newest)},
        "drift": drift,
        "quality": newest_point(quality),
        "cost": None
        if cost is None
        else {
            "micro": cost.cost_micro,
            "calls": cost.calls,
            "tokens_in": cost.tokens_in,
            "tokens_out": cost.tokens_out,
        },
    }


def _merged(tracks: Sequence[Track], window: str) -> dict[str, Any]:
    total = _traffic(tracks, window)
    return {
        "calls": total.calls,
        "errors": total.errors,
        "refused": total.refused,
        "tokens_in": total.tokens_in,
        "tokens_out": total.tokens_out,
        "p50_seconds": total.quantile(0.5),
        "p99_seconds": total.quantile(0.99),
        "last": total.last or None,
    }


def _traffic(tracks: Sequence[Track], window: str) -> Traffic:
    parts = [track.windows[window].traffic for track in tracks if window in track.windows]
    return parts[0] if len(parts) == 1 else reduce(Traffic.merge, parts, Traffic())


def _series(tracks: Sequence[Track], most: int, look: _Looks) -> dict[str, Any]:
    """Figures per window, the oldest first; drift is that of the release with most calls."""
    names = sorted({name for track in tracks for name in track.windows})[-most:]
    rows = []
    for name in names:
        there = [track for track in tracks if name in track.windows]
        main = max(there, key=lambda track: track.windows[name].traffic.calls)
        seen = look(main, name)
        rows.append(
            _merged(there, name)
            | {
                "drift": seen.figure,
                "state": seen.state,
                "release": main.key.release.partition("@")[0],
            }
        )
    columns = (
        *("calls", "errors", "refused", "tokens_out", "p50_seconds", "p99_seconds"),
        *("drift", "state", "release"),
    )
    return {"windows": names} | {column: [row[column] for row in rows] for column in columns}
