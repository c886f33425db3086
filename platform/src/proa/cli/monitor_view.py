"""The monitor's views drawn for a terminal; what nobody knows is said in words, never 0."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from proa.cli.output import plain

__all__ = ["fleet_lines", "model_lines"]

View = Mapping[str, Any]

UNKNOWN: Final = "not enough data"
_SIGNS: Final = {
    "critical": ("◆", "red", "critical"),
    "warning": ("●", "yellow", "warning"),
    "info": ("●", "blue", "note"),
    "quiet": ("●", "green", "quiet"),
    "unknown": ("○", "dim", "too little data"),
    "unwatched": ("○", "dim", "not watched"),
}
_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_LINE: Final = 20
_BAR: Final = 24
_NAMES: Final = {
    "auc": "AUC",
    "roc_auc": "ROC AUC",
    "brier": "Brier score",
    "ece": "ECE",
    "mae": "MAE",
    "rmse": "RMSE",
}


def fleet_lines(view: View, width: int) -> Iterator[RenderableType]:
    """One row per model, those that need a look first.

    Args:
        width: in characters; in a narrow terminal there are fewer columns.
    """
    if not view["models"]:
        yield Text("no event has come yet")
        return
    columns = [one for one in _FLEET if one.least <= width]
    table = _table(*((one.name.format(**view), one.justify) for one in columns))
    for row in view["models"]:
        table.add_row(*(one.cell(row, view) for one in columns))
    yield table
    yield from (Text(plain(note), "dim") for note in view["notes"])


def model_lines(view: View) -> Iterator[RenderableType]:
    """One model, from how it is to how it came to this."""
    head = Text(plain(view["name"]), "bold")
    yield head.append(f"  {view['kind']}", "dim")
    yield _sign(view["health"]["state"]).append(f"  {plain(view['health']['reason'])}", "default")
    yield from _figures(view)
    yield from _findings(view["findings"])
    yield from _window(view["detail"])
    yield from _slices(view["slices"])
    yield from _topics((view.get("language") or {}).get("topics") or ())
    yield from _story(view["story"])
    yield from (Text(plain(note), "dim") for note in view["notes"])


def _figures(view: View) -> Iterator[RenderableType]:
    now, series = view["now"], view["series"]
    table = _table(("", "left"), ("", "right"), ("", "left"), ("", "left"))
    if (traffic := now["traffic"]) is not None:
        said = f"{_errors(traffic)} errors, half within {_seconds(traffic['p50_seconds'])}"
        table.add_row(
            f"calls, {traffic['window']}", f"{traffic['calls']:,}", _sparks(series["calls"]), said
        )
    if (drift := now["drift"]) is not None:
        note = Text(plain(drift["subject"] or drift["note"]))
        table.add_row("drift", _drift(drift), _sparks(series["drift"]), note)
    for metric in (view["quality"] or {}).get("metrics", ()):
        known = [point for point in metric["points"] if point["value"] is not None]
        if known:
            last = known[-1]
            said = f"{_range(last)}, {last['source']}, {last['n']:,} rows until {last['window']}"
            values = [point["value"] for point in known]
            name = _NAMES.get(metric["metric"], metric["metric"].replace("_", " "))
            table.add_row(
                name, _measured(last["value"], metric["unit"]), _sparks(values, zero=False), said
            )
    if now["quality"] is None:
        table.add_row("quality", UNKNOWN, "", "no labels yet")
    table.add_row("cost, 30 days", _money(now["cost"], view["currency"]), "", "")
    serving = next((one for one in view["releases"] if one["current"]), None)
    if serving is not None:
        table.add_row(
            "release", Text(plain(serving["short"])), "", f"since {_day(serving['first'])}"
        )
    yield from (Text(), table)


def _findings(findings: Sequence[View]) -> Iterator[RenderableType]:
    still = [finding for finding in findings if finding["until"] is None]
    yield Text()
    yield Text(f"{len(still)} open finding{'' if len(still) == 1 else 's'}", "bold")
    table = _table(("", "left"), ("", "left"), ("", "right"), ("", "left"), ("", "left"))
    for finding in still:
        about = plain(f"{finding['type'].replace('_', ' ')} {finding['subject']}".strip())
        effect = "" if finding["effect"] is None else _measured(finding["effect"], finding["unit"])
        sign, style, _ = _SIGNS[finding["severity"]]
        since = f"since {_day(finding['since'])}"
        number = Text(plain(finding["id"]), "dim")  # for `monitor report --finding`
        message = Text(plain(finding["message"]))
        table.add_row(Text(f"{sign} {about}", style), since, effect, number, message)
    if still:
        yield table


def _window(detail: View) -> Iterator[RenderableType]:
    yield Text()
    title = Text(f"{detail['window']}", "bold")
    release = plain(detail["release"]).partition("@")[0]
    rows = f"{detail['rows']:,} rows against the reference of {release}"
    yield title.append(f"  {rows}", "dim")
    if not detail["features"]:
        yield Text(plain(detail["note"] or "not watched"), "dim")
        return
    table = _table(("", "left"), ("", "left"), ("", "right"))
    for feature in detail["features"][:12]:
        ratio = feature["ratio"]
        bar = Text("" if ratio is None else _bar(ratio), "red" if (ratio or 0) > 1 else "blue")
        figure = UNKNOWN if ratio is None else f"{ratio:.2f} ×"
        table.add_row(Text(plain(feature["name"])[:40]), bar, figure)
    yield table
    more = len(detail["features"]) - 12
    yield Text(f"× what is ordinary{f'; and {more} more' if more > 0 else ''}", "dim")


def _slices(slices: Sequence[View]) -> Iterator[RenderableType]:
    if not slices:
        return
    yield from (Text(), Text("worst slices", "bold"))
    table = _table(("", "left"), ("", "left"), ("", "right"), ("", "left"), ("", "right"))
    for row in slices[:6]:
        name, metric = Text(plain(row["slice"])[:40]), _NAMES.get(row["metric"], row["metric"])
        table.add_row(name, metric, _measured(row["value"], ""), _range(row), f"{row['n']:,} rows")
    yield table


def _topics(topics: Sequence[View]) -> Iterator[RenderableType]:
    if not topics:
        return
    yield from (Text(), Text("topics", "bold"))
    table = _table(("", "left"), ("", "right"), ("", "left"))
    for row in sorted(topics, key=lambda one: -abs((one["now"] or 0) - (one["then"] or 0)))[:6]:
        name = Text(plain(row["name"])[:60], "red" if row["holds"] else "")
        table.add_row(name, _share(row["now"]), f"was {_share(row['then'])}")
    yield table


def _story(story: Sequence[View]) -> Iterator[RenderableType]:
    if not story:
        return
    yield from (Text(), Text("how it came to this", "bold"))
    table = _table(("", "left"), ("", "left"))
    for item in story[:10]:
        line = Text(plain(item["title"]))
        if item["text"]:
            line.append(f"  {plain(item['text'])}", "dim")
        if item["who"]:
            line.append(f"  by {plain(item['who'])}", "dim")
        table.add_row(Text(_day(item["time"]), "dim"), line)
    yield table


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the fleet, in terminals of at least `least` characters."""

    name: str
    justify: str
    least: int
    cell: Callable[[View, View], Text | str]


