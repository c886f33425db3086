"""The build context of a release's own requirements, and what the controller reads of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from proa.errors import InvalidInput, NotFound
from proa.release.bundle import BundleStore, list_files
from proa.release.canonical import digest_bytes
from proa.release.image import LABEL, runtime_image, write_context
from proa.release.manifest import Manifest, check_manifest

LOCK = b"scikit-learn==1.5.2 \\\n    --hash=sha256:" + b"0" * 64 + b"\n"


def staged(folder: Path, requirements: str | None = "requirements.lock") -> Manifest:
    folder.mkdir()
    (folder / "model").write_text("weights")
    (folder / "requirements.lock").write_bytes(LOCK)
    kind = "platform" if requirements is None else "requirements"
    return check_manifest(
        {
            "name": "m",
            "kind": "classic",
            "runtime": {"kind": kind, "python": "3.11", "requirements": requirements},
            "classic": {"task": "binary", "model": "model", "columns": []},
            "files": [file.model_dump() for file in list_files(folder)],
        }
    )


@pytest.mark.parametrize("registry", ["", "registry.example.org/ml/"])
def test_a_context_has_all_that_a_build_needs(tmp_path: Path, registry: str) -> None:
    manifest, store = staged(tmp_path / "in"), BundleStore(tmp_path / "store")
    store.put(manifest, tmp_path / "in")
    out = tmp_path / "out"
    made = write_context(manifest, store, out, release="m/7", registry=registry, version="1.2.3")
    hexdigest = digest_bytes(LOCK).removeprefix("sha256:")
    before = "registry.example.org/ml/" if registry else ""
    assert made.reference == f"{before}proa-runtime:1.2.3-{hexdigest[:16]}"
    assert (out / "requirements.lock").read_bytes() == LOCK
    assert json.loads((out / "proa-runtime.json").read_text())["lock"] == f"sha256:{hexdigest}"
    dockerfile = (out / "Dockerfile").read_text()
    assert f"ARG PREDICTOR={before}proa-predictor:1.2.3" in dockerfile
    assert "--require-hashes" in dockerfile
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.MULTILINE)
    assert all((out / name).is_file() for line in copied for name in line.split())
    assert "{" not in re.sub(r"\$\{\w+\}", "", dockerfile)  # no placeholder is left
    told = yaml.safe_load((out / "runtimes.yaml").read_text())
    assert told["kind"] == "ConfigMap"
    assert told["metadata"]["labels"] == {LABEL: "true"}
    assert told["data"] == {hexdigest: made.reference}


def test_one_lock_one_image(tmp_path: Path) -> None:
    one, two = staged(tmp_path / "one"), staged(tmp_path / "two")
    names = [runtime_image(m, registry="", version="1").reference for m in (one, two)]
    assert names[0] == names[1]
    assert runtime_image(one, registry="", version="2").reference != names[0]


def test_a_release_without_requirements_needs_none(tmp_path: Path) -> None:
    manifest = staged(tmp_path / "in", requirements=None)
    with pytest.raises(InvalidInput, match="platform's own packages"):
        runtime_image(manifest, registry="", version="1")


def test_a_lock_that_the_store_lacks_is_named(tmp_path: Path) -> None:
    manifest = staged(tmp_path / "in")
    with pytest.raises(NotFound, match=digest_bytes(LOCK)):
        write_context(manifest, BundleStore(tmp_path), tmp_path / "out", release="m/1", version="1")
