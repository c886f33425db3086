"""Segments: one closed spool file each, as Parquet, for good.

    segments/date=2026-11-21/00000007/events.parquet   one row per event, sorted by model and time
                                      ids.bin          its ids, sorted
                                      meta.json        rows, ranges of time, models

The folder appears by one rename, so it is whole or absent; the spool file is deleted after that.
Keys that only some types of event have lie in `body` as JSON text; query them in DuckDB with
`body->>'$.outputs.probability[0]'`.

Writing and reading are done in child processes (`python -m proa_monitor.segments …`), so that
Arrow's memory is never held by the process that takes events.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from proa.http.clock import rfc3339
from proa_monitor.known import write_ids
from proa_monitor.spool import whole_lines

__all__ = [
    "COMMON",
    "IDS",
    "META",
    "PARQUET",
    "parse_line",
    "read_segment",
    "segment_folders",
    "write_segment",
]

PARQUET: Final = "events.parquet"
IDS: Final = "ids.bin"
META: Final = "meta.json"
SCHEMA_VERSION: Final = 1
_ROW_GROUP: Final = 10_000

COMMON: Final[dict[str, str]] = {
    "schema_version": "int16",
    "type": "string",
    "id": "string",
    "request": "string",
    "model": "string",
    "kind": "string",
    "release": "string",
    "track": "string",
    "purpose": "string",
    "team": "string",
    "feature": "string",
    "unit": "string",
    "variant": "string",
    "time": "timestamp",
    "ingested": "timestamp",
    "claimed_time": "string",
    "status": "int16",
    "latency_ms": "double",
    "trace": "string",
}
"""Columns of their own, and Arrow's types for them."""


def segment_folders(root: Path) -> dict[int, Path]:
    """Every segment's folder by its number, in order."""
    found = {int(path.name): path for path in root.glob("date=*/*") if path.name.isdigit()}
    return dict(sorted(found.items()))


def write_segment(spool: Path, root: Path) -> Path:
    """Write the segment of a closed spool file; returns its folder.

    A segment of that number that is there already is left as it is.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, keys = _readable(spool)
    date = (keys[0][3] if keys else rfc3339(datetime.now(UTC)))[:10]
    target = root / f"date={date}" / spool.stem
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = root / f".incoming-{spool.stem}-{os.getpid()}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(mode=0o700)
    keys.sort()
    schema = _schema(pa)
    with pq.ParquetWriter(staging / PARQUET, schema, compression="zstd") as writer:
        for start in range(0, len(keys), _ROW_GROUP):
            events = [orjson.loads(rows[key[4]]) for key in keys[start : start + _ROW_GROUP]]
            writer.write_table(pa.table(_columns(events, schema, pa), schema=schema))
    write_ids(staging / IDS, (key[2] for key in keys))
    (staging / META).write_bytes(orjson.dumps(_meta(keys), option=orjson.OPT_INDENT_2))
    _settle(staging, target)
    return target


def read_segment(
    folder: Path, *, columns: Sequence[str] | None = None, model: str | None = None
) -> Iterator[dict[str, Any]]:
    """The events of a segment as they were spooled, or some of their common columns.

    Args:
        columns: names of `COMMON`; None means whole events.
        model: only this model's.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(folder / PARQUET) as file:
        for batch in file.iter_batches(_ROW_GROUP // 4, columns=columns and [*columns, "model"]):
            if model is not None:
                batch = batch.filter(pc.equal(batch["model"], model))
            for row in batch.to_pylist():
                for key in ("time", "ingested"):
                    if key in row:
                        row[key] = rfc3339(row[key])
                if columns is None:
                    row |= orjson.loads(row.pop("body"))
                    if row["claimed_time"] is None:
                        del row["claimed_time"]
                yield row


def _readable(spool: Path) -> tuple[list[bytes], list[tuple[str, str, str, str, int]]]:
    """The lines, and (model, time, id, ingested, line) of every event among them."""
    rows: list[bytes] = []
    keys: list[tuple[str, str, str, str, int]] = []
    seen: set[str] = set()
    for lines in whole_lines(spool):
        for line in lines:
            event = parse_line(line)
            if event is None or event["id"] in seen:
                continue
            seen.add(event["id"])
            keys.append((event["model"], event["time"], event["id"], event["ingested"], len(rows)))
            rows.append(line)
    return rows, keys


def parse_line(line: bytes) -> dict[str, Any] | None:
    """A spooled event; None for a line that the disk damaged."""
    try:
        event = orjson.loads(line)
        return event if event["id"] and event["ingested"] else None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


def _schema(pa: Any) -> Any:
    types = {
        "string": pa.string(),
        "int16": pa.int16(),
        "double": pa.float64(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }
    fields = [(name, types[kind]) for name, kind in COMMON.items()]
    return pa.schema([*fields, ("body", pa.string())])


def _columns(events: list[dict[str, Any]], schema: Any, pa: Any) -> dict[str, Any]:
    values: dict[str, list[Any]] = {
        name: [event.pop(name, None) for event in events] for name in COMMON
    }
    for key in ("time", "ingested"):
        values[key] = [datetime.fromisoformat(text) for text in values[key]]
    values["body"] = [orjson.dumps(event).decode() for event in events]
    return {name: pa.array(column, schema.field(name).type) for name, column in values.items()}


def _meta(keys: Sequence[tuple[str, str, str, str, int]]) -> Mapping[str, Any]:
    models: dict[str, int] = {}
    for key in keys:
        models[key[0]] = models.get(key[0], 0) + 1
    return {
        "schema_version": SCHEMA_VERSION,
        "rows": len(keys),
        "models": models,
        "time": [min(k[1] for k in keys), max(k[1] for k in keys)] if keys else None,
        "ingested": [min(k[3] for k in keys), max(k[3] for k in keys)] if keys else None,
    }


def _settle(staging: Path, target: Path) -> None:
    """Make it durable, then visible: the spool file is deleted on the strength of it."""
    for path in (*staging.iterdir(), staging):
        _sync(path)
    try:
        staging.rename(target)
    except OSError:
        shutil.rmtree(staging)
        if not target.exists():
            raise
    _sync(target.parent)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def main(arguments: Sequence[str] | None = None) -> int:
    """`write SPOOL ROOT` prints the folder; `read FOLDER…` prints events, one JSON line each."""
    parser = argparse.ArgumentParser(prog="python -m proa_monitor.segments")
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write")
    write.add_argument("spool", type=Path)
    write.add_argument("root", type=Path)
    read = commands.add_parser("read")
    read.add_argument("folders", type=Path, nargs="+")
    read.add_argument("--columns", type=lambda text: text.split(","))
    read.add_argument("--model")
    asked = parser.parse_args(arguments)
    os.nice(10)  # whoever takes events goes first
    out = sys.stdout.buffer
    if asked.command == "write":
        out.write(str(write_segment(asked.spool, asked.root)).encode() + b"\n")
        return 0
    for folder in asked.folders:
        for event in read_segment(folder, columns=asked.columns, model=asked.model):
            out.write(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))
    return 0


if __name__ == "__main__":
    sys.exit(main())
