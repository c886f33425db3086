"""The feature store of a home: Feast with DuckDB offline and SQLite online. Imports Feast (3 s).

What Feast 0.67 leaves to its caller, and this module does:

* the default file offline store drops rows and needs gigabytes: DuckDB, rows in = rows out checked;
* a DuckDB join compares timestamps only in one unit: every time is cast to µs UTC;
* `apply` overwrites a view in place: a changed view is refused, it needs a new name (`…_v2`);
* the registry is a file, read, changed and written whole: writers take a lock;
* materializing an older window overwrites newer online rows: a view's online time never goes back,
  and what is pushed between materializations counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from proa.errors import Conflict, InvalidInput, NotFound
from proa.features.online import groups
from proa.release.manifest import Column, ColumnType, FeatureView

_CONFIG: dict[str, Any] = {
    "project": "proa",
    "provider": "local",
    # 0 = a read never refreshes the registry; the feature server does it beside the requests
    "registry": {"path": "registry.db", "cache_ttl_seconds": 0},
    "online_store": {"type": "sqlite", "path": "online.db"},
    "offline_store": {"type": "duckdb"},
    "entity_key_serialization_version": 3,
}
_TYPES: dict[str, ColumnType] = {
    "BOOL": "boolean",
    "INT32": "long",
    "INT64": "long",
    "FLOAT": "double",
    "DOUBLE": "double",
    "STRING": "string",
    "UNIX_TIMESTAMP": "datetime",
}

_PUSHED = "pushed.json"

Definitions = Callable[[Path], Sequence[Any]]
"""A project's `features.definitions`: folder of the parquet files → Feast entities and views.

A view named V reads `folder / "V.parquet"`; paths must be absolute (the DuckDB store resolves
relative ones against the working directory)."""


def prepare(folder: Path) -> None:
    """Make `folder` a feature store: configuration, data folder, online database (idempotent)."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    config = folder / "feature_store.yaml"
    if not config.exists():
        temporary = folder / f".feature_store.{os.getpid()}"
        temporary.write_text(yaml.safe_dump(_CONFIG, sort_keys=False))
        temporary.replace(config)
    with contextlib.closing(sqlite3.connect(folder / "online.db", timeout=30)) as database:
        database.execute("PRAGMA journal_mode=WAL")  # reads go on while a view is materialized


def open_store(folder: Path) -> Any:
    """Open the `feast.FeatureStore` of `folder`, made when missing."""
    os.environ.setdefault("FEAST_USAGE", "False")  # Feast asks its environment, not a parameter
    prepare(folder)
    from feast import FeatureStore

    return FeatureStore(repo_path=str(folder))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def apply(folder: Path, definitions: Definitions) -> list[str]:
    """Register entities and views; return the views' names.

    Raises:
        Conflict: a view of that name is registered with other features, keys or TTL.
    """
    store = open_store(folder)
    objects = list(definitions(folder.resolve() / "data"))
    names = []
    with _locked(folder):
        known = {view.name: view for view in store.list_feature_views()}
        for item in objects:
            if type(item).__name__ != "FeatureView":
                continue
            names.append(str(item.name))
            if item.name in known and _shape(known[item.name]) != _shape(item):
                raise Conflict(
                    f"feature view {item.name} is registered as {_shape(known[item.name])}, "
                    f"now defined as {_shape(item)}",
                    hint=f"a view is never edited: name the new one {_next_name(item.name)}",
                    code="feature_view_changed",
                )
        store.apply(objects)
    return names


def _shape(view: Any) -> dict[str, Any]:
    features = {field.name: field.dtype.to_value_type().name for field in view.features}
    return {"entities": sorted(view.entities), "features": features, "ttl": str(view.ttl)}


def _next_name(name: str) -> str:
    stem, _, number = name.rpartition("_v")
    return f"{stem}_v{int(number) + 1}" if number.isdecimal() else f"{name}_v2"


