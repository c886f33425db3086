"""Searching: any text is safe, both rankings count, excluded documents stay out."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proa.errors import Conflict
from proa.retrieval.search import MAX_TERMS, Searcher, fts_expression
from tests.standins.hashed_words import HashedWords

_fixtures = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@_fixtures
@given(
    question=st.one_of(
        st.text(max_size=200),
        st.lists(
            st.sampled_from(['"', "'", "*", "(", ")", "NEAR(", "AND", "OR", "NOT", ":", "^", "-",
                             "title:", "file", "_", "\x00", "a.b", ";", "--", "{", "}", "é"]),
            max_size=20,
        ).map(" ".join),
    )
)  # fmt: skip
def test_any_question_is_safe(searcher: Searcher, question: str) -> None:
    hits = searcher.search(question)
    assert len(hits) <= 3
    assert bool(hits) == bool(question.strip())
    assert len({hit.id for hit in hits}) == len(hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(-1.0001 <= hit.cosine <= 1.0001 for hit in hits)


def test_terms_are_quoted_and_bounded() -> None:
    assert fts_expression('What is "os.path.join"?') == '"is" OR "os.path.join"'
    assert fts_expression("the") == '"the"'
    assert fts_expression("?!") == ""
    assert fts_expression("File FILE file") == '"File"'
    assert fts_expression(" ".join(f"w{n}" for n in range(500))).count(" OR ") == MAX_TERMS - 1


def test_operators_of_fts_are_words(searcher: Searcher) -> None:
    assert searcher.search("NOT AND OR NEAR")[0].document == "quotes"


def test_names_with_dots_are_phrases(searcher: Searcher) -> None:
    hit = searcher.search("how to use os.path.join")[0]
    assert (hit.document, hit.lexical_rank) == ("os.path", 1)


def test_a_word_in_a_title_weighs_more(searcher: Searcher) -> None:
    assert searcher.search("pathlib path")[0].document == "paths"


def test_a_hit_says_where_it_came_from(searcher: Searcher) -> None:
    hit = searcher.search("writing to a file")[0]
    assert (hit.title, hit.heading, hit.text) == ("Files", "Writing", "write a file")
    assert hit.citation() == {
        "id": hit.chunk.id,
        "title": "Files: Writing",
        "source": "f.md",
        "score": hit.cosine,
    }


def test_excluded_documents_are_not_found(searcher: Searcher) -> None:
    assert {hit.document for hit in searcher.search("file", top_k=9)} >= {"files"}
    found = searcher.search("file", top_k=9, exclude={"files", "no such document"})
    assert found
    assert "files" not in {hit.document for hit in found}
    everything = {"files", "os.path", "quotes", "paths"}
    assert searcher.search("file", exclude=everything) == []


def test_the_same_question_finds_the_same(searcher: Searcher) -> None:
    assert searcher.search("open a path") == searcher.search("open a path")


def test_weights_choose_the_ranking(searcher: Searcher) -> None:
    only_words = Searcher(searcher.index, HashedWords(), vector_weight=0.0)
    hits = only_words.search("quoted")
    assert [(hit.document, hit.vector_rank) for hit in hits] == [("quotes", None)]
    only_vectors = Searcher(searcher.index, HashedWords(), lexical_weight=0.0)
    assert all(hit.lexical_rank is None for hit in only_vectors.search("quoted"))


def test_an_index_of_another_embedder_is_refused(searcher: Searcher) -> None:
    with pytest.raises(Conflict, match="the index was made with embedder sha256:eee") as raised:
        Searcher(searcher.index, HashedWords("sha256:" + "f" * 64))
    assert raised.value.code == "embedder_mismatch"
