"""What the store of evidence promises, as files and as a table."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proa.errors import InvalidInput
from proa.ledger.open import Ledger
from proa.release.canonical import canonical_json, digest_bytes

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def test_a_text_is_kept_once_under_its_digest(
    new_url: Callable[[], str], open_url: Callable[[str], Ledger]
) -> None:
    url = new_url()
    store = open_url(url).evidence
    assert store.get(ONE) is None
    store.put(ONE, '{"a": 1}')
    store.put(ONE, "another")
    store.put(TWO, "x" * 3_000_000)
    other = open_url(url).evidence
    assert other.get(ONE) == '{"a": 1}'
    assert len(other.get(TWO) or "") == 3_000_000


@pytest.mark.parametrize("digest", ["", "1" * 64, "sha256:..", "sha256:" + "G" * 64, "../../etc"])
def test_what_is_no_digest_finds_nothing_and_is_not_kept(ledger: Ledger, digest: str) -> None:
    assert ledger.evidence.get(digest) is None
    with pytest.raises(InvalidInput, match="expected sha256:<64 hex digits>"):
        ledger.evidence.put(digest, "{}")


texts = st.text(max_size=200).map(lambda text: text.encode(errors="ignore").decode())


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.dictionaries(texts, texts | st.floats(-1e9, 1e9) | st.none(), max_size=5))
def test_character_by_character(ledger: Ledger, value: dict[str, object]) -> None:
    text = canonical_json(value).decode()
    digest = digest_bytes(text.encode())
    ledger.evidence.put(digest, text)
    assert ledger.evidence.get(digest) == text
