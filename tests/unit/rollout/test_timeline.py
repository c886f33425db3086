"""What ran when and why, from journal lines alone: held against a life that is simulated."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proa.errors import InvalidInput
from proa.http.clock import rfc3339
from proa.release.reference import ReleaseRef
from proa.rollout import story as telling
from proa.rollout.timeline import Running, at, replay
from proa.rollout.when import parse_when

START = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
REFS = [str(ReleaseRef("m", number, f"sha256:{number:064x}")) for number in range(1, 6)]


@dataclass
class Life:
    """A model's life: what really ran, written down as the controller writes it."""

    now: datetime = START
    champion: str | None = None
    candidate: str | None = None
    weight: int = 0
    lines: list[dict[str, Any]] = field(default_factory=list)
    truth: list[tuple[datetime, str | None, str | None, int]] = field(default_factory=list)

    def line(self, action: str, release: str | None, why: str = "", **details: Any) -> None:
        self.lines.append(
            {
                "seq": len(self.lines) + 1, "time": rfc3339(self.now), "model": "m",
                "action": action, "release": release, "who": "ann", "reason": why,
                "details": details,
            }
        )  # fmt: skip
        self.truth.append((self.now, self.champion, self.candidate, self.weight))

    def judged(self, release: str) -> None:
        digest = release.partition("@")[2]
        self.line(
            "judged", release, "good", candidate=digest, champion=None, value="pass",
            exam="sha256:" + "e" * 64, runtime="r", evidence="sha256:" + digest[-64:],
            reason="roc_auc +0.01 [0.001, 0.02], margin 0.02",
            checks=[{"name": "roc_auc", "kind": "comparison", "value": 0.75, "champion": 0.74}],
        )  # fmt: skip

    def act(self, what: str, release: str, weight: int) -> None:
        """One thing that happens; what the state does not allow does not."""
        if what == "judge":
            self.judged(release)
        elif what == "request" and self.candidate is None and release != self.champion:
            self.candidate, self.weight = release, 0
            self.line("requested", release, "please")
        elif self.candidate is not None and what == "step":
            self.weight = weight
            self.line("step", self.candidate, f"weight {weight} % in force")
        elif self.candidate is not None and what in ("aborted", "held"):
            gone, self.candidate, self.weight = self.candidate, None, 0
            self.line(what, gone, "worse")
        elif self.candidate is not None and what == "promoted":
            self.champion, self.candidate, self.weight = self.candidate, None, 0
            self.line("promoted", self.champion, "please")
        elif what in ("rolled_back", "undone") and self.champion is not None:
            self.champion, self.candidate, self.weight = release, None, 0
            self.line(what, release, "back")
        elif what == "refused":
            self.line("refused", release, "no", code="GateMissing", hint="proa gate m/1")


deeds = st.lists(
    st.tuples(
        st.sampled_from(["judge", "request", "step", "aborted", "held", "promoted", "promoted",
                         "rolled_back", "undone", "refused"]),
        st.sampled_from(REFS),
        st.integers(1, 99),
        st.integers(0, 600),
    ),
    max_size=40,
)  # fmt: skip


def lived(done: list[tuple[str, str, int, int]], *, back: int = 0) -> Life:
    life = Life()
    for number, (what, release, weight, seconds) in enumerate(done):
        life.now += timedelta(seconds=-seconds if back and number % back == back - 1 else seconds)
        life.act(what, release, weight)
    return life


@given(done=deeds, ask=st.integers(0, 100), later=st.integers(-5, 5))
@example(done=[("request", REFS[0], 1, 9), ("step", REFS[0], 5, 9), ("aborted", REFS[0], 1, 9)],
         ask=2, later=0)  # fmt: skip
def test_at_any_moment_it_says_what_ran(
    done: list[tuple[str, str, int, int]], ask: int, later: int
) -> None:
    life = lived(done)
    moments = [START, *(moment for moment, *_ in life.truth)]
    when = moments[ask % len(moments)] + timedelta(seconds=later)
    truth = next((t for t in reversed(life.truth) if t[0] <= when), (None, None, None, 0))
    answer = at(life.lines, when)
    running = answer.running
    assert (running.champion, running.candidate, running.weight) == truth[1:]
    if running.champion is not None:
        assert running.because is not None
        assert running.because.action in ("promoted", "rolled_back", "undone")
        assert life.lines[running.because.seq - 1]["release"] == running.champion
    if answer.verdict is not None:
        assert str(running.champion).endswith(answer.verdict["candidate"])
        assert answer.verdict["seq"] < (running.because.seq if running.because else 0)
    assert not any("stepped back" in note for note in answer.notes)


@given(done=deeds, back=st.integers(2, 6), share=st.floats(0, 1))
def test_when_the_clock_steps_back_order_is_by_number_and_the_answer_says_so(
    done: list[tuple[str, str, int, int]], back: int, share: float
) -> None:
    life = lived(done, back=back)
    if not life.lines:
        return
    when = START + timedelta(seconds=share * 6000)
    answer = at(life.lines, when)
    known = [line for line in life.lines if line["time"] <= rfc3339(when)]
    last = known[-1]["seq"] if known else 0
    assert (answer.last.seq if answer.last else 0) == last
    assert answer.running == replay(life.lines[:last])
    twice = any(line["time"] > rfc3339(when) for line in life.lines[:last])
    assert twice == any("stepped back" in note for note in answer.notes)


