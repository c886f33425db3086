"""The reference profile of a release: what its data looked like, as counts in fixed bins.

`profile.json`, version 1:

    {"schema_version": 1, "kind": "classic" | "llm", "rows": n,
     "blocks": [name, …] | null,
     "features": {NAME: {"source": "inputs" | "outputs" | "answer", "column": …,
                         "type": "number", "edges": [...] |
                         "type": "category", "categories": [...], "rare": [...] | null,
                         "counts": [...], "block_counts": [[...], …] | null}},
     "not_watched": {COLUMN: why}}

Blocks are stretches of the reference as long as a window, days as a rule: rows within a day hang
together, so what a day may differ by chance is read off the days of the reference.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from proa.errors import InvalidInput
from proa.profile.bins import Bins, CategoryBins, NumberBins, category_of, parse_bins
from proa.profile.observed import ANSWER_FEATURES, answer_values
from proa.release.canonical import digest_json

if TYPE_CHECKING:
    from proa.release.manifest import ColumnType

__all__ = [
    "PROFILE_PATH",
    "SAMPLE_NAME",
    "Profile",
    "WatchedFeature",
    "build",
    "build_answers",
    "parse_profile",
    "write",
    "write_answers",
]

SCHEMA_VERSION: Final = 1
PROFILE_PATH: Final = "profile/profile.json"
"""Where `write` puts the profile below a release's folder: the manifest's `profile`."""
SAMPLE_NAME: Final = "reference_sample.parquet"
"""The sample of the reference, beside the profile, for Evidently's reports."""
SAMPLE_ROWS: Final = 2000
CELLS: Final = 10
"""Cells of a number: tenths of the reference."""
_TOP_CATEGORIES: Final = 50
_RARE_CATEGORIES: Final = 1000
_MOST_BLOCKS: Final = 400

_TYPES: Final[dict[str, str]] = {
    "boolean": "category",
    "string": "category",
    "long": "number",
    "double": "number",
}


@dataclass(frozen=True, slots=True)
class WatchedFeature:
    """One feature of a profile.

    Attributes:
        source: `inputs` and `outputs` of a prediction, or `answer` (`observed.answer_values`).
        column: its key there.
        counts: per bin, of the whole reference.
        block_counts: the same per block; None when the reference has no blocks.
    """

    name: str
    source: str
    column: str
    bins: Bins
    counts: tuple[int, ...]
    block_counts: tuple[tuple[int, ...], ...] | None


@dataclass(frozen=True, slots=True)
class Profile:
    """A parsed profile. `digest` covers the bins alone: windows of equal digest can be merged."""

    kind: str
    rows: int
    blocks: tuple[str, ...] | None
    features: tuple[WatchedFeature, ...]
    not_watched: Mapping[str, str]
    digest: str