def write(folder: Path, view: str, table: pd.DataFrame) -> int:
    """Replace the offline rows of one view; return how many there are now.

    Raises:
        NotFound: the view is not registered.
        InvalidInput: a column is missing, a time or key is null, or key and time are not unique.
    """
    definition = _view(open_store(folder), view)
    source = definition.batch_source
    keys = [str(column.name) for column in definition.entity_columns]
    time = str(source.timestamp_field)
    columns = [*keys, time, *(str(field.name) for field in definition.features)]
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InvalidInput(f"feature view {view}: its table lacks {missing}", param=view)
    table = table[columns].assign(**{time: to_micros(table[time], what=f"{view}.{time}")})
    if table[[*keys, time]].isna().to_numpy().any():
        raise InvalidInput(f"feature view {view}: null in {[*keys, time]}", param=view)
    if table.duplicated([*keys, time]).any():
        raise InvalidInput(f"feature view {view}: {[*keys, time]} is not unique", param=view)
    target = Path(source.path)
    temporary = target.with_suffix(f".{os.getpid()}")
    table.to_parquet(temporary, index=False)
    temporary.replace(target)
    return len(table)


def to_micros(times: pd.Series[Any], *, what: str) -> pd.Series[Any]:
    """Aware times as µs in UTC.

    Raises:
        InvalidInput: naive times: their zone would be a guess.
    """
    if getattr(times.dtype, "tz", None) is None:
        raise InvalidInput(f"{what}: expected times with a zone, got dtype {times.dtype}")
    found: pd.Series[Any] = times.dt.tz_convert("UTC").astype("datetime64[us, UTC]")
    return found


def join(
    folder: Path, examples: pd.DataFrame, views: Sequence[FeatureView], *, time: str
) -> pd.DataFrame:
    """Point-in-time join: each example gets the feature values known at its own time.

    Keys with `from_feature` are taken from the earlier view, as the online path does.

    Args:
        examples: one row per example, with the join keys and `time` (aware).
        views: as the manifest pins them.
        time: the column of `examples` that features must not be later than.

    Returns:
        `examples` with one more column per feature; same rows, same order, same index.

    Raises:
        InvalidInput: a view asks for a feature that is not defined, or a key is missing.
        Conflict: rows were lost or doubled.
    """
    store = open_store(folder)
    _check_views(store, views)
    joined = examples.copy()
    for group in groups(views):
        key, source = group[0].join_key, (group[0].from_feature or "").partition(":")[2]
        if (source or key) not in joined.columns:
            raise InvalidInput(f"examples lack {key!r}, the key of feature view {group[0].view}")
        entities = pd.DataFrame({key: joined[source or key].array, "_row": range(len(joined))})
        entities["event_timestamp"] = to_micros(examples[time], what=time).array
        refs = [f"{view.view}:{name}" for view in group for name in view.features]
        found = store.get_historical_features(entity_df=entities, features=refs).to_df()
        found = found.set_index("_row").sort_index()
        if list(found.index) != list(range(len(examples))):
            raise Conflict(f"point-in-time join: {len(examples)} rows in, {len(found)} rows out")
        for name in (name for view in group for name in view.features):
            joined[name] = found[name].array
    return joined


def _check_views(store: Any, views: Sequence[FeatureView]) -> None:
    seen: dict[str, str] = {}
    for view in views:
        definition = _view(store, view.view)
        unknown = sorted(set(view.features) - {field.name for field in definition.features})
        if unknown:
            raise InvalidInput(f"feature view {view.view} has no feature {unknown}", param="views")
        for name in view.features:
            if name in seen:
                raise InvalidInput(f"feature {name!r} is in {seen[name]} and in {view.view}")
            seen[name] = view.view
        keys = [column.name for column in definition.entity_columns]
        if keys != [view.join_key]:
            raise InvalidInput(
                f"feature view {view.view}: join_key = {view.join_key!r}: its key is {keys}"
            )
        ttl = definition.ttl
        allowed = int(ttl.total_seconds()) if ttl else None
        if allowed != view.max_age_seconds:
            raise InvalidInput(
                f"feature view {view.view}: max_age_seconds = {view.max_age_seconds}: the join "
                f"uses its ttl, {allowed} s; both must be the same",
                param="max_age_seconds",
            )


