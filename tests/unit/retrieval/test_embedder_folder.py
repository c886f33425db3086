"""A weights folder is verified before any library reads it; no model is needed for that."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from proa.errors import Conflict, InvalidInput, NotFound
from proa.retrieval.embedder import Embedder, find_named, find_weights, read_facts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "cache" / "tiny-1"
    made.mkdir(parents=True)
    about = {"dimension": 3, "max_tokens": 8, "output": "embedding"}
    (made / "embedder.json").write_text(json.dumps(about))
    (made / "model.onnx").write_bytes(b"graph")
    (made / "tokenizer.json").write_bytes(b"{}")
    listed = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in made.iterdir()
    }
    (made / "weights.json").write_text(json.dumps({"name": "tiny", "files": listed}))
    return made


def test_facts_of_a_whole_folder(folder: Path) -> None:
    facts = read_facts(folder)
    assert (facts.name, facts.dimension, facts.max_tokens) == ("tiny", 3, 8)
    expected = hashlib.sha256((folder / "weights.json").read_bytes()).hexdigest()
    assert facts.digest == f"sha256:{expected}"
    assert find_weights(folder.parent, facts.digest) == folder
    assert find_named(folder.parent, "tiny") == folder


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "embedder.json"])
def test_a_changed_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(Conflict, match=re.escape(name)) as raised:
        Embedder.load(folder)
    assert raised.value.code == "corrupt"
    assert "setup-engine" in (raised.value.hint or "")


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    with pytest.raises(Conflict, match=r"model\.onnx is missing"):
        Embedder.load(folder)


def test_what_is_no_embedder(folder: Path) -> None:
    with pytest.raises(NotFound, match=r"holds no weights\.json"):
        read_facts(folder.parent)
    (folder / "weights.json").write_text('{"name": "x", "files": []}')
    with pytest.raises(InvalidInput, match="holds no embedder"):
        read_facts(folder)
    with pytest.raises(InvalidInput, match="threads = 0"):
        Embedder.load(folder, threads=0)


def test_weights_that_are_not_here_are_named(folder: Path) -> None:
    with pytest.raises(NotFound, match="sha256:0000"):
        find_weights(folder.parent, "sha256:" + "0" * 64)
    with pytest.raises(NotFound, match=r"no embedder 'big' in .*: there are tiny"):
        find_named(folder.parent, "big")
    with pytest.raises(NotFound, match="there are none"):
        find_named(folder.parent / "nowhere", "big")
