"""The reference profile of a release: what its data looked like, as counts in fixed bins.

`profile.json`, version 2 (version 1, without the keys marked *, is still read):

    {"schema_version": 2, "kind": "classic" | "llm", "rows": n,
     "blocks": [name, …] | null,
     "features": {NAME: {"source": "inputs" | "outputs" | "answer", "column": …,
                         "type": "number", "edges": [...],
                           *"positions": [...], *"sigma": … |
                         "type": "category", "categories": [...], "rare": [...] | null,
                           *"distinct": n,
                         *"json_type": "boolean" | "number" | "string" | "other" | null,
                         "counts": [...], "block_counts": [[...], …] | null}},
     "not_watched": {COLUMN: why},
     *"slices": [COLUMN, …], *"reasons": {COLUMN: mean |contribution|}}

Blocks are stretches of the reference as long as a window, days as a rule: rows within a day hang
together, so what a day may differ by chance is read off the days of the reference. Named as windows
are (`2013-01-31`, `2013-01-31T09`), they also say what the same hour of the week may differ by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

from proa.errors import InvalidInput
from proa.profile.bins import Bins, CategoryBins, Codes, NumberBins, parse_bins
from proa.profile.column import (
    KINDS,
    NumberColumn,
    category_column,
    category_names,
    category_of,
    number_column,
)
from proa.profile.divergence import Floats
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

SCHEMA_VERSION: Final = 2
_READABLE: Final = (1, 2)
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
_SORTED: Final = 1 << 15
"""Values that edges are read off: a tenth of them is 0.2 points off at most, counts are exact."""

Watched = tuple[str, str, str, Any]
"""Source, column, type and values of a feature."""

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
        positions: of a number, where the mass of each ordinary bin lies, outliers pulled in.
        sigma: of a number, its standard deviation, outliers pulled in.
        json_type: the usual one of `column.KINDS`; None when there were only nulls, or in
            version 1.
        distinct: categories in the reference.
    """

    name: str
    source: str
    column: str
    bins: Bins
    counts: tuple[int, ...]
    block_counts: tuple[tuple[int, ...], ...] | None
    positions: tuple[float, ...] | None = None
    sigma: float | None = None
    json_type: str | None = None
    distinct: int | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A parsed profile. `digest` covers the bins alone: windows of equal digest can be merged.

    Attributes:
        inputs: every input column of the release, watched or not.
        slices: columns whose values are segments worth a look of their own.
        reasons: input column to the mean size of its contribution, when that was measured.
    """

    kind: str
    rows: int
    blocks: tuple[str, ...] | None
    features: tuple[WatchedFeature, ...]
    not_watched: Mapping[str, str]
    digest: str
    inputs: frozenset[str] = frozenset()
    slices: tuple[str, ...] = ()
    reasons: Mapping[str, float] = field(default_factory=dict)


def build(
    columns: Mapping[str, Sequence[Any]],
    types: Mapping[str, ColumnType],
    *,
    outputs: Mapping[str, Sequence[Any]] | None = None,
    blocks: Sequence[str] | None = None,
    slices: Sequence[str] = (),
    reasons: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The profile of a classic release.

    Args:
        columns: input column to its rows: lists, numpy arrays or pandas Series (a DataFrame works).
        types: input column to its type, as in the manifest; `datetime` is not watched.
        outputs: what the release answers for rows it was *not* fitted on, when those are the rows
            of `columns`: `{"probability": […], "label": […]}`.
        blocks: per row the name of its block, the event's day (`2013-01-31`) as a rule.
        slices: columns whose values are segments worth a look of their own.
        reasons: input column to its mean absolute contribution (SHAP) over the reference.

    Raises:
        InvalidInput: no rows, columns of unequal length, a type or slice without column.
    """
    features: dict[str, Watched] = {}
    not_watched: dict[str, str] = {}
    for name, column_type in types.items():
        if name not in columns:
            raise InvalidInput(f"profile: column {name!r} has a type but no values", param=name)
        if column_type not in _TYPES:
            not_watched[name] = f"a {column_type} always moves on"
            continue
        features[name] = ("inputs", name, _TYPES[column_type], columns[name])
    for name, values in (outputs or {}).items():
        if any(isinstance(value, list) for value in _plain(values)):
            not_watched[f"outputs.{name}"] = "several values in a row"
            continue
        features[f"outputs.{name}"] = ("outputs", name, _type_of(values), values)
    for name in slices:
        if name not in types:
            raise InvalidInput(f"profile: slice {name!r} is no input column", param="slices")
    profile = _profile("classic", features, blocks, not_watched)
    return profile | {"slices": list(slices), "reasons": dict(reasons or {})}


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
    features: dict[str, Watched] = {
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
    slices: Sequence[str] = (),
    reasons: Mapping[str, float] | None = None,
) -> str:
    """Build a classic profile, write it and its sample below a release's folder.

    Returns:
        The profile's path in the bundle: the manifest's `profile`.
    """
    sample = {name: columns[name] for name in types}
    sample |= {f"outputs.{name}": values for name, values in (outputs or {}).items()}
    profile = build(columns, types, outputs=outputs, blocks=blocks, slices=slices, reasons=reasons)
    return _write(folder, profile, sample)


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
        if value["schema_version"] not in _READABLE:
            raise InvalidInput(
                f"profile.json: schema_version = {value['schema_version']!r}: "
                f"expected {SCHEMA_VERSION}",
                hint="make the release again with this version of proa",
            )
        features = tuple(_feature(name, f) for name, f in value["features"].items())
        digest = digest_json([[f.name, f.bins.to_json()] for f in features])
        blocks = value["blocks"]
        watched = (f.column for f in features if f.source == "inputs")
        return Profile(
            kind=value["kind"],
            rows=value["rows"],
            blocks=None if blocks is None else tuple(blocks),
            features=features,
            not_watched=value["not_watched"],
            digest=digest,
            inputs=frozenset(watched) | frozenset(value["not_watched"]),
            slices=tuple(value.get("slices", ())),
            reasons=dict(value.get("reasons", {})),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"profile.json is not a reference profile: {error!r}") from error


