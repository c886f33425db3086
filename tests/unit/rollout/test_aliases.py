"""The rule about aliases: a change is a request, once; what comes before an undo is held."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from proa.release.reference import ReleaseRef
from proa.rollout.aliases import Aliases, Wish, parse_aliases
from proa.rollout.state import Rollout, parse_rollout


def ref(version: int, content: int | None = None) -> ReleaseRef:
    return ReleaseRef("m", version, f"sha256:{content or version:064x}")


refs = st.one_of(st.none(), st.builds(ref, st.integers(1, 3), st.integers(1, 3)))


def test_a_change_is_a_request_once() -> None:
    first, _ = Aliases().look(ref(2), "hand")
    assert first.wish == Wish(ref(2), "hand")
    answered = first.answered(ref(2))
    again, held = answered.look(ref(2), "hand")
    assert (again.wish, held) == (None, None)


def test_the_same_number_with_another_digest_is_another_request() -> None:
    answered = Aliases().look(ref(2), "hand")[0].answered(ref(2))
    other, _ = answered.look(ref(2, 3), "hand")
    assert other.wish == Wish(ref(2, 3), "hand")


def test_what_was_asked_for_otherwise_is_no_request_by_its_alias() -> None:
    asked = Aliases().answered(ref(2))
    assert asked.look(ref(2), "hand")[0].wish is None


def test_an_alias_that_stays_is_no_request_after_something_else_was_asked_for() -> None:
    stays = Aliases().look(ref(2), "hand")[0].answered(ref(2)).answered(ref(3))
    assert stays.look(ref(2), "hand")[0].wish is None


def test_taken_away_and_set_again_it_is_a_request_again() -> None:
    answered = Aliases().look(ref(2), "hand")[0].answered(ref(2))
    gone, _ = answered.look(None, "hand")
    assert gone.look(ref(2), "hand")[0].wish == Wish(ref(2), "hand")


def test_taken_away_before_its_turn_it_is_forgotten() -> None:
    waiting, _ = Aliases().look(ref(2), "hand")
    assert waiting.look(None, "hand")[0].wish is None


def test_an_undo_holds_what_waits_and_what_was_not_seen_yet() -> None:
    waiting, _ = Aliases().look(ref(2), "hand")
    assert waiting.held().wish is None
    seen, held = waiting.held().look(ref(3), "hand")
    assert (seen.wish, held) == (None, ref(3))
    assert seen.look(ref(3), "hand") == (seen, None)
    assert seen.look(ref(2), "hand")[0].wish == Wish(ref(2), "hand")


@given(looks=st.lists(st.tuples(refs, st.booleans())))
def test_it_survives_its_file_and_never_asks_for_what_was_just_answered(
    looks: list[tuple[ReleaseRef | None, bool]],
) -> None:
    aliases = Aliases()
    for value, undo in looks:
        before = aliases
        aliases, _ = aliases.look(value, "hand")
        assert parse_aliases(json.loads(json.dumps(aliases.to_json()))) == aliases
        if value == before.seen:
            assert aliases.wish == before.wish
        if aliases.wish is not None:
            aliases = aliases.answered(aliases.wish.release)
            assert aliases.look(value, "hand")[0].wish is None
        if undo:
            aliases = aliases.held()


def test_a_state_of_version_1_holds_what_its_alias_says() -> None:
    old = Rollout("m", "classic", champion=ref(1), applied=ref(1)).to_json()
    del old["aliases"]
    old |= {"schema_version": 1, "held": 2, "policy": {**old["policy"], "minimum_calls": 30}}
    state = parse_rollout(old)
    assert state.champion == ref(1)
    aliases, held = state.aliases.look(ref(3), "hand")
    assert (aliases.wish, held) == (None, ref(3))
