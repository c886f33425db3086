"""Chunking: nothing is lost, budgets hold, ids follow the content."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.errors import InvalidInput
from proa.retrieval.chunks import Chunk, Document, chunk_document, chunk_documents, sections


def count(texts: Sequence[str]) -> list[int]:
    """As BERT's tokenizer sees white space and punctuation: the sum over parts is the whole."""
    return [len(re.findall(r"\w+|[^\w\s]", text)) for text in texts]


def document(text: str, title: str = "T") -> Document:
    return Document(id="d", title=title, text=text, source="here")


def cut(text: str, max_tokens: int = 12, overlap: int = 0) -> list[Chunk]:
    return chunk_document(document(text), max_tokens=max_tokens, overlap=overlap, count=count)


_words = st.text(alphabet="abcdeXYZ09_", min_size=1, max_size=7)
_lines = st.lists(_words, min_size=0, max_size=14).map(" ".join)


@st.composite
def _texts(draw: st.DrawFn) -> str:
    """Paragraphs, indented blocks, headings of both kinds, headings with nothing below."""
    parts = []
    for _ in range(draw(st.integers(1, 8))):
        line = draw(_lines)
        match draw(st.integers(0, 4)):
            case 0:
                parts.append(f"{line}\n{draw(st.sampled_from('*=-~')) * max(4, len(line))}")
            case 1:
                parts.append(f"{'#' * draw(st.integers(1, 3))} {line}")
            case 2:
                parts.append(f"    {line}")
            case _:
                parts.append(line)
        parts.append(draw(st.sampled_from(["", "", draw(_lines)])))
    return "\n".join(parts)


@given(text=_texts(), max_tokens=st.integers(6, 40), overlap=st.integers(0, 5))
def test_no_word_is_lost_and_no_budget_broken(text: str, max_tokens: int, overlap: int) -> None:
    chunks = cut(text, max_tokens, overlap)
    kept = set(re.findall(r"\w+", " ".join(f"{c.heading} {c.text} {c.title}" for c in chunks)))
    assert set(re.findall(r"\w+", text)) <= kept
    assert all(size <= max_tokens for size in count([chunk.embedded for chunk in chunks]))
    assert all(chunk.text in text for chunk in chunks)
    assert all(chunk.text.strip() for chunk in chunks)


@given(text=st.text(max_size=400), max_tokens=st.integers(6, 30))
def test_any_text_is_cut_within_its_budget(text: str, max_tokens: int) -> None:
    chunks = cut(text, max_tokens, 2)
    assert all(size <= max_tokens for size in count([chunk.embedded for chunk in chunks]))
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    kept = re.sub(r"\s", "", "".join(f"{c.heading}{c.text}{c.title}" for c in chunks))
    assert all(word in kept for word in re.findall(r"[^\W_]+", text))


@given(text=_texts(), max_tokens=st.integers(8, 30), overlap=st.integers(1, 6))
def test_a_chunk_repeats_at_most_the_overlap(text: str, max_tokens: int, overlap: int) -> None:
    plain, repeated = cut(text, max_tokens), cut(text, max_tokens, overlap)
    extra = sum(count([c.text for c in repeated])) - sum(count([c.text for c in plain]))
    assert extra <= overlap * max(0, len(repeated) - 1)


def test_chunks_stand_below_their_headings() -> None:
    text = "intro\n\nOne\n****\n\na b\n\nTwo\n----\n\nc d\n\nThree\n*****\n\ne"
    assert [(c.heading, c.text) for c in cut(text, 20)] == [
        ("", "intro"),
        ("One", "a b"),
        ("One > Two", "c d"),
        ("Three", "e"),
    ]


def test_headings_that_take_too_much_room_become_text() -> None:
    chunks = cut("# One\n## Two words of a heading\n\nbody", max_tokens=12)
    assert [(c.heading, c.text) for c in chunks] == [
        ("", "# One\n## Two words of a heading\n\nbody")
    ]


def test_markdown_headings_and_fences() -> None:
    text = "# Title\n\nlead\n\n## Part ##\n\nbody\n\n```\n# no heading\n```\n"
    assert [(c.heading, c.text) for c in cut(text, 20)] == [
        ("Title", "lead"),
        ("Title > Part", "body\n\n```\n# no heading\n```"),
    ]


def test_a_heading_like_the_title_is_not_said_twice() -> None:
    chunks = chunk_document(
        document("# Pass\n\ntext", "pass"), max_tokens=9, overlap=0, count=count
    )
    assert [(c.heading, c.embedded) for c in chunks] == [("", "pass\ntext")]


def test_a_heading_with_nothing_below_is_a_text() -> None:
    assert [c.text for c in cut("# A\n\n# B\n\nbody")] == ["# A", "body"]
    assert sections("# A\n## B\nbody")[0].path == ("A", "B")


def test_paragraphs_stay_together_where_they_fit() -> None:
    chunks = cut("a b c\n\nd e f\n\ng h i\nj k\n", max_tokens=8)
    assert [c.text for c in chunks] == ["a b c\n\nd e f", "g h i\nj k"]


def test_overlap_repeats_whole_lines() -> None:
    chunks = cut("a b\nc d\ne f\ng h\n", max_tokens=7, overlap=2)
    assert [c.text for c in chunks] == ["a b\nc d\ne f", "e f\ng h"]


def test_ids_follow_the_content() -> None:
    before = cut("# A\n\none\n\n# B\n\ntwo")
    after = cut("# A\n\none\n\n# B\n\nthree")
    assert re.fullmatch(r"d#0:[0-9a-f]{8}", before[0].id)
    assert before[0] == after[0]
    assert before[1].id.startswith("d#1:")
    assert before[1].id != after[1].id
    assert before[1].digest != after[1].digest


@pytest.mark.parametrize(
    ("made", "settings", "message"),
    [
        (document("x"), (4, 4), "0 <= overlap < max_tokens"),
        (document("x"), (0, 0), "max_tokens = 0"),
        (document("x", "a long long title"), (3, 0), "title alone takes 4 tokens"),
        (Document("a b", "t", "x", "s"), (9, 0), "no white space"),
        (Document("a#b", "t", "x", "s"), (9, 0), "no '#'"),
        (document("\ud800"), (9, 0), "not valid Unicode"),
    ],
)
def test_what_cannot_be_cut(made: Document, settings: tuple[int, int], message: str) -> None:
    max_tokens, overlap = settings
    with pytest.raises(InvalidInput, match=re.escape(message)):
        chunk_document(made, max_tokens=max_tokens, overlap=overlap, count=count)


def test_an_id_given_twice_is_named() -> None:
    with pytest.raises(InvalidInput, match="'d' is given twice"):
        chunk_documents([document("a"), document("b")], max_tokens=9, overlap=0, count=count)
