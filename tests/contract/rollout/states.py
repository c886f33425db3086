"""What every adapter of the controller's `States` must do, as tests over `open_states`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from proa.release.reference import ReleaseRef
from proa.rollout.state import Rollout, settle
from proa_controller.states import States

Open = Callable[[], States]
"""A new process' view of the same store."""

LINE = {"key": "m:1:0", "action": "requested", "reason": "ünlike\0", "details": {"n": [1, None]}}
STATE = Rollout("m", "classic", champion=ReleaseRef("m", 3, "sha256:" + "a" * 64))


class StatesContract:
    """One class per adapter inherits these and provides `open_states`."""

    def test_nothing_is_known_at_first(self, open_states: Open) -> None:
        states = open_states()
        assert states.names() == []
        assert states.find("m") is None
        assert states.unwritten("m") == []

    def test_what_is_put_is_found_by_whoever_comes(self, open_states: Open) -> None:
        states = open_states()
        assert states.find("m") is None
        states.put(STATE, [LINE])
        assert (states.find("m"), states.unwritten("m")) == (STATE, [LINE])
        other = open_states()
        assert other.names() == ["m"]
        assert (other.find("m"), other.unwritten("m")) == (STATE, [LINE])

    def test_a_second_put_replaces_state_and_lines(self, open_states: Open) -> None:
        states = open_states()
        states.put(STATE, [LINE])
        after = settle(STATE, message="later")
        states.put(after)
        assert (states.find("m"), states.unwritten("m")) == (after, [])
        assert open_states().find("m") == after

    def test_models_are_kept_apart_and_in_order(self, open_states: Open) -> None:
        states = open_states()
        for name in ("b", "a", "c"):
            states.put(replace(STATE, model=name))
        assert states.names() == ["a", "b", "c"]
        assert open_states().find("b") == replace(STATE, model="b")
