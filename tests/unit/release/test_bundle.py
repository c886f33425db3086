"""Bundles: whole or nothing, verified at every step, shared blobs stored once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proa.errors import Conflict, InvalidInput, NotFound
from proa.release.bundle import BundleStore, list_files
from proa.release.manifest import Manifest, check_manifest


def stage(folder: Path, text: str = "weights") -> Manifest:
    (folder / "model").mkdir(parents=True, exist_ok=True)
    (folder / "model" / "model.skops").write_text(text)
    (folder / "profile.json").write_text("{}")
    return check_manifest(
        {
            "name": "m",
            "kind": "classic",
            "runtime": {"kind": "platform", "python": "3.11"},
            "classic": {"task": "binary", "model": "model/model.skops", "columns": []},
            "profile": "profile.json",
            "files": [file.model_dump() for file in list_files(folder)],
        }
    )


def blob(store: BundleStore, digest: str) -> Path:
    hexdigest = digest.removeprefix("sha256:")
    return store.blobs.root / "sha256" / hexdigest[:2] / hexdigest


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    store, manifest = BundleStore(tmp_path / "store"), stage(tmp_path / "in")
    digest = store.put(manifest, tmp_path / "in")
    assert digest == manifest.digest
    assert store.materialize(digest, tmp_path / "out") == manifest
    assert (tmp_path / "out" / "model" / "model.skops").read_text() == "weights"
    assert store.materialize(digest, tmp_path / "out") == manifest


def test_releases_share_the_blobs_they_have_in_common(tmp_path: Path) -> None:
    store = BundleStore(tmp_path / "store")
    for number, text in enumerate(["one", "two"]):
        folder = tmp_path / str(number)
        store.put(stage(folder, text), folder)
    blobs = [path for path in (store.blobs.root / "sha256").rglob("*") if path.is_file()]
    assert len(blobs) == 2 + 2 + 1  # two manifests, two models, one profile


def test_puts_and_reads_at_once_see_whole_blobs(tmp_path: Path) -> None:
    store, manifest = BundleStore(tmp_path / "store"), stage(tmp_path / "in")

    def both(number: int) -> str:
        digest = store.put(manifest, tmp_path / "in")
        store.materialize(digest, tmp_path / "out" / str(number % 3))
        return digest

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(both, range(24))) == {manifest.digest}
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["model/model.skops", "manifest"])
def test_one_changed_byte_is_refused(tmp_path: Path, name: str) -> None:
    store, manifest = BundleStore(tmp_path / "store"), stage(tmp_path / "in")
    digest = store.put(manifest, tmp_path / "in")
    target = digest if name == "manifest" else manifest.files[0].sha256
    path = blob(store, target)
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(Conflict, match="digest"):
        store.materialize(digest, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_blob_names_its_file(tmp_path: Path) -> None:
    store, manifest = BundleStore(tmp_path / "store"), stage(tmp_path / "in")
    digest = store.put(manifest, tmp_path / "in")
    blob(store, manifest.files[0].sha256).unlink()
    with pytest.raises(NotFound, match=r"model/model\.skops"):
        store.materialize(digest, tmp_path / "out")


def test_a_file_changed_after_listing_is_not_stored(tmp_path: Path) -> None:
    store, manifest = BundleStore(tmp_path / "store"), stage(tmp_path / "in")
    (tmp_path / "in" / "profile.json").write_text("[]")
    with pytest.raises(InvalidInput, match=r"profile\.json changed"):
        store.put(manifest, tmp_path / "in")


@pytest.mark.parametrize("url", ["s3://", "gs://bucket", "relative/path", "file://host/x", ""])
def test_other_urls_are_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidInput, match="file:///absolute"):
        BundleStore.from_url(url)


def test_an_unknown_digest_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        BundleStore(tmp_path).manifest("sha256:" + "0" * 64)
