from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.errors import InvalidInput, NotFound, Unavailable
from proa_gateway.routes import Model, RouteTable, fraction_of, parse_routes

UNITS = [f"unit-{number}" for number in range(4000)]


def table(**weights: Any) -> RouteTable:
    """Tracks from `name=weight` or `name=(weight, ready)`."""
    tracks = {}
    for name, value in weights.items():
        weight, ready = value if isinstance(value, tuple) else (value, True)
        tracks[name] = {
            "release": f"m/{name}",
            "url": "http://h:1",
            "ready": ready,
            "weight": weight,
        }
    models = {"m": {"kind": "classic", "tracks": tracks}}
    return parse_routes(
        json.dumps({"schema_version": 1, "generation": 3, "models": models}).encode()
    )


def model(**weights: Any) -> Model:
    return table(**weights).model("m")


def winners(routes: Model) -> dict[str, str]:
    return {unit: routes.choose(unit).name for unit in UNITS}


def test_weights_are_kept_within_chance() -> None:
    won = list(winners(model(champion=90, challenger=10)).values()).count("challenger")
    assert 320 <= won <= 480  # 400 expected, four standard deviations


@given(st.integers(0, 100), st.integers(0, 100))
def test_a_growing_challenger_only_wins_units_over(one: int, other: int) -> None:
    less, more = sorted((one, other))
    before, after = (model(champion=100 - weight, challenger=weight) for weight in (less, more))
    for unit in UNITS[:200]:
        if before.choose(unit).name == "challenger":
            assert after.choose(unit).name == "challenger"


def test_a_unit_sticks_and_models_are_independent() -> None:
    assert winners(model(champion=1, challenger=1)) == winners(model(challenger=50, champion=50))
    assert fraction_of("a", "u") != fraction_of("b", "u")


@given(st.text(), st.text())
def test_a_fraction_lies_in_the_unit_interval(name: str, unit: str) -> None:
    assert 0 <= fraction_of(name, unit) < 1


def test_what_is_not_ready_or_weighs_nothing_gets_nothing() -> None:
    assert set(winners(model(champion=90, challenger=(10, False))).values()) == {"champion"}
    assert set(winners(model(champion=100, challenger=0)).values()) == {"champion"}
    assert set(winners(model(champion=(90, False), challenger=10)).values()) == {"challenger"}
    with pytest.raises(Unavailable, match="no release of 'm' is ready") as caught:
        model(champion=(90, False)).choose("u")
    assert caught.value.code == "not_ready"


def test_a_model_without_a_release_says_so() -> None:
    with pytest.raises(Unavailable, match="has no release yet") as caught:
        model().choose("u")
    assert caught.value.code == "no_release"


def test_a_pinned_track_ignores_weights_but_not_readiness() -> None:
    routes = model(champion=100, challenger=0, shadow=(0, False))
    assert routes.choose("u", "challenger").name == "challenger"
    with pytest.raises(Unavailable, match="the shadow of 'm', m/shadow, is not ready"):
        routes.choose("u", "shadow")
    with pytest.raises(NotFound, match="no track 'blue'; it has challenger, champion, shadow"):
        routes.choose("u", "blue")


def test_an_unknown_model_is_named_with_those_there_are() -> None:
    with pytest.raises(NotFound, match="no model 'x'; the models are: m") as caught:
        table(champion=1).model("x")
    assert caught.value.code == "unknown_model"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version = 2: expected 1"),
        ({"generation": "3"}, r"routes.generation = '3': expected int"),
        ({"generation": True}, "routes.generation = True"),
        ({"models": {"m": {"kind": "soup", "tracks": {}}}}, r"models.m.kind = 'soup'"),
        ({"models": {"m": {"kind": "llm"}}}, r"models.m.tracks is missing"),
        (
            {"models": {"m": {"kind": "llm", "tracks": {"champion": {}}}}},
            "champion.weight is missing",
        ),
    ],
)
def test_a_bad_file_names_the_place(change: dict[str, Any], message: str) -> None:
    value = {"schema_version": 1, "generation": 1, "models": {}, **change}
    with pytest.raises(InvalidInput, match=message):
        parse_routes(json.dumps(value).encode())
