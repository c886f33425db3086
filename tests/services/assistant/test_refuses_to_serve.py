"""A release that cannot be proved is never served. Fakes: see this folder's conftest."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proa.errors import ProaError
from proa.release.reference import ReleaseRef
from proa_assistant.loading import load
from tests.processes import Processes, Started, wait_until
from tests.services.assistant.conftest import Bundled, make_release

Change = Callable[[Path, dict[str, Any]], None]


def _other_library(_: Path, manifest: dict[str, Any]) -> None:
    manifest["runtime"]["libraries"]["numpy"] = "1.0.0"


def _other_answers(staged: Path, _: dict[str, Any]) -> None:
    selftest = json.loads((staged / "selftest.json").read_text())
    selftest["cases"][0]["output"]["retrieved"][0] = "dict#0:00000000"
    (staged / "selftest.json").write_text(json.dumps(selftest))


def _other_prompt(staged: Path, _: dict[str, Any]) -> None:
    (staged / "prompt.txt").write_text("Passages from the answer.\n\nPassages:\n{context}")


def _other_guard(staged: Path, _: dict[str, Any]) -> None:
    text = (staged / "guard.yaml").read_text()
    (staged / "guard.yaml").write_text(text.replace("detect: card,", "detect: iban,"))


def _no_room(_: Path, manifest: dict[str, Any]) -> None:
    manifest["llm"]["context"]["retrieved"] = 2000


def _other_weights(_: Path, manifest: dict[str, Any]) -> None:
    manifest["llm"]["retrieval"]["embedder_digest"] = "sha256:" + "0" * 64


def _no_tokenizer(staged: Path, _: dict[str, Any]) -> None:
    (staged / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_library, r"numpy 1.0.0 pinned, \d"),
        (_other_answers, r"selftest case 0: retrieved = "),
        (_other_prompt, r"selftest case 0: packed = "),
        (_other_guard, r"selftest case 2: retrieved = .*expected"),
        (_no_room, r"context budgets \(2500 tokens\) and max_tokens \(64\) do not fit .* 2048"),
        (_other_weights, r"no weights with digest sha256:0000"),
        (_no_tokenizer, r"tokenizer.json is not a tokenizer"),
    ],
)
def test_what_is_pinned_must_hold(tmp_path: Path, change: Change, message: str) -> None:
    bundled = make_release(tmp_path, change=change)
    with pytest.raises(ProaError, match=message):
        load(
            bundled.ref,
            bundles=f"file://{bundled.store}",
            workdir=tmp_path / "work",
            weights=bundled.weights,
        )


def test_one_changed_byte_ends_the_process_with_78(
    tmp_path: Path, processes: Processes, start_assistant: Callable[..., Started]
) -> None:
    bundled = make_release(tmp_path / "release")
    index = next(file for file in bundled.manifest.files if file.path == "index.sqlite")
    digest = index.sha256.removeprefix("sha256:")
    blob = bundled.store / "sha256" / digest[:2] / digest
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)
    proc, _ = start_assistant(bundled, "http://127.0.0.1:9", ready=None)
    assert wait_until(lambda: proc.poll(), 20, what="the process ends") == 78
    lines = processes.log(proc).splitlines()
    assert len(lines) == 1
    assert "index.sqlite does not have digest" in lines[0]


def test_a_release_that_is_not_there_ends_the_process(
    bundled: Bundled, processes: Processes, start_assistant: Callable[..., Started]
) -> None:
    gone = replace(bundled, ref=ReleaseRef("python-help", 2, "sha256:" + "a" * 64))
    proc, _ = start_assistant(gone, "http://127.0.0.1:9", ready=None)
    assert wait_until(lambda: proc.poll(), 20, what="the process ends") == 78
    assert "is not in the store" in processes.log(proc)


def test_an_empty_key_is_a_users_mistake(
    bundled: Bundled, processes: Processes, start_assistant: Callable[..., Started]
) -> None:
    proc, _ = start_assistant(bundled, "http://127.0.0.1:9", key="", ready=None)
    assert wait_until(lambda: proc.poll(), 20, what="the process ends") == 2
    assert "the file is empty" in processes.log(proc)
