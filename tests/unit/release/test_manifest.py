"""Manifest, canonical JSON and digest: one value, one digest, whatever the order or the writer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.errors import InvalidInput
from proa.release.canonical import canonical_json, digest_json, parse_json
from proa.release.manifest import check_manifest, parse_manifest
from proa.release.reference import ReleaseRef

DIGEST = "sha256:" + "a" * 64

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


def manifest(**changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = {
        "name": "flight-delay",
        "kind": "classic",
        "runtime": {"kind": "platform", "python": "3.11", "libraries": {"numpy": "2.4.6"}},
        "classic": {
            "task": "binary",
            "model": "model/model.skops",
            "columns": [{"name": "hour", "type": "long"}],
        },
        "files": [{"path": "model/model.skops", "sha256": DIGEST, "size": 3}],
    }
    return {**value, **changes}


def shuffled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return [shuffled(item) for item in value]
    return value


@given(plain)
def test_key_order_and_a_round_trip_change_no_digest(value: Any) -> None:
    assert digest_json(shuffled(value)) == digest_json(value)
    assert digest_json(parse_json(canonical_json(value), what="it")) == digest_json(value)


@given(plain, plain)
def test_another_value_has_another_digest(one: Any, two: Any) -> None:
    same = canonical_json(one) == canonical_json(two)
    assert (digest_json(one) == digest_json(two)) == same


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**60, {1: "x"}, {"x": object()}])
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="canonical JSON"):
        canonical_json(value)


def test_a_manifest_reads_back_with_the_same_digest() -> None:
    one = check_manifest(manifest(metrics={"auc": 1.0, "loss": 0.25}))
    assert parse_manifest(one.canonical()).digest == one.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surprise": 1}, "surprise"),
        ({"name": "Flight Delay"}, "name"),
        ({"schema_version": 2}, "schema_version"),
        ({"kind": "llm"}, "expected the section 'llm'"),
        ({"classic": None}, "expected the section 'classic'"),
        ({"files": []}, r"classic.model = 'model/model.skops': not among"),
        ({"selftest": "../secrets"}, "selftest"),
        ({"selftest": "/etc/passwd"}, "selftest"),
        ({"runtime": {"kind": "vm", "python": "3.11"}}, "runtime.kind"),
        ({"metrics": {"auc": "high"}}, "metrics.auc"),
    ],
)
def test_a_fault_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_manifest(manifest(**change))


@given(st.integers(1, 999_999_999), st.binary(min_size=32, max_size=32))
def test_a_reference_reads_back(version: int, raw: bytes) -> None:
    ref = ReleaseRef("flight-delay", version, f"sha256:{raw.hex()}")
    assert ReleaseRef.parse(str(ref)) == ref


@pytest.mark.parametrize(
    "text",
    ["", "m", "m/1", "m/0@" + DIGEST, "M/1@" + DIGEST, "m/1@sha256:aa", "m/1@" + DIGEST + " "],
)
def test_another_form_of_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"expected|not of the form"):
        ReleaseRef.parse(text)