def columns(folder: Path, views: Sequence[FeatureView]) -> list[Column]:
    """The model's input columns, in the order of `views`, with their declared types."""
    store = open_store(folder)
    found = []
    for view in views:
        fields = {field.name: field for field in _view(store, view.view).features}
        for name in view.features:
            kind = fields[name].dtype.to_value_type().name
            if kind not in _TYPES:
                raise InvalidInput(
                    f"feature {view.view}:{name} has type {kind}: expected one of {sorted(_TYPES)}"
                )
            found.append(Column(name=name, type=_TYPES[kind]))
    return found


def materialize(
    folder: Path, *, until: datetime, views: Sequence[str] | None = None
) -> dict[str, tuple[datetime, datetime] | None]:
    """Bring the online rows up to `until` (aware); a view already there is left alone.

    From each view the rows younger than its TTL are loaded, so the window is (until - TTL, until],
    shortened by what was loaded before.

    Returns:
        view to the window that was loaded, None when it was up to date.
    """
    if until.tzinfo is None:
        raise InvalidInput(f"materialize: until = {until}: expected a time with a zone")
    store = open_store(folder)
    done: dict[str, tuple[datetime, datetime] | None] = {}
    with _locked(folder), Path(os.devnull).open("w") as null:
        for name in views or [view.name for view in store.list_feature_views()]:
            definition = _view(store, name)
            reached = _reached(folder, definition)
            start = until - (definition.ttl or timedelta(days=3650))
            if reached is not None:
                start = max(start, reached)
            if start >= until:
                done[name] = None
                continue
            with contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
                store.materialize(start_date=start, end_date=until, feature_views=[name])
            done[name] = (start, until)
    return done


def push(store: Any, view: str, rows: pd.DataFrame) -> int:
    """Write the newest row of each key to the online store at once, as a stream does.

    A tenth of what a materialization of the same hour costs: no source is read and the registry
    stays as it is. How far a view was pushed is remembered, so that no later materialization puts
    older rows over these.

    Args:
        store: as `open_store` returns it, kept open between calls.
        rows: keys, time and features of the view; rows before the view's online time are left out.

    Returns:
        Rows written.
    """
    folder = Path(store.repo_path)
    definition = store.get_feature_view(view)
    keys = [str(column.name) for column in definition.entity_columns]
    time = str(definition.batch_source.timestamp_field)
    rows = rows.assign(**{time: to_micros(rows[time], what=f"{view}.{time}")})
    with _locked(folder):
        reached = _reached(folder, definition)
        if reached is not None:
            rows = rows[rows[time] >= reached]
        if rows.empty:
            return 0
        newest = rows.sort_values(time).drop_duplicates(keys, keep="last")
        store.write_to_online_store(view, newest)
        pushed = {**_pushed(folder), view: rows[time].max().isoformat()}
        temporary = folder / f".{_PUSHED}.{os.getpid()}"
        temporary.write_text(json.dumps(pushed))
        temporary.replace(folder / _PUSHED)
    return len(newest)


def _reached(folder: Path, definition: Any) -> datetime | None:
    """The view's online time: the latest of its materializations and pushes."""
    ends = [_aware(end) for _, end in definition.materialization_intervals]
    pushed = _pushed(folder).get(str(definition.name))
    return max([*ends, *([datetime.fromisoformat(pushed)] if pushed else [])], default=None)


def _pushed(folder: Path) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads((folder / _PUSHED).read_text())
    except FileNotFoundError:
        return {}
    return found


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _view(store: Any, name: str) -> Any:
    for view in store.list_feature_views():
        if view.name == name:
            return view
    known = sorted(view.name for view in store.list_feature_views())
    raise NotFound(f"feature view {name!r} is not registered; registered are {known}")
