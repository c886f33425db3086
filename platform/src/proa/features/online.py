"""The online path: features by entity, read from the feature server over HTTP.

Imports no Feast (3 s and 190 MB): the feature server is a process of its own (`server`). Feast's
online read ignores a view's TTL (a value of thirteen years ago comes back as PRESENT), so the age
of every row is checked here, against a clock that the caller passes.

Two-stage keys: a view whose `from_feature` is `schedule_v1:origin` takes its join key's values
from that feature, so it is read one request later. Views that share a key share a request, and each
key is asked for once: 64 flights of one airport cost one weather row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aiohttp
import orjson

from proa.errors import InvalidInput, NotFound, Unavailable
from proa.release.manifest import FeatureView

_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class OnlineFeatures:
    """What the online store knew about n entities.

    Attributes:
        columns: feature name to its n values (None where the stored value is null).
        ages: view to the age of its n rows in seconds; negative when the row is newer than `now`.
    """

    columns: dict[str, list[Any]]
    ages: dict[str, list[float]]


async def read(
    session: aiohttp.ClientSession,
    url: str,
    views: Sequence[FeatureView],
    entities: Mapping[str, Sequence[Any]],
    *,
    now: datetime,
    timeout: float = _TIMEOUT,
) -> OnlineFeatures:
    """Read every view of a release for n entities.

    Args:
        url: the feature server, `http://host:port`.
        views: as the manifest pins them; a view with `from_feature` comes after the view it names.
        entities: join key to n values; all the same length.
        now: aware; the moment that ages are counted from (event time under a replay).
        timeout: seconds for each request.

    Raises:
        InvalidInput: a join key is missing, or the lists differ in length.
        NotFound: `unknown_entity`: an entity that the caller named has no row.
        Unavailable: `stale_feature`: a row older than the view's `max_age_seconds`;
            `missing_feature`: a key taken from another view has no row;
            `features_unavailable`: the server is down, slow, or does not know the view.
    """
    keys = check_entities(views, entities)
    columns: dict[str, list[Any]] = {}
    ages: dict[str, list[float]] = {}
    for group in groups(views):
        values = key_values(group[0], keys, columns)
        unique = list(dict.fromkeys(values))
        place = {key: number for number, key in enumerate(unique)}
        spread = [place[key] for key in values]
        body = request_body(group, unique)
        answer = await _post(session, f"{url}/get-online-features", body, timeout)
        for view in group:
            rows = parse_view(answer, view, unique)
            age = [(now - moment).total_seconds() for moment in rows.times]
            check_ages(view, unique, age)
            ages[view.view] = [age[number] for number in spread]
            for name, found in rows.columns.items():
                columns[name] = [found[number] for number in spread]
    return OnlineFeatures(columns, ages)


def groups(views: Sequence[FeatureView]) -> list[list[FeatureView]]:
    """Views that one request can read (same key, same source of it), in reading order.

    Raises:
        InvalidInput: `from_feature` does not name a feature of an earlier view.
    """
    grouped: dict[tuple[str | None, str], list[FeatureView]] = {}
    known: set[str] = set()
    for view in views:
        if view.from_feature is not None and view.from_feature not in known:
            raise InvalidInput(
                f"feature view {view.view}: from_feature = {view.from_feature!r}: expected "
                "view:feature of an earlier view",
                param="from_feature",
            )
        grouped.setdefault((view.from_feature, view.join_key), []).append(view)
        known.update(f"{view.view}:{name}" for name in view.features)
    return list(grouped.values())


def check_entities(
    views: Sequence[FeatureView], entities: Mapping[str, Sequence[Any]]
) -> dict[str, list[Any]]:
    """The join keys that a caller must send, checked: all there, no null, one length."""
    keys: dict[str, list[Any]] = {}
    for view in views:
        if view.from_feature is None:
            if view.join_key not in entities:
                raise InvalidInput(
                    f"entities lack {view.join_key!r}, the key of feature view {view.view}",
                    param=view.join_key,
                )
            keys[view.join_key] = list(entities[view.join_key])
    lengths = {key: len(values) for key, values in keys.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInput(f"entities differ in length: {lengths}", param="entities")
    for key, values in keys.items():
        if None in values:
            raise InvalidInput(
                f"entities: {key}[{values.index(None)}] is null: expected a value", param=key
            )
    return keys


def key_values(
    view: FeatureView, keys: Mapping[str, Sequence[Any]], columns: Mapping[str, Sequence[Any]]
) -> list[Any]:
    """The n values of a view's join key: sent by the caller, or read from an earlier view.

    Raises:
        Unavailable: `missing_feature`: the earlier view holds a null.
    """
    if view.from_feature is None:
        return list(keys[view.join_key])
    values = list(columns[view.from_feature.partition(":")[2]])
    if None in values:
        raise Unavailable(
            f"{view.from_feature} is null for entity {values.index(None)}: "
            f"no key to read {view.view} with",
            code="missing_feature",
        )
    return values


def request_body(group: Sequence[FeatureView], keys: Sequence[Any]) -> dict[str, Any]:
    """The body of `POST /get-online-features` for views that share their key."""
    features = [f"{view.view}:{name}" for view in group for name in view.features]
    entities = {group[0].join_key: list(keys)}
    return {"features": features, "entities": entities, "full_feature_names": True}


@dataclass(frozen=True, slots=True)
class ViewRows:
    """One view's part of an answer: n values per feature, n event times."""

    columns: dict[str, list[Any]]
    times: list[datetime]


