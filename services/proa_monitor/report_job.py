"""One Evidently report, in a process of its own: `python -m proa_monitor.report_job < spec`.

Evidently takes seconds to import and holds hundreds of megabytes; here that ends with the job.
The job reads the events itself, so nothing large passes through the monitor. It prints one JSON
object: `{"rows", "reference_rows", "left_out": {feature: why}, "seconds"}`. Asked for a finding, it
puts the features that the finding names first, and of a slice's finding takes the slice's rows.

Evidently sends usage statistics unless DO_NOT_TRACK is set (evidently/telemetry.py of 0.7.23); the
page it writes carries all of its scripts, so it opens without a network.
"""

from __future__ import annotations

import io
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from html import escape
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import orjson

from proa.errors import NotFound, ProaError, Refused
from proa.events.event import Event
from proa.profile.observed import answer_values
from proa.profile.reference import SAMPLE_NAME, Profile, WatchedFeature, parse_profile
from proa.release.bundle import BundleStore
from proa.release.reference import ReleaseRef
from proa_monitor.segments import parse_line, read_segment, segment_folders
from proa_monitor.spool import spool_files, whole_lines

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["main"]

_LEAST_ROWS: Final = 10
_FEATURES: Final = 50
"""On one page; each takes Evidently a tenth of a second and 60 kB."""
_SEED: Final = 0


def main() -> int:
    """Read the spec from stdin, write the page, print the facts."""
    os.nice(10)
    os.environ.update(DO_NOT_TRACK="1", ITERATIVE_DO_NOT_TRACK="1", MPLBACKEND="Agg")
    spec = orjson.loads(sys.stdin.buffer.read())
    try:
        result: dict[str, Any] = _report(spec)
    except ProaError as error:
        result = error.to_wire()
    sys.stdout.buffer.write(orjson.dumps(result))
    return 0


def _report(spec: Mapping[str, Any]) -> dict[str, Any]:
    start = time.perf_counter()
    profile, reference = _reference(spec)
    current = _current(spec, profile)
    reference, current = (_slice_of(spec, frame) for frame in (reference, current))
    if len(current) < _LEAST_ROWS:
        raise Refused(
            f"window {spec['window']} of {spec['release']} has {len(current)} rows: "
            f"a report needs at least {_LEAST_ROWS}",
            code="not_enough_data",
        )
    left_out = _unusable(profile, reference, current)
    kept = [f for f in _in_order(spec, profile.features) if f.name not in left_out]
    if not kept:
        raise Refused("no feature can be compared: " + _listed(left_out), code="not_enough_data")
    left_out |= {f.name: f"one of more than {_FEATURES} features" for f in kept[_FEATURES:]}
    del kept[_FEATURES:]
    left_out |= _write_page(spec, kept, reference, current)
    return {
        "rows": len(current),
        "reference_rows": len(reference),
        "left_out": left_out,
        "seconds": round(time.perf_counter() - start, 3),
    }


def _reference(spec: Mapping[str, Any]) -> tuple[Profile, pd.DataFrame]:
    import pyarrow.parquet as pq

    bundles = BundleStore.from_url(spec["bundles"])
    digest = ReleaseRef.parse(spec["release"]).digest
    path = bundles.manifest(digest).profile
    if path is None:
        raise Refused(f"{spec['release']} has no reference profile", code="not_watched")
    profile = parse_profile(bundles.read(digest, path))
    sample = str(PurePosixPath(path).with_name(SAMPLE_NAME))
    try:
        data = bundles.read(digest, sample)
    except NotFound as error:
        raise Refused(
            f"{spec['release']} has no sample of its reference ({sample})", code="not_watched"
        ) from error
    return profile, pq.read_table(io.BytesIO(data)).to_pandas()


def _current(spec: Mapping[str, Any], profile: Profile) -> pd.DataFrame:
    """A uniform sample of the window's rows (Vitter 1985, algorithm R; seeded)."""
    import pandas as pd

    chosen: list[dict[str, Any]] = []
    pick = random.Random(_SEED)
    for seen, row in enumerate(_rows(spec, profile)):
        if len(chosen) < spec["rows"]:
            chosen.append(row)
        elif (place := pick.randrange(seen + 1)) < spec["rows"]:
            chosen[place] = row
    return pd.DataFrame(chosen, columns=[feature.name for feature in profile.features])


def _rows(spec: Mapping[str, Any], profile: Profile) -> Iterator[dict[str, Any]]:
    for event in _events(Path(spec["events"]), spec):
        if profile.kind == "llm":
            yield answer_values(event)
            continue
        columns = {f.name: event[f.source].get(f.column) for f in profile.features}
        for row in range(event["rows"]):
            yield {name: values and values[row] for name, values in columns.items()}


def _events(root: Path, spec: Mapping[str, Any]) -> Iterator[Event]:
    wanted = _wanted(spec)
    segments = segment_folders(root / "segments")
    for folder in segments.values():
        yield from filter(wanted, read_segment(folder, model=spec["model"]))
    for number, path in spool_files(root / "spool").items():
        if number in segments:
            continue
        try:
            lines = [line for some in whole_lines(path) for line in some]
        except FileNotFoundError:  # it became a segment in this moment
            folder = segment_folders(root / "segments")[number]
            yield from filter(wanted, read_segment(folder, model=spec["model"]))
            continue
        yield from (e for line in lines if (e := parse_line(line)) is not None and wanted(e))