def _release(row: View, _: View) -> str:
    champion = row["releases"]["champion"]
    return "-" if champion is None else plain(champion["short"].rpartition("/")[2])


def _calls(row: View, _: View) -> str:
    return UNKNOWN if row["traffic"] is None else f"{row['traffic']['calls']:,}"


_FLEET: Final = (
    _Column("model", "left", 0, lambda row, _: Text(_cut(row["name"], 36), "bold")),
    _Column("release", "right", 110, _release),
    _Column("health", "left", 0, lambda row, _: _sign(row["health"]["state"])),
    _Column("calls/{window}", "right", 0, _calls),
    _Column("errors", "right", 110, lambda row, _: _errors(row["traffic"])),
    _Column("drift", "right", 0, lambda row, _: _drift(row["drift"])),
    _Column("", "left", 130, lambda row, _: Text(_sparks(row["series"]["drift"]), "dim")),
    _Column("quality", "left", 0, lambda row, _: _quality(row["quality"])),
    _Column("cost, 30 d", "right", 95, lambda row, view: _money(row["cost"], view["currency"])),
    _Column("why", "left", 175, lambda row, _: Text(plain(row["health"]["reason"]), "dim")),
)


def _cut(name: str, most: int) -> str:
    text = plain(name)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _table(*columns: tuple[str, str]) -> Table:
    named = any(name for name, _ in columns)
    table = Table(box=None, show_header=named, header_style="bold", pad_edge=False)
    for place, (name, justify) in enumerate(columns):
        last = place + 1 == len(columns)
        table.add_column(name, justify=justify, no_wrap=not last, overflow="fold")  # type: ignore[arg-type]
    return table