def parse_view(answer: Any, view: FeatureView, keys: Sequence[Any]) -> ViewRows:
    """Take one view's columns out of the feature server's answer.

    Raises:
        NotFound, Unavailable: a key has no row (which of both: see `read`).
    """
    try:
        names = answer["metadata"]["feature_names"]
        results = dict(zip(names, answer["results"], strict=True))
        parts = {name: results[f"{view.view}__{name}"] for name in view.features}
        columns = {name: part["values"] for name, part in parts.items()}
        statuses = [part["statuses"] for part in parts.values()]
        stamps = next(iter(parts.values()))["event_timestamps"]
        shape = {len(keys), len(stamps), *map(len, columns.values()), *map(len, statuses)}
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise Unavailable(
            f"the feature server's answer lacks {view.view}: {error!r}", code="features_unavailable"
        ) from error
    if len(shape) != 1:
        raise Unavailable(
            f"the feature server answered {sorted(shape)} rows of {view.view} for {len(keys)} keys",
            code="features_unavailable",
        )
    for number, key in enumerate(keys):
        if all(status[number] == "NOT_FOUND" for status in statuses):
            raise _no_row(view, key)
    return ViewRows(columns, [datetime.fromisoformat(stamp) for stamp in stamps])


def _no_row(view: FeatureView, key: Any) -> NotFound | Unavailable:
    message = f"{view.join_key} {key!r} has no row in feature view {view.view}"
    if view.from_feature is None:
        return NotFound(
            message,
            code="unknown_entity",
            param=view.join_key,
            hint="send an entity that was materialized, or the raw columns",
        )
    return Unavailable(f"{message} (key from {view.from_feature})", code="missing_feature")


def check_ages(view: FeatureView, keys: Sequence[Any], ages: Sequence[float]) -> None:
    """Refuse rows older than the view allows.

    Raises:
        Unavailable: `stale_feature`, naming view, entity, age and limit.
    """
    if view.max_age_seconds is None:
        return
    for key, age in zip(keys, ages, strict=True):
        if age > view.max_age_seconds:
            raise Unavailable(
                f"feature view {view.view}: the row of {view.join_key} {key!r} is {age:.0f} s old, "
                f"allowed are {view.max_age_seconds} s",
                code="stale_feature",
                param=view.view,
                hint="materialize the view, or send the raw columns",
            )


async def _post(
    session: aiohttp.ClientSession, url: str, body: Mapping[str, Any], timeout: float
) -> Any:
    try:
        async with session.post(
            url,
            data=orjson.dumps(body),
            headers={"content-type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=timeout),
        ) as response:
            data = await response.read()
            status = response.status
    except (TimeoutError, aiohttp.ClientError) as error:
        raise Unavailable(
            f"the feature server at {url} did not answer: {type(error).__name__} {error}".rstrip(),
            code="features_unavailable",
        ) from error
    if status != 200:
        raise Unavailable(
            f"the feature server answered {status}: {data[:200].decode(errors='replace')}",
            code="features_unavailable",
        )
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Unavailable(
            f"the feature server's answer is not JSON: {error}", code="features_unavailable"
        ) from error