def _in_order(spec: Mapping[str, Any], features: Sequence[WatchedFeature]) -> list[WatchedFeature]:
    """Features that the finding names first: its subject, then those in its evidence."""
    finding = spec.get("finding") or {}
    named = [finding.get("subject", "").rpartition("/")[2], *_texts(finding.get("evidence"))]
    places = {name: place for place, name in reversed(list(enumerate(named)))}
    return sorted(features, key=lambda feature: places.get(feature.name, len(named)))


def _texts(value: Any) -> Iterator[str]:
    """Every key and every text of JSON, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _slice_of(spec: Mapping[str, Any], frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the slice that the finding is about (`carrier=UA`, `carrier=UA/wind`), else all."""
    subject = (spec.get("finding") or {}).get("subject", "").partition("/")[0]
    column, _, value = subject.partition("=")
    if not value or value == "(other)" or column not in frame:
        return frame
    chosen: pd.DataFrame = frame[frame[column].map(_text, na_action="ignore") == value]
    return chosen.reset_index(drop=True)


def _span(window: str) -> tuple[str, str]:
    """Start and end of a window, as times of events compare: a day, an hour, `2013-04-01/P7D`."""
    name, _, length = window.partition("/")
    if not length:
        return name, name + "\x7f"
    days = timedelta(days=int(length.strip("PD")))
    return name, (date.fromisoformat(name) + days).isoformat()


def _wanted(spec: Mapping[str, Any]) -> Callable[[Event], bool]:
    start, end = _span(spec["window"])

    def wanted(event: Event) -> bool:
        return (
            event["release"] == spec["release"]
            and start <= event["time"] < end
            and event["type"] in ("prediction", "answer")
            and event["purpose"] in ("user", "agent")
            and (spec["track"] is None or (event["track"] or "") == spec["track"])
            and event["status"] < 400
        )

    return wanted


def _unusable(profile: Profile, reference: pd.DataFrame, current: pd.DataFrame) -> dict[str, str]:
    """Bring columns into their types; name those that Evidently could not bear (all null)."""
    import pandas as pd

    left_out: dict[str, str] = {}
    for feature in profile.features:
        name = feature.name
        for side, frame in (("reference", reference), ("window", current)):
            if name not in frame:
                left_out[name] = f"not in the {side}"
                break
            column = frame[name]
            if feature.bins.type == "number":
                frame[name] = pd.to_numeric(column, errors="coerce").astype("float64")
            else:
                frame[name] = column.map(_text, na_action="ignore").astype(object)
            if frame[name].isna().all():
                left_out[name] = f"only nulls in the {side}"
                break
    return left_out


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _write_page(
    spec: Mapping[str, Any], kept: list[Any], reference: pd.DataFrame, current: pd.DataFrame
) -> dict[str, str]:
    """Run Evidently; a column it cannot take is named and left out, never the whole report."""
    names = {f.name: f.bins.type for f in kept}
    left_out: dict[str, str] = {}
    try:
        page = _run(spec, names, reference, current)
    except Exception:
        for name in list(names):
            try:
                _run(spec, {name: names[name]}, reference, current)
            except Exception as error:
                left_out[name] = f"Evidently: {type(error).__name__}: {error!s:.100}"
                del names[name]
        if not names:
            raise Refused(
                "Evidently can compare no feature: " + _listed(left_out), code="not_enough_data"
            ) from None
        page = _run(spec, names, reference, current)
    out = Path(spec["out"])
    fresh = out.with_suffix(".tmp")
    page.save_html(str(fresh))
    if spec.get("finding"):
        text = fresh.read_text(encoding="utf-8")
        fresh.write_text(_headed(text, spec), encoding="utf-8")
    fresh.replace(out)
    return left_out


def _headed(page: str, spec: Mapping[str, Any]) -> str:
    """The page with what was found above everything else."""
    finding = spec["finding"]
    title = " ".join(filter(None, (finding["type"].replace("_", " "), finding["subject"])))
    about = (
        f"{spec['release'].partition('@')[0]}, window {spec['window']}, since {finding['since']}"
    )
    inner = f"<b>{escape(title)}</b>: {escape(finding['message'])}<br>{escape(about)}"
    head = f'<div style="margin:1em;font-family:sans-serif">{inner}</div>'
    body = re.search("<body[^>]*>", page)
    place = 0 if body is None else body.end()
    return page[:place] + head + page[place:]


def _run(
    spec: Mapping[str, Any],
    names: Mapping[str, str],
    reference: pd.DataFrame,
    current: pd.DataFrame,
) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # divisions by zero inside statistics of small columns
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset, DataSummaryPreset

        definition = DataDefinition(
            numerical_columns=[name for name, kind in names.items() if kind == "number"],
            categorical_columns=[name for name, kind in names.items() if kind == "category"],
        )
        now, then = (
            Dataset.from_pandas(frame[list(names)], data_definition=definition)
            for frame in (current, reference)
        )
        metadata = {key: spec[key] for key in ("model", "release", "window")}
        columns = list(names)
        presets = [DataDriftPreset(columns=columns), DataSummaryPreset(columns=columns)]
        report = Report(presets, metadata=metadata)
        return report.run(now, then)


def _listed(left_out: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in left_out.items())[:500]


if __name__ == "__main__":
    sys.exit(main())
