"""`report.html`: the story for people, one file, plots inside, light and dark, offline."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from proa.release.reference import ReleaseRef
from story.telling import Told

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --good: #2a7f4f; --bad: #b3372f; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td:last-child { overflow-wrap: anywhere; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; background: #fff; border-radius: .4rem; padding: .5rem; }
figure svg { width: 100%; height: auto; } .good { color: var(--good); } .bad { color: var(--bad); }
code { font-size: .88em; background: var(--soft); padding: .05em .3em; border-radius: .2em; }
"""
_COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0")


def write_report(told: Sequence[Told], seconds: float, path: Path) -> None:
    """Write the page; chapters that were not told are left out."""
    facts = {chapter.name: chapter.facts for chapter in told if chapter.ok}
    by_keys = {key: value for value in facts.values() for key in [_kind(value)] if key}
    parts = [
        "<h1>proa: two kinds of model, one fleet</h1>",
        (
            f"<p>Told in {seconds:.0f} seconds on this machine; every number below was measured "
            "while it was told.</p>"
        ),
        "<h2>Where the time went</h2>",
        _figure(_plot_times(told)),
    ]
    if "good" in by_keys:
        parts += ["<h2>A good change of each kind, and back again</h2>", _good(by_keys["good"])]
    if "bad" in by_keys:
        parts += ["<h2>A bad change of each kind</h2>", _bad(by_keys["bad"])]
    if "spring" in by_keys:
        parts += _spring(by_keys["spring"])
    if "summary" in by_keys:
        parts += _summary(by_keys["summary"])
    body = "\n".join(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8>"
        f"<meta name=viewport content='width=device-width'><title>proa: the story</title>"
        f"<style>{_STYLE}</style><body>{body}</body></html>"
    )


def _kind(facts: Mapping[str, Any]) -> str | None:
    if "costs" in facts:
        return "summary"
    if "replay_seconds" in facts:
        return "spring"
    models = [value for value in facts.values() if isinstance(value, Mapping)]
    if any("rollback_seconds" in value for value in models):
        return "good"
    return "bad" if any("exit_code" in value for value in models) else None


def _good(facts: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        (
            model,
            _short(fact["release"]),
            fact["verdict"],
            f"{fact['promote_seconds']:.1f}",
            f"{fact['rollback_traffic_seconds']:.1f}",
            f"{fact['rollback_seconds']:.1f}",
            fact["calls_meanwhile"],
            len(fact["faults"]),
        )
        for model, fact in facts.items()
    ]
    head = ("model", "release", "verdict", "promoted (s)", "traffic back (s)", "whole back (s)")
    table = _table((*head, "calls meanwhile", "faults"), rows)
    return table + "".join(
        f"<h3>{html.escape(model)}</h3>"
        + _figure(_plot_traffic(fact["timeline"]))
        + "<p>Changed: "
        + ", ".join(f"<code>{html.escape(key)}</code>" for key in fact["changed"][:12])
        + "</p>"
        for model, fact in facts.items()
    )


def _bad(facts: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        (model, _short(fact["release"]), fact["verdict"], fact["exit_code"], fact["said"])
        for model, fact in facts.items()
    ]
    return _table(("model", "release", "verdict", "exit code of promote", "it said"), rows)


def _spring(facts: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            which,
            found["rows"],
            f"{found['said']:.3f}",
            f"{found['true']:.3f}",
            f"{found['gap']:+.3f}",
        )
        for which, found in facts["calibration"].items()
        if found and found["rows"]
    ]
    findings = [
        (found["since"][:10], (found["until"] or "")[:10], found["type"], found["subject"],
         found["message"])
        for found in facts["findings"]
    ]  # fmt: skip
    columns = ("release", "flights", "said", "came true", "gap")
    return [
        "<h2>April to June: the world changes</h2>",
        (
            f"<p>{facts['flights']:,} flights of {facts['days']} days asked for in "
            f"{facts['calls']:,} calls within {facts['replay_seconds']:.0f} seconds, "
            f"{facts['labels']:,} outcomes hours or days later. Nobody asked for what follows.</p>"
        ),
        _figure(_plot_calibration(facts["by_day"])),
        _table(columns, rows),
        "<h3>What the monitor found</h3>",
        _table(("since", "until", "type", "of", "what"), findings),
        "<h3>What came of it</h3>",
        _table(("action", "reason"), facts["journal"]),
    ]