def build(
    columns: Mapping[str, Sequence[Any]],
    types: Mapping[str, ColumnType],
    *,
    outputs: Mapping[str, Sequence[Any]] | None = None,
    blocks: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The profile of a classic release.

    Args:
        columns: input column to its rows: lists, numpy arrays or pandas Series (a DataFrame works).
        types: input column to its type, as in the manifest; `datetime` is not watched.
        outputs: what the release answers for rows it was *not* fitted on, when those are the rows
            of `columns`: `{"probability": […], "label": […]}`.
        blocks: per row the name of its block, the event's day (`2013-01-31`) as a rule.

    Raises:
        InvalidInput: no rows, columns of unequal length, a type without column.
    """
    features: dict[str, tuple[str, str, str, list[Any]]] = {}
    not_watched: dict[str, str] = {}
    for name, column_type in types.items():
        if name not in columns:
            raise InvalidInput(f"profile: column {name!r} has a type but no values", param=name)
        if column_type not in _TYPES:
            not_watched[name] = f"a {column_type} always moves on"
            continue
        features[name] = ("inputs", name, _TYPES[column_type], _plain(columns[name]))
    for name, values in (outputs or {}).items():
        plain = _plain(values)
        if any(isinstance(value, list) for value in plain):
            not_watched[f"outputs.{name}"] = "several values in a row"
            continue
        features[f"outputs.{name}"] = ("outputs", name, _type_of(plain), plain)
    return _profile("classic", features, blocks, not_watched)


def build_answers(
    records: Sequence[Mapping[str, Any]], *, blocks: Sequence[str] | None = None
) -> dict[str, Any]:
    """The profile of a language release.

    Args:
        records: answers as in answer events, or parts of them: with `question` and `retrieved`
            alone, those are watched and the rest is not. Every record has the same keys.
        blocks: per record the name of its block.
    """
    if not records:
        raise InvalidInput("profile: no records: a reference needs rows")
    rows = [answer_values(record) for record in records]
    features = {
        name: ("answer", name, ANSWER_FEATURES[name], [row.get(name) for row in rows])
        for name in rows[0]
    }
    missing = {name: "not in the reference" for name in ANSWER_FEATURES if name not in features}
    return _profile("llm", features, blocks, missing)


def write(
    folder: Path,
    columns: Mapping[str, Sequence[Any]],
    types: Mapping[str, ColumnType],
    *,
    outputs: Mapping[str, Sequence[Any]] | None = None,
    blocks: Sequence[str] | None = None,
) -> str:
    """Build a classic profile, write it and its sample below a release's folder.

    Returns:
        The profile's path in the bundle: the manifest's `profile`.
    """
    sample = {name: columns[name] for name in types}
    sample |= {f"outputs.{name}": values for name, values in (outputs or {}).items()}
    return _write(folder, build(columns, types, outputs=outputs, blocks=blocks), sample)


def write_answers(
    folder: Path, records: Sequence[Mapping[str, Any]], *, blocks: Sequence[str] | None = None
) -> str:
    """As `write`, for a language release."""
    profile = build_answers(records, blocks=blocks)
    rows = [answer_values(record) for record in records]
    return _write(folder, profile, {name: [row.get(name) for row in rows] for name in rows[0]})


def parse_profile(data: bytes) -> Profile:
    """Read `profile.json`.

    Raises:
        InvalidInput: another form or version; the message names the key.
    """
    try:
        value = orjson.loads(data)
        if value["schema_version"] != SCHEMA_VERSION:
            raise InvalidInput(
                f"profile.json: schema_version = {value['schema_version']!r}: "
                f"expected {SCHEMA_VERSION}"
            )
        features = tuple(_feature(name, f) for name, f in value["features"].items())
        digest = digest_json([[f.name, f.bins.to_json()] for f in features])
        blocks = value["blocks"]
        return Profile(
            kind=value["kind"],
            rows=value["rows"],
            blocks=None if blocks is None else tuple(blocks),
            features=features,
            not_watched=value["not_watched"],
            digest=digest,
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"profile.json is not a reference profile: {error!r}") from error


def _feature(name: str, value: Mapping[str, Any]) -> WatchedFeature:
    bins = parse_bins(value, what=f"profile.json: features.{name}")
    blocks = value["block_counts"]
    size = len(bins.names)
    if any(len(counts) != size for counts in [value["counts"], *(blocks or [])]):
        raise InvalidInput(f"profile.json: features.{name}: expected {size} counts")
    return WatchedFeature(
        name=name,
        source=value["source"],
        column=value["column"],
        bins=bins,
        counts=tuple(value["counts"]),
        block_counts=None if blocks is None else tuple(tuple(counts) for counts in blocks),
    )


def _profile(
    kind: str,
    features: Mapping[str, tuple[str, str, str, list[Any]]],
    blocks: Sequence[str] | None,
    not_watched: Mapping[str, str],
) -> dict[str, Any]:
    lengths = {name: len(values) for name, (*_, values) in features.items()}
    if not lengths or not max(lengths.values()):
        raise InvalidInput("profile: no rows: a reference needs rows")
    rows = next(iter(lengths.values()))
    for name, length in (lengths | ({"blocks": len(blocks)} if blocks is not None else {})).items():
        if length != rows:
            raise InvalidInput(f"profile: {name} has {length:,} rows, the others have {rows:,}")
    groups = _groups(blocks)
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "rows": rows,
        "blocks": None if groups is None else [name for name, _ in groups],
        "features": {
            name: {
                "source": source,
                "column": column,
                **_counted(_bins_of(feature_type, values), values, groups),
            }
            for name, (source, column, feature_type, values) in features.items()
        },
        "not_watched": dict(not_watched),
    }


def _groups(blocks: Sequence[str] | None) -> list[tuple[str, list[int]]] | None:
    """Rows of each block, in the order of their names; evenly thinned when there are very many."""
    if blocks is None:
        return None
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(blocks):
        groups.setdefault(str(name), []).append(row)
    ordered = sorted(groups.items())
    step = math.ceil(len(ordered) / _MOST_BLOCKS)
    return ordered[::step]


def _counted(
    bins: Bins, values: Sequence[Any], groups: list[tuple[str, list[int]]] | None
) -> dict[str, Any]:
    def counts_of(some: Iterable[Any]) -> list[int]:
        counts = [0] * len(bins.names)
        bins.count(some, counts)
        return counts

    per_block = None
    if groups is not None:
        per_block = [counts_of([values[row] for row in rows]) for _, rows in groups]
    return bins.to_json() | {"counts": counts_of(values), "block_counts": per_block}


def _bins_of(feature_type: str, values: Sequence[Any]) -> Bins:
    if feature_type == NumberBins.type:
        return NumberBins(_edges(values))
    categories = map(category_of, values)
    counts = Counter(category for category in categories if category is not None)
    ordered = [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    rare = ordered[_TOP_CATEGORIES:]
    return CategoryBins(
        ordered[:_TOP_CATEGORIES], sorted(rare) if len(rare) <= _RARE_CATEGORIES else None
    )


def _edges(values: Sequence[Any]) -> list[float]:
    """Quantiles of the finite values; one that repeats gets a cell of its own."""
    finite = sorted(float(v) for v in values if type(v) in (int, float) and math.isfinite(v))
    if not finite:
        return []
    last = len(finite) - 1
    quantiles = [finite[math.ceil(last * cell / CELLS)] for cell in range(CELLS + 1)]
    edges = set(quantiles)
    for value, following in pairwise(quantiles):
        if value == following:
            edges.add(math.nextafter(value, math.inf))
    edges.add(math.nextafter(finite[-1], math.inf))
    return sorted(edge for edge in edges if math.isfinite(edge))


def _type_of(values: Sequence[Any]) -> str:
    present = {type(value) for value in values if value is not None}
    return NumberBins.type if present and present <= {int, float} else CategoryBins.type


def _plain(values: Any) -> list[Any]:
    """Python scalars, None where there is nothing: also from numpy, pandas and their scalars."""
    listed = values.tolist() if hasattr(values, "tolist") else list(values)
    return [value if type(value) in _PLAIN else _plain_scalar(value) for value in listed]


_PLAIN: Final = frozenset({str, int, float, bool, list, type(None)})


def _plain_scalar(value: Any) -> Any:
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return value.item() if hasattr(value, "item") else str(value)


def _write(folder: Path, profile: dict[str, Any], sample: Mapping[str, Sequence[Any]]) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = folder / PROFILE_PATH
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(orjson.dumps(profile))
    step = max(1, math.ceil(profile["rows"] / SAMPLE_ROWS))
    arrays = {}
    for name, feature in profile["features"].items():
        values = _plain(sample[name])[::step]
        if feature["type"] == NumberBins.type:
            numbers = [float(v) if type(v) in (int, float) and v == v else None for v in values]
            arrays[name] = pa.array(numbers, pa.float64())
        else:
            arrays[name] = pa.array([category_of(value) for value in values], pa.string())
    pq.write_table(pa.table(arrays), target.with_name(SAMPLE_NAME), compression="zstd")
    return PROFILE_PATH
