"""Which ledger a URL means, and what opening it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from proa.errors import InvalidInput, Unavailable
from proa.ledger.open import ledger_url, open_ledger


def test_a_file_holds_the_url_and_exactly_one_of_the_two_is_given(tmp_path: Path) -> None:
    file = tmp_path / "ledger-url"
    file.write_text("sqlite:////somewhere/ledger.db\n")
    assert ledger_url(None, file) == ledger_url("sqlite:////somewhere/ledger.db", None)
    for url, path in ((None, None), ("sqlite:///x", file)):
        with pytest.raises(InvalidInput, match="either --ledger URL or --ledger-file FILE"):
            ledger_url(url, path)
    with pytest.raises(InvalidInput, match="No such file"):
        ledger_url(None, tmp_path / "missing")


@pytest.mark.parametrize(
    "url", ["mysql://u:hunter2@h/db", "hunter2", "postgresql://u:hunter2@[h/db", "://hunter2"]
)
def test_a_url_that_is_no_ledger_s_is_refused_and_never_shown(url: str) -> None:
    with pytest.raises(InvalidInput, match="expected") as caught:
        open_ledger(url)
    assert "hunter2" not in str(caught.value)


def test_a_part_that_is_not_wanted_is_not_opened(tmp_path: Path) -> None:
    ledger = open_ledger(f"sqlite:///{tmp_path}/home/ledger.db")
    assert ledger.keys.list() == []
    assert ledger.unready() is None
    ledger.close()
    names = {path.name for path in (tmp_path / "home").iterdir()}
    assert "ledger.db" in names
    assert not [name for name in names if name.startswith(("journal", "evidence"))]


def test_a_server_that_is_away_is_told_and_never_waited_for() -> None:
    ledger = open_ledger("postgresql://u:hunter2@127.0.0.1:1/db")
    try:
        reason = ledger.unready() or ""
        assert "the ledger db at 127.0.0.1 cannot be read" in reason
        assert "hunter2" not in reason
        for ask in (ledger.calls.calls, ledger.journal.verify, ledger.keys.list):
            with pytest.raises(Unavailable, match="cannot be read"):
                ask()
    finally:
        ledger.close()


def test_on_one_machine_nobody_loads_psycopg() -> None:
    code = (
        "import sys, proa_gateway.__main__, proa_monitor.__main__, proa.embedded.local_keys;"
        "assert not {'psycopg', 'kubernetes'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)