def _summary(facts: Mapping[str, Any]) -> list[str]:
    releases = [
        (model, item["release"], item["verdict"] or "", ", ".join(item["aliases"]))
        for model, items in facts["releases"].items()
        for item in items
    ]
    costs = [
        (
            line["key"] or "",
            line["calls"],
            line["engine_calls"],
            line["tokens_in"],
            line["tokens_out"],
            f"{line['cost_micro'] / 1e6:.6f}",
        )
        for line in facts["costs"]["feature"]
    ]
    columns = ("feature", "calls", "engine calls", "tokens in", "tokens out", "cost (USD)")
    journal = [
        (time[11:19], action, _short(release), reason)
        for time, action, release, reason in facts["journal"]
    ]
    missing = sum(facts["events_missing"].values())
    return [
        "<h2>Releases</h2>",
        _table(("model", "release", "verdict", "aliases"), releases),
        "<h2>One bill</h2>",
        _table(columns, costs),
        (
            f"<p>{facts['calls']} calls; answered calls without an event: "
            f"<b class={'bad' if missing else 'good'}>{missing}</b>.</p>"
        ),
        "<h2>The journal</h2>",
        _table(("UTC", "action", "release", "reason"), journal),
    ]


def _plot_times(told: Sequence[Told]) -> str:
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(9, 0.45 * len(told) + 0.8))
    axes = figure.subplots()
    names = [chapter.name for chapter in told][::-1]
    bars = axes.barh(names, [chapter.seconds for chapter in told][::-1], color=_COLOURS[0])
    axes.bar_label(bars, fmt="%.0f s", padding=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("seconds")
    return _svg(figure)


def _plot_traffic(timeline: Sequence[tuple[float, str]]) -> str:
    """Answers per second, by release: the canary's steps, the promotion, the way back."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(9, 2.6))
    axes = figure.subplots()
    if timeline:
        start = min(moment for moment, _ in timeline)
        releases = sorted({release for _, release in timeline})
        span = max(2, int(max(moment for moment, _ in timeline) - start) + 1)
        counts = {release: [0] * span for release in releases}
        for moment, release in timeline:
            counts[release][int(moment - start)] += 1
        axes.stackplot(
            range(span),
            list(counts.values()),
            labels=[_short(release) for release in releases],
            colors=_COLOURS[: len(releases)],
            step="mid",
        )
        axes.legend(loc="upper left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("seconds")
    axes.set_ylabel("answers per second")
    return _svg(figure)


def _plot_calibration(by_day: Sequence[tuple[str, str, int, float, float]]) -> str:
    """Mean probability and share of late flights over seven days; releases change colour."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(9, 2.8))
    axes = figure.subplots()
    days = sorted({day for day, *_ in by_day})
    places = {day: place for place, day in enumerate(days)}
    axes.plot(range(len(days)), _of_week(by_day, days, 4), color="#888", label="came true")
    for number, release in enumerate(dict.fromkeys(release for _, release, *_ in by_day)):
        mine = [row for row in by_day if row[1] == release]
        own = sorted({row[0] for row in mine})
        axes.plot(
            [places[day] for day in own],
            _of_week(mine, own, 3),
            color=_COLOURS[number % len(_COLOURS)],
            label=f"said by {_short(release)}",
        )
    ticks = range(0, len(days), 7)
    axes.set_xticks(list(ticks), [days[place][5:] for place in ticks], fontsize=8)
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylabel("late, 7 days")
    return _svg(figure)


def _of_week(
    rows: Sequence[tuple[str, str, int, float, float]], days: Sequence[str], value: int
) -> list[float]:
    """The mean of a column over the seven days up to each day, weighted by rows."""
    found = []
    for place in range(len(days)):
        week = set(days[max(0, place - 6) : place + 1])
        part = [row for row in rows if row[0] in week]
        found.append(sum(row[2] * float(row[value]) for row in part) / sum(row[2] for row in part))
    return found


def _svg(figure: Any) -> str:
    figure.tight_layout()
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _figure(svg: str) -> str:
    return f"<figure>{svg}</figure>"


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    numeric = isinstance(value, int | float)
    return f"<td{' class=n' if numeric else ''}>{html.escape(str(value))}</td>"


def _short(release: str | None) -> str:
    return "" if release is None else ReleaseRef.parse(release).short