@given(done=deeds)
def test_the_story_of_any_life_can_be_told(done: list[tuple[str, str, int, int]]) -> None:
    life = lived(done)
    story = telling.why(life.lines)
    assert story
    assert all(sentence.strip() for sentence in story)
    if life.champion is None:
        assert story[0] == "Nothing has served yet."
    else:
        assert ReleaseRef.parse(life.champion).short in story[0]


def test_nothing_yet() -> None:
    answer = at([], START)
    assert (answer.running, answer.verdict, answer.model) == (Running(), None, None)
    assert answer.notes == ("nothing had been written yet",)
    life = Life()
    life.line("created", REFS[0])
    assert "its first line is of" in at(life.lines, START - timedelta(days=1)).notes[0]


def test_the_whole_story_of_a_promotion() -> None:
    life = Life()
    by = {"by": {"key": "k", "person": None}}
    life.line("created", REFS[0], "pipeline", **by)
    life.judged(REFS[0])
    life.act("request", REFS[0], 0)
    life.act("promoted", REFS[0], 0)
    life.now += timedelta(hours=1)
    life.line("created", REFS[1], "a better prompt", **by)
    life.line("refused", REFS[1], "m/2 has not been judged", code="GateMissing", hint="proa gate")
    life.judged(REFS[1])
    life.lines[-1]["details"]["champion"] = REFS[0].partition("@")[2]
    life.line("approved", REFS[1], "the figures are good")
    life.line("overridden", REFS[1], "it is urgent now", codes=["Frozen"],
              messages=["m is frozen until 2026-11-21T00:00:00Z"])  # fmt: skip
    life.act("request", REFS[1], 0)
    life.act("step", REFS[1], 10)
    life.now += timedelta(seconds=42)
    life.line("step_passed", REFS[1], "200 units, 0 errors")
    life.line("paused", REFS[1], "let me look")
    life.line("resumed", REFS[1])
    life.act("promoted", REFS[1], 0)
    life.line("revoked", REFS[0], "it leaks data", digest="d")
    story = telling.why(life.lines)
    assert story == [
        "m/2 became champion at 2026-11-20 11:00:42 UTC, in place of m/1.",
        "ann asked for it at 2026-11-20 11:00:00 UTC, because “please”.",
        "ann created it at 2026-11-20 11:00:00 UTC, because “a better prompt”.",
        "It had been refused at 2026-11-20 11:00:00 UTC (GateMissing): m/2 has not been judged.",
        (
            "The exam eeeeeeeeeeee had judged it pass against m/1 at 2026-11-20 11:00:00 UTC: "
            "roc_auc +0.01 [0.001, 0.02], margin 0.02."
        ),
        "  figures: roc_auc 0.75 against 0.74.",
        "ann approved it at 2026-11-20 11:00:00 UTC, because “the figures are good”.",
        "ann overrode Frozen, because “it is urgent now”.",
        "  overridden: m is frozen until 2026-11-21T00:00:00Z.",
        "At 10 % from 2026-11-20 11:00:00 UTC for 42 s: 200 units, 0 errors.",
        "ann paused it at 2026-11-20 11:00:42 UTC, because “let me look”.",
        "ann resumed it at 2026-11-20 11:00:42 UTC.",
        "Since then m/1 was revoked at 2026-11-20 11:00:42 UTC by ann, because “it leaks data”.",
    ]


def test_a_rollback_after_a_revocation_says_so() -> None:
    life = Life()
    for ref in REFS[:2]:
        life.act("request", ref, 0)
        life.act("promoted", ref, 0)
    life.line("revoked", REFS[1], "it leaks data", digest="d")
    life.line("rollback_requested", REFS[0], "m/2 was revoked")
    life.act("rolled_back", REFS[0], 0)
    story = telling.why(life.lines)
    assert story[0] == "m/2 was rolled back to m/1 at 2026-11-20 10:00:00 UTC."
    assert any("ann had revoked m/2" in sentence for sentence in story)


NOW = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-21T11:30:00Z", "2026-11-21T11:30:00"),
        ("2026-11-21T11:30:00+02:00", "2026-11-21T09:30:00"),
        ("2026-11-20", "2026-11-20T00:00:00"),
        ("2 hours ago", "2026-11-21T13:30:00"),
        ("1.5h", "2026-11-21T14:00:00"),
        ("90 Minutes ago", "2026-11-21T14:00:00"),
        ("3d", "2026-11-18T15:30:00"),
        ("a week", None),
        ("yesterday", "2026-11-20T00:00:00"),
        ("today", "2026-11-21T00:00:00"),
        ("now", "2026-11-21T15:30:00"),
        ("2026-11-21 11:30", None),
        ("2026-11-22", None),
        ("99999999999 weeks ago", None),
        ("", None),
        ("noon", None),
    ],
)
def test_times_as_people_give_them(text: str, moment: str | None) -> None:
    if moment is None:
        with pytest.raises(InvalidInput, match="at = "):
            parse_when(text, now=NOW)
    else:
        assert parse_when(text, now=NOW).isoformat() == f"{moment}+00:00"