def _sign(state: str) -> Text:
    sign, style, word = _SIGNS.get(state, _SIGNS["unknown"])
    return Text(f"{sign} {word}", style)


def _errors(traffic: View | None) -> str:
    if traffic is None or not traffic["calls"]:
        return "-"
    return _share(traffic["errors"] / traffic["calls"])


def _drift(drift: View | None) -> Text:
    if drift is None or drift["figure"] is None:
        return Text("not watched" if drift and drift["state"] == "not watched" else UNKNOWN, "dim")
    return Text(f"{drift['figure']:.2f} ×", "red" if drift["state"] == "drift" else "")


def _quality(quality: View | None) -> Text:
    if quality is None or quality["value"] is None:
        return Text(UNKNOWN, "dim")
    sign = "≈ " if quality["source"] == "estimated" else ""
    name = _NAMES.get(quality["metric"], quality["metric"].replace("_", " "))
    return Text(f"{sign}{_measured(quality['value'], quality['unit'])} {name}")


def _money(cost: View | None, currency: str) -> str:
    if cost is None:
        return "none billed"
    amount = cost["micro"] / 1e6
    return f"{amount:,.2f} {currency}" if amount >= 1 or not amount else f"{amount:.3g} {currency}"


def _measured(value: float | None, unit: str) -> str:
    if value is None:
        return UNKNOWN
    if unit == "share":
        return _share(value)
    if unit == "seconds":
        return _seconds(value)
    number = f"{value:.3f}" if abs(value) < 1 else f"{value:,.4g}"
    return number if unit in ("", "ratio") else f"{number} {unit}"


def _share(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    if 0 < value < 0.001:
        return "<0.1 %"
    return f"{100 * value:.1f} %" if 0 < value < 0.1 else f"{100 * value:.0f} %"


def _seconds(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{1000 * value:.3g} ms" if value < 1 else f"{value:,.3g} s"


def _range(row: View) -> str:
    if row["low"] is None or row["high"] is None:
        return "no interval"
    return f"{row['low']:.3f} … {row['high']:.3f}"


def _day(time: str) -> str:
    return time[:10] if time[11:19] in ("", "00:00:00") else time[:16].replace("T", " ")


def _bar(ratio: float) -> str:
    """A bar on which 12 blocks are what is ordinary; one that goes on ends in an arrow."""
    size = round(ratio * _BAR / 2)
    return "█" * size if size <= _BAR else "█" * (_BAR - 1) + "▶"


def _sparks(values: Iterable[float | None], *, zero: bool = True) -> str:
    """The newest values as blocks; a dot where nothing is known."""
    shown = list(values)[-_LINE:]
    known = [value for value in shown if value is not None]
    if not known:
        return ""
    low, high = (0.0 if zero else min(known)), max(known)
    step = (high - low) / (len(_BLOCKS) - 1) or 1.0
    return "".join("·" if v is None else _BLOCKS[round((v - low) / step)] for v in shown)
