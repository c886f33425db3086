"""The llm pipeline up to the staged release: real `kfp.local`, real MiniLM, SmolLM2's tokenizer.

No platform runs: `until="stage"` needs none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proa.errors import InvalidInput, NotFound
from proa.guard.engine import Guard
from proa.guard.prepare import prepare
from proa.release.bundle import list_files
from proa.release.canonical import digest_file
from proa.release.manifest import check_manifest
from proa.release.selftest import parse_cases, run_cases
from proa.retrieval.context import Packer, Template
from proa.retrieval.search import Searcher
from proa.retrieval.tokens import EngineTokens
from proa_pipelines import runner

pytestmark = pytest.mark.engine

CODE = """
from proa.retrieval.chunks import Document

def load():
    items = TEXTS.items()
    return [Document(f"tea/{name[:5].lower()}", name, text, "tea.md") for name, text in items]

def wrong():
    return ["text"]

TEXTS = {
    "Green tea": "# Water\\n\\n80 degrees.\\n\\n# Time\\n\\nTwo minutes.",
    "Black tea": "# Water\\n\\n95 degrees.\\n\\n# Time\\n\\nFour minutes.",
}
"""
SETTINGS = """
version: 1
name: tea
kind: llm
documents: corpus:load
chunking: {max_tokens: 60, overlap: 0}
retrieval: {embedder: all-minilm-l6-v2, top_k: 2}
prompt: prompt.txt
context: {system: 40, retrieved: 200, history: 100, question: 100}
engine: smollm2
guard: guard.yaml
"""
GUARD = """
version: 1
refusals: {default: "No."}
rules: [{id: inject, where: [input], detect: injection, action: block}]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "tea"
    folder.mkdir()
    (folder / "corpus.py").write_text(CODE)
    (folder / "proa.yaml").write_text(SETTINGS)
    (folder / "guard.yaml").write_text(GUARD)
    (folder / "prompt.txt").write_text("Use this:\n{context}\n")
    (folder / "bare.txt").write_text("Answer.\n")
    return folder


def run(project: Path, home: Path, **overrides: str) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    result = runner.run(project, home, overrides=overrides, until="stage", say=said.append)
    return result, said


def steps(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {step["step"]: step for step in result["steps"]}


def test_documents_become_a_release(project: Path, tmp_path: Path) -> None:
    result, _ = run(project, tmp_path / "home")
    assert [step["step"] for step in result["steps"]] == ["documents", "chunks", "index", "stage"]
    folder = Path(result["staged"])
    files = [file.model_dump() for file in list_files(folder)]
    body = json.loads((folder / "manifest.json").read_bytes())
    manifest = check_manifest({**body, "files": files})
    spec = manifest.llm
    assert spec is not None
    assert spec.retrieval is not None
    assert (manifest.data.rows, manifest.metrics["chunks"]) == (2, 4) if manifest.data else False
    assert spec.prompt.name == "tea.system"
    assert spec.engine.base_model == "smollm2-135m-instruct"
    assert spec.chat_template == digest_file(folder / "chat_template.jinja")
    assert (folder / "code" / "corpus.py").read_text() == CODE
    assert spec.retrieval.top_k == 2

    from proa.embedded.engine_choice import weights_cache
    from proa.guard.policy import load_policy

    searcher = Searcher.from_manifest(spec.retrieval, folder=folder, weights=weights_cache({}))
    assert searcher.search("how hot is the water for black tea?")[0].id.startswith("tea/")
    packer = Packer(
        Template.parse((folder / spec.prompt.path).read_text()),
        spec.context,
        EngineTokens.load(folder / spec.tokenizer),
    )
    guard = Guard(load_policy(folder / "guard.yaml"))
    cases = parse_cases(json.loads((folder / "selftest.json").read_bytes()))
    answered = run_cases(
        cases,
        lambda given: prepare(
            [{"role": "user", "content": given["question"]}],
            guard=guard,
            searcher=searcher,
            packer=packer,
        ).to_selftest(),
    )
    assert answered == len(cases) == 8
    assert sum(case.output["packed"] is None for case in cases) == 1


def test_the_same_documents_give_the_same_index_without_embedding(
    project: Path, tmp_path: Path
) -> None:
    one, _ = run(project, tmp_path / "home")
    index = (Path(one["staged"]) / "index" / "index.sqlite").read_bytes()
    again, _ = run(project, tmp_path / "home")
    elsewhere, _ = run(project, tmp_path / "other")
    assert (Path(again["staged"]) / "index" / "index.sqlite").read_bytes() == index
    assert (Path(elsewhere["staged"]) / "index" / "index.sqlite").read_bytes() == index
    counts = [(steps(r)["index"]["embedded"], steps(r)["index"]["reused"]) for r in (one, again)]
    assert counts == [(4, 0), (0, 4)]


def test_only_what_changed_is_embedded_again(project: Path, tmp_path: Path) -> None:
    run(project, tmp_path / "home")
    (project / "corpus.py").write_text(CODE.replace("Four minutes", "Five minutes"))
    result, _ = run(project, tmp_path / "home")
    assert (steps(result)["index"]["embedded"], steps(result)["index"]["reused"]) == (1, 3)


def test_a_broken_last_index_is_no_obstacle(project: Path, tmp_path: Path) -> None:
    last = tmp_path / "home" / "projects" / "tea" / "index.sqlite"
    last.parent.mkdir(parents=True)
    last.write_bytes(b"not an index")
    result, said = run(project, tmp_path / "home")
    assert steps(result)["index"]["embedded"] == 4
    assert any("the last index is not used" in line for line in said)


def test_a_prompt_without_slot_is_staged_and_reported(project: Path, tmp_path: Path) -> None:
    result, said = run(project, tmp_path / "home", prompt="bare.txt")
    assert steps(result)["stage"]["problems"] == ["context slot missing"]
    assert any("WARNING: bare.txt: context slot missing" in line for line in said)
    body = json.loads((Path(result["staged"]) / "manifest.json").read_bytes())
    assert body["parameters"]["prompt_problems"] == ["context slot missing"]


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"documents": "corpus:wrong"}, InvalidInput, "item 0 is a str"),
        ({"retrieval.embedder": "big"}, NotFound, "no embedder 'big'"),
        ({"engine": "llama"}, NotFound, "no engine 'llama'"),
        ({"chunking.max_tokens": "900"}, InvalidInput, "reads 256 tokens"),
        ({"context.retrieved": "1900"}, InvalidInput, "at most the engine's 2048 tokens"),
        ({"context.system": "2"}, InvalidInput, "context.system allows 2"),
    ],
)
def test_mistakes_are_named(
    project: Path, tmp_path: Path, overrides: dict[str, str], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        run(project, tmp_path / "home", **overrides)
