"""The reference profile: what is counted, from what kinds of columns, and what is refused."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.errors import InvalidInput
from proa.profile import reference
from proa.profile.bins import NumberBins
from proa.profile.column import number_column
from proa.profile.reference import build, build_answers, parse_profile

TYPES = {"hour": "long", "carrier": "string", "wet": "boolean", "at": "datetime"}
COLUMNS = {
    "hour": [6, 7, 8, None] * 5,
    "carrier": ["UA", "DL", "UA", None] * 5,
    "wet": [True, False, False, None] * 5,
    "at": ["2013-01-01T00:00:00Z"] * 20,
}


def test_every_row_of_every_watched_column_is_counted_once() -> None:
    profile = parse_profile(
        orjson.dumps(
            build(
                COLUMNS,
                TYPES,
                outputs={"probability": [0.5] * 20, "label": [True] * 20},
                blocks=["2013-01-01"] * 12 + ["2013-01-02"] * 8,
            )
        )
    )
    assert [f.name for f in profile.features] == [
        "hour",
        "carrier",
        "wet",
        "outputs.probability",
        "outputs.label",
    ]
    assert profile.not_watched == {"at": "a datetime always moves on"}
    assert profile.blocks == ("2013-01-01", "2013-01-02")
    for feature in profile.features:
        assert sum(feature.counts) == profile.rows == 20
        assert feature.block_counts is not None
        assert [sum(counts) for counts in feature.block_counts] == [12, 8]
        together = [sum(pair) for pair in zip(*feature.block_counts, strict=True)]
        assert together == list(feature.counts)


def test_lists_numpy_and_pandas_give_the_same_profile() -> None:
    columns = {"x": [1.5, None, 3.0, 4.0], "c": ["a", "b", None, "a"]}
    types = {"x": "double", "c": "string"}
    frame = pd.DataFrame({"x": [1.5, np.nan, 3.0, 4.0], "c": pd.Categorical(["a", "b", None, "a"])})
    nullable = frame.astype({"x": "Float64", "c": "string"})
    arrays = {"x": np.array([1.5, np.nan, 3.0, 4.0]), "c": np.array(["a", "b", None, "a"], object)}
    expected = build(columns, types)
    for other in (frame, nullable, arrays):
        assert build(other, types) == expected


def test_a_value_that_repeats_has_a_cell_of_its_own() -> None:
    profile = parse_profile(
        orjson.dumps(build({"rain": [0.0] * 80 + [k / 10 for k in range(20)]}, {"rain": "double"}))
    )
    bins = profile.features[0].bins
    assert isinstance(bins, NumberBins)
    counts = bins.tally(number_column([0.0, 0.05]))
    assert sum(1 for n in counts if n) == 2


def test_rare_categories_are_told_from_new_ones() -> None:
    values = [f"c{k}" for k in range(60) for _ in range(60 - k)]
    feature = build({"c": values}, {"c": "string"})["features"]["c"]
    assert len(feature["categories"]) == 50
    assert feature["categories"][0] == "c0"
    assert len(feature["rare"]) == 10


def test_a_category_with_very_many_values_stays_small() -> None:
    feature = build({"c": [str(k) for k in range(5000)]}, {"c": "string"})["features"]["c"]
    assert feature["rare"] is None
    assert len(json.dumps(feature)) < 2000


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=60))
def test_every_value_of_the_reference_lies_inside_its_range(values: list[float]) -> None:
    feature = parse_profile(orjson.dumps(build({"x": values}, {"x": "double"}))).features[0]
    names = dict(zip(feature.bins.names, feature.counts, strict=True))
    assert names.get("below", 0) == 0
    # beyond the largest float there is no edge to put
    assert names["above"] == values.count(sys.float_info.max)


def test_what_has_several_values_in_a_row_is_said_not_to_be_watched() -> None:
    outputs = {"probabilities": np.array([[0.2, 0.8], [0.5, 0.5]]), "label": ["a", "b"]}
    profile = build({"x": [1, 2]}, {"x": "long"}, outputs=outputs)
    assert list(profile["features"]) == ["x", "outputs.label"]
    assert profile["not_watched"] == {"outputs.probabilities": "several values in a row"}


def test_answers_are_watched_in_what_their_records_hold() -> None:
    records = [
        {"question": "why" * k, "retrieved": [{"id": "a", "score": k / 10}], "refused": False}
        for k in range(1, 8)
    ] + [{"question": "", "retrieved": [], "refused": True}]
    profile = parse_profile(orjson.dumps(build_answers(records)))
    assert [f.name for f in profile.features] == [
        "question_characters",
        "refused",
        "passages",
        "retrieval_score",
    ]
    assert "answer_characters" in profile.not_watched
    assert profile.kind == "llm"


def test_files_lie_where_the_manifest_says(tmp_path: Path) -> None:
    columns = {"x": [float(k) for k in range(5000)], "c": ["a", None] * 2500}
    path = reference.write(
        tmp_path, columns, {"x": "double", "c": "string"}, outputs={"probability": [0.5] * 5000}
    )
    profile = parse_profile((tmp_path / path).read_bytes())
    sample = pq.read_table((tmp_path / path).with_name(reference.SAMPLE_NAME))
    assert sample.column_names == [f.name for f in profile.features]
    assert 1000 < sample.num_rows <= 2000
    first = (tmp_path / path).with_name(reference.SAMPLE_NAME).read_bytes()
    reference.write(
        tmp_path, columns, {"x": "double", "c": "string"}, outputs={"probability": [0.5] * 5000}
    )
    assert (tmp_path / path).with_name(reference.SAMPLE_NAME).read_bytes() == first


def test_answer_files(tmp_path: Path) -> None:
    path = reference.write_answers(tmp_path, [{"question": "why?"}, {"question": "how?"}])
    assert parse_profile((tmp_path / path).read_bytes()).kind == "llm"


@pytest.mark.parametrize(
    ("columns", "types", "blocks", "message"),
    [
        ({}, {}, None, "needs rows"),
        ({"x": []}, {"x": "double"}, None, "needs rows"),
        ({"x": [1]}, {"x": "long", "y": "long"}, None, "'y' has a type but no values"),
        ({"x": [1], "y": [1, 2]}, {"x": "long", "y": "long"}, None, "y has 2 rows"),
        ({"x": [1]}, {"x": "long"}, ["a", "b"], "blocks has 2 rows"),
    ],
)
def test_what_is_no_reference_is_refused(columns, types, blocks, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInput, match=message):
        build(columns, types, blocks=blocks)


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 3},
        {"features": {"x": {"type": "number", "edges": [0.0]}}},
        {"features": []},
        {"blocks": 3},
    ],
)
def test_another_form_is_refused(change: dict[str, object]) -> None:
    profile = build({"x": [1.0, math.pi]}, {"x": "double"}) | change
    with pytest.raises(InvalidInput):
        parse_profile(orjson.dumps(profile))


def test_counts_must_fit_their_bins() -> None:
    profile = build({"x": [1.0]}, {"x": "double"})
    profile["features"]["x"]["counts"].append(0)
    with pytest.raises(InvalidInput, match=r"features\.x: expected"):
        parse_profile(orjson.dumps(profile))


def test_version_one_is_still_read() -> None:
    profile = build({"x": [1.0, 2.0], "c": ["a", None]}, {"x": "double", "c": "string"})
    features = {
        name: {k: v for k, v in feature.items() if k in _OLD} | {"block_counts": None}
        for name, feature in profile["features"].items()
    }
    old = {k: v for k, v in profile.items() if k not in ("slices", "reasons")}
    read = parse_profile(orjson.dumps(old | {"schema_version": 1, "features": features}))
    new = parse_profile(orjson.dumps(profile))
    assert read.digest == new.digest
    assert read.features[0].sigma is None
    assert read.slices == ()


_OLD = {"source", "column", "type", "edges", "categories", "rare", "counts"}


def test_slices_and_reasons_travel_with_the_profile() -> None:
    columns = {"x": [1.0, 2.0], "c": ["a", "b"]}
    types = {"x": "double", "c": "string"}
    built = build(columns, types, slices=["c"], reasons={"x": 0.25})
    profile = parse_profile(orjson.dumps(built))
    assert (profile.slices, profile.reasons) == (("c",), {"x": 0.25})
    with pytest.raises(InvalidInput, match="'y' is no input column"):
        build(columns, types, slices=["y"])


def test_of_very_many_rows_the_edges_are_near_the_tenths_and_the_counts_exact() -> None:
    values = np.random.default_rng(0).normal(size=300_000)
    feature = parse_profile(orjson.dumps(build({"x": values}, {"x": "double"}))).features[0]
    assert sum(feature.counts) == 300_000
    shares = np.array(feature.counts[1:11]) / 300_000  # the largest value has a cell to itself
    assert shares == pytest.approx(np.full(10, 0.1), abs=0.01)
    assert (feature.counts[0], feature.counts[-4]) == (0, 0)
    assert feature.sigma == pytest.approx(1.0, abs=0.03)
