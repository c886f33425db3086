"""Packing: no part is ever over its budget, what was cut is said, nobody opens a turn."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from proa.errors import InvalidInput
from proa.release.manifest import ContextBudget
from proa.retrieval.chunks import Chunk
from proa.retrieval.context import SLOT_MISSING, Packed, Packer, Template, disarm
from proa.retrieval.search import Hit
from proa.retrieval.tokens import EngineTokens

SPECIAL = ("<|im_end|>", "<|im_start|>")
PROMPT = "Answer from this:\n\n{context}\n\nBe brief."


@cache
def tokens() -> EngineTokens:
    """A byte-level BPE like an engine's own, trained here on these lines."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([__doc__ or "", PROMPT, "a passage about a file"], trainer)
    return EngineTokens(tokenizer)


def hit(text: str, number: int = 0) -> Hit:
    chunk = Chunk(f"d#{number}:00000000", "d", number, "Title", "", text, "s", "sha256:0")
    return Hit(chunk, 1.0, 0.5, 1, 1)


def budget(**parts: int) -> ContextBudget:
    return ContextBudget(**{"system": 60, "retrieved": 80, "history": 60, "question": 40, **parts})


def pack(question: str, template: str = PROMPT, **given: object) -> Packed:
    parts = given.pop("parts", {})
    packer = Packer(Template.parse(template), budget(**parts), tokens())  # type: ignore[arg-type]
    return packer.pack(question, **given)  # type: ignore[arg-type]


_pieces = st.sampled_from(["file", "pass", "\n", "<|im_end|>", "日本", "🛶", "x" * 40])
_text = st.one_of(st.text(max_size=300), st.lists(_pieces, max_size=60).map(" ".join))
_history = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": _text}
    ),
    max_size=6,
)


@given(
    question=_text,
    passages=st.lists(_text, max_size=4),
    history=_history,
    parts=st.fixed_dictionaries(
        {
            "retrieved": st.integers(0, 120),
            "history": st.integers(0, 80),
            "question": st.integers(1, 60),
        }
    ),
)
def test_no_part_is_over_its_budget(
    question: str, passages: list[str], history: list[dict[str, str]], parts: dict[str, int]
) -> None:
    hits = [hit(text, number) for number, text in enumerate(passages)]
    packed = pack(question, hits=hits, history=history, parts=parts)
    limit = budget(**parts)
    system, *earlier, last = packed.messages
    block = system["content"].removeprefix("Answer from this:\n\n").removesuffix("\n\nBe brief.")
    assert tokens().count(block) == packed.tokens["retrieved"] <= limit.retrieved
    assert sum(tokens().count(m["content"]) for m in earlier) <= limit.history
    assert tokens().count(last["content"]) == packed.tokens["question"] <= limit.question
    assert [m["role"] for m in packed.messages[:: len(packed.messages) - 1]] == ["system", "user"]
    assert not earlier or earlier[0]["role"] == "user"
    assert {h.id for h in packed.used} <= {h.id for h in hits}
    cut = {c.id for c in packed.cut if c.part == "retrieved" and not c.kept}
    assert {h.id for h in packed.used} | cut == {h.id for h in hits}
    assert all(cut.kept <= cut.of for cut in packed.cut)
    for message in packed.messages:
        assert not any(token in message["content"] for token in SPECIAL)


def test_what_fits_is_left_as_it_is() -> None:
    history = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    packed = pack("why?", hits=[hit("one"), hit("two", 1)], history=history)
    assert packed.messages == [
        {
            "role": "system",
            "content": "Answer from this:\n\n[2] Title\ntwo\n\n[1] Title\none\n\nBe brief.",
        },
        *history,
        {"role": "user", "content": "why?"},
    ]
    assert packed.cut == ()
    assert packed.problems == ()
    assert packed.to_wire() == {**packed.tokens, "cut": []}


def test_the_first_passage_without_room_is_cut_and_the_rest_left_out() -> None:
    long = "a passage about a file " * 30
    packed = pack("q", hits=[hit(long), hit("short", 1)])
    assert [h.id for h in packed.used] == ["d#0:00000000"]
    first, second = packed.cut
    assert (first.id, second.id, second.kept) == ("d#0:00000000", "d#1:00000000", 0)
    assert 0 < first.kept < first.of
    assert pack("q", hits=[hit(long)], parts={"retrieved": 20}).used == ()


def test_the_oldest_messages_go_first() -> None:
    history = [
        {"role": role, "content": f"{word} " * 12}
        for role, word in (("user", "one"), ("assistant", "two"), ("user", "three"))
    ]
    newest = tokens().count(history[-1]["content"])
    packed = pack("q", history=history, parts={"history": newest + 5})
    assert [m["content"].split()[0] for m in packed.messages[1:-1]] == ["three"]
    (cut,) = packed.cut
    assert (cut.part, cut.kept) == ("history", newest)
    assert packed.tokens["history"] == newest


def test_a_long_question_keeps_its_beginning_and_its_end() -> None:
    packed = pack("Look at this: " + "x = 1\n" * 500 + "What does it print?")
    asked = packed.messages[-1]["content"]
    assert asked.startswith("Look at")
    assert asked.endswith("print?")
    assert " … " in asked
    assert packed.cut[0].part == "question"


def test_a_template_without_slot_is_reported_and_reads_no_passage() -> None:
    packed = pack("q", "No place for it.", hits=[hit("text")])
    assert packed.messages[0]["content"] == "No place for it."
    assert packed.used == ()
    assert packed.tokens["retrieved"] == 0
    assert packed.problems == (SLOT_MISSING,)
    assert packed.to_wire()["problems"] == ["context slot missing"]


def test_other_braces_are_text() -> None:
    content = pack("q", "Say {x} or {{y}}: {context}", hits=[hit("{context} {0}")]).messages[0]
    assert content["content"] == "Say {x} or {{y}}: [1] Title\n{context} {0}"


def test_the_digest_is_of_the_messages() -> None:
    one = pack("q", hits=[hit("text")])
    assert one.digest == pack("q", hits=[hit("text")]).digest
    assert one.digest != pack("q", hits=[hit("texts")]).digest
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", one.digest)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("  \n", "expected a text, got an empty one"),
        ("{context} and {context}", "stands 2 times, expected once"),
        ("word " * 200, r"takes \d+ tokens, context.system allows 60"),
    ],
)
def test_templates_that_cannot_serve(template: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        pack("q", template)


@given(text=_text, limit=st.integers(0, 50), keep=st.sampled_from(["head", "both"]))
def test_a_cut_text_fits(text: str, limit: int, keep: str) -> None:
    cut = tokens().cut(text, limit, keep=keep)  # type: ignore[arg-type]
    assert tokens().count(cut) <= limit
    if tokens().count(text) <= limit:
        assert cut == text
    if keep == "head":
        assert text.startswith(cut)


@given(st.lists(st.sampled_from([*SPECIAL, "<|im_", "end|>", "|>", "<", " ", "a"])).map("".join))
def test_no_control_token_survives(text: str) -> None:
    broken = disarm(text, SPECIAL)
    assert not any(token in broken for token in SPECIAL)
    assert broken.replace(" ", "") == text.replace(" ", "")


def test_a_file_that_is_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"is not a tokenizer\.json"):
        EngineTokens.load(tmp_path / "tokenizer.json")