def _feature(name: str, value: Mapping[str, Any]) -> WatchedFeature:
    bins = parse_bins(value, what=f"profile.json: features.{name}")
    blocks, positions = value["block_counts"], value.get("positions")
    size = len(bins.names)
    if any(len(counts) != size for counts in [value["counts"], *(blocks or [])]):
        raise InvalidInput(f"profile.json: features.{name}: expected {size} counts")
    if positions is not None and len(positions) != bins.ordinary:
        raise InvalidInput(f"profile.json: features.{name}: expected {bins.ordinary} positions")
    return WatchedFeature(
        name=name,
        source=value["source"],
        column=value["column"],
        bins=bins,
        counts=tuple(value["counts"]),
        block_counts=None if blocks is None else tuple(tuple(counts) for counts in blocks),
        positions=None if positions is None else tuple(positions),
        sigma=value.get("sigma"),
        json_type=value.get("json_type"),
        distinct=value.get("distinct"),
    )


def _profile(
    kind: str,
    features: Mapping[str, Watched],
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
    groups = None if blocks is None else _Groups.of(blocks)
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "rows": rows,
        "blocks": None if groups is None else groups.names,
        "features": {
            name: {"source": source, "column": column, **_described(feature_type, values, groups)}
            for name, (source, column, feature_type, values) in features.items()
        },
        "not_watched": dict(not_watched),
    }


@dataclass(frozen=True, slots=True)
class _Groups:
    """The blocks of a reference.

    Attributes:
        names: in their order; the first ones left out when there are very many.
        of_row: the place of each row's block; -1 when that is left out.
    """

    names: list[str]
    of_row: Codes

    @classmethod
    def of(cls, blocks: Sequence[str]) -> _Groups:
        names = sorted({str(name) for name in blocks})[-_MOST_BLOCKS:]
        places = {name: place for place, name in enumerate(names)}
        of_row = np.array([places.get(str(name), -1) for name in blocks], dtype=np.int64)
        return cls(names, of_row)

    def counts(self, codes: Codes, size: int) -> list[list[int]]:
        """Rows per block and bin."""
        kept = self.of_row >= 0
        cells = self.of_row[kept] * size + codes[kept]
        flat = np.bincount(cells, minlength=len(self.names) * size)
        table: list[list[int]] = flat.reshape(len(self.names), size).tolist()
        return table


def _described(feature_type: str, values: Any, groups: _Groups | None) -> dict[str, Any]:
    if feature_type == NumberBins.type:
        return _number(number_column(_numbers(values)), groups)
    return _category(_plain(values), groups)


