"""`decide`: the whole truth table, and the two properties that everything else leans on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.release.reference import ReleaseRef
from proa.rollout.decide import decide


def ref(version: int) -> ReleaseRef:
    return ReleaseRef("m", version, f"sha256:{version:064x}")


A, B, C = ref(1), ref(2), ref(3)


@pytest.mark.parametrize(
    ("alias", "running", "applied", "kind", "release"),
    [
        (None, None, None, "steady", None),
        (None, A, A, "steady", None),
        (A, A, A, "steady", None),
        (A, None, None, "request", A),
        (B, A, A, "request", B),
        (None, A, B, "follow", A),
        (A, A, B, "follow", A),
        (B, A, B, "follow", A),
        (C, A, B, "follow", A),
        (None, A, None, "follow", A),
        (None, None, A, "steady", None),
        (A, None, A, "steady", None),
        (B, None, A, "request", B),
    ],
)
def test_truth_table(
    alias: ReleaseRef | None,
    running: ReleaseRef | None,
    applied: ReleaseRef | None,
    kind: str,
    release: ReleaseRef | None,
) -> None:
    decision = decide(alias, running, applied)
    assert (decision.kind, decision.release) == (kind, release)


refs = st.sampled_from([None, A, B, C])


@given(refs, refs, refs)
def test_a_human_change_of_the_template_always_wins(
    alias: ReleaseRef | None, running: ReleaseRef | None, applied: ReleaseRef | None
) -> None:
    decision = decide(alias, running, applied)
    if running is not None and running != applied:
        assert decision.kind == "follow"
        assert decision.release == running


@given(refs, refs)
def test_acting_on_the_decision_ends_in_steady(
    alias: ReleaseRef | None, running: ReleaseRef | None
) -> None:
    applied = running
    decision = decide(alias, running, applied)
    if decision.kind == "request":
        applied = running = decision.release
    assert decide(alias, running, applied).kind == "steady"