def _number(column: NumberColumn, groups: _Groups | None) -> dict[str, Any]:
    ordered = _ordered(column.values)
    bins = NumberBins(_edges(ordered))
    per_block = None if groups is None else groups.counts(bins.codes(column), len(bins.names))
    return bins.to_json() | {
        "counts": bins.tally(column).tolist(),
        "block_counts": per_block,
        "json_type": _usual(column.kinds),
        **_places(ordered, np.array(bins.edges)),
    }


def _category(values: Sequence[Any], groups: _Groups | None) -> dict[str, Any]:
    column = category_column(values)
    counts = column.names
    ordered = [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    rare = ordered[_TOP_CATEGORIES:]
    bins = CategoryBins(
        ordered[:_TOP_CATEGORIES], sorted(rare) if len(rare) <= _RARE_CATEGORIES else None
    )
    per_block = None
    if groups is not None:
        per_block = groups.counts(bins.codes(category_names(values)), len(bins.names))
    return bins.to_json() | {
        "counts": bins.tally(column).tolist(),
        "block_counts": per_block,
        "json_type": _usual(column.kinds),
        "distinct": len(counts),
    }


def _ordered(values: Floats) -> Floats:
    """The finite values, ascending; of very many a sample with the least and the largest."""
    finite = values[np.isfinite(values)]
    if len(finite) > _SORTED:
        drawn = np.random.default_rng(0).integers(0, len(finite), _SORTED)
        finite = np.append(finite[drawn], (finite.min(), finite.max()))
    return np.sort(finite)


def _edges(ordered: Floats) -> list[float]:
    """Quantiles of ascending finite values; one that repeats gets a cell of its own."""
    if not len(ordered):
        return []
    last = len(ordered) - 1
    quantiles = [float(ordered[math.ceil(last * cell / CELLS)]) for cell in range(CELLS + 1)]
    edges = set(quantiles)
    for value, following in pairwise(quantiles):
        if value == following:
            edges.add(math.nextafter(value, math.inf))
    edges.add(math.nextafter(float(ordered[-1]), math.inf))
    return sorted(edge for edge in edges if math.isfinite(edge))


def _places(ordered: Floats, edges: Floats) -> dict[str, Any]:
    """Where the mass of each ordinary bin lies, and the spread, with outliers pulled in.

    What is below the first or above the last hundredth part of a half stands at it: one value of
    1e6 must not make every shift small.
    """
    if not len(ordered):
        return {"positions": None, "sigma": None}
    last = len(ordered) - 1
    low, high = ordered[math.floor(0.005 * last)], ordered[math.ceil(0.995 * last)]
    pulled = np.clip(ordered, low, high)
    starts = np.searchsorted(ordered, edges, side="left")
    ends = [*starts[1:], len(ordered)]
    with np.errstate(over="ignore", invalid="ignore"):
        middles = [
            float(pulled[start:end].mean()) if end > start else float(np.clip(edge, low, high))
            for start, end, edge in zip(starts, ends, edges, strict=True)
        ]
        sigma = float(pulled.std())
    positions = [float(pulled[0]), *middles[:-1], float(pulled[-1])]
    if not (math.isfinite(sigma) and all(map(math.isfinite, positions))):
        return {"positions": None, "sigma": None}  # sums beyond every float
    return {"positions": positions, "sigma": sigma}


def _usual(kinds: Sequence[int]) -> str | None:
    most = max(range(len(KINDS)), key=lambda kind: kinds[kind])
    return KINDS[most] if kinds[most] else None


def _type_of(values: Any) -> str:
    if getattr(getattr(values, "dtype", None), "kind", "O") in "fiu":
        return NumberBins.type
    present = {type(value) for value in _plain(values) if value is not None}
    return NumberBins.type if present and present <= {int, float} else CategoryBins.type


def _numbers(values: Any) -> Any:
    """Arrays and Series of numbers as they are, all else as Python scalars."""
    array = getattr(values, "values", values)
    return array if isinstance(array, np.ndarray) and array.dtype.kind in "fiu" else _plain(values)


def _plain(values: Any) -> list[Any]:
    """Python scalars, None where there is nothing: also from numpy, pandas and their scalars."""
    listed = values.tolist() if hasattr(values, "tolist") else list(values)
    if _PLAIN.issuperset(map(type, listed)):
        return listed
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
