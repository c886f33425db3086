"""`proa gc` takes what nothing needs and nothing else, in a folder and in S3."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proa.errors import NotFound
from proa.release.blobs import FolderBlobs
from proa.release.bundle import BundleStore, list_files
from proa.release.manifest import check_manifest
from proa.release.s3 import S3Blobs
from proa.release.sweep import plan, remove
from tests.services.assistant.conftest import make_release
from tests.standins.s3 import s3_server

LATER = time.time() + 3600  # everything written so far is older
EARLIER = time.time() - 3600


def put(store: BundleStore, folder: Path, files: dict[str, str]) -> str:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    value: dict[str, Any] = {
        "name": "m",
        "kind": "classic",
        "runtime": {"kind": "platform", "python": "3.11"},
        "classic": {"task": "binary", "model": "model", "columns": []},
        "files": [file.model_dump() for file in list_files(folder)],
    }
    return store.put(check_manifest(value), folder)


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: Any) -> Any:
    if request.param == "folder":
        yield BundleStore(tmp_path / "store")
        return
    with s3_server() as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        yield BundleStore(S3Blobs(s3.bucket(), "bundles"))


def test_what_is_shared_stays(store: BundleStore, tmp_path: Path) -> None:
    one = put(store, tmp_path / "1", {"model": "one", "index": "shared"})
    two = put(store, tmp_path / "2", {"model": "two", "index": "shared"})
    found = plan(store, [two], written_after=LATER)
    assert {blob.size for blob in found.kept} >= {3, 6}
    assert len(found.unneeded) == 2  # the first one's model and manifest
    assert found.freed == sum(blob.size for blob in found.unneeded)
    remove(store, found)
    store.materialize(two, tmp_path / "laid")
    with pytest.raises(NotFound):
        store.manifest(one)
    assert plan(store, [two], written_after=LATER).unneeded == ()


def test_what_is_young_stays_with_all_it_needs(tmp_path: Path) -> None:
    """Its manifest is new, its index is an old blob that another release brought."""
    blobs = FolderBlobs(tmp_path / "store")
    store = BundleStore(blobs)
    put(store, tmp_path / "1", {"model": "one", "index": "shared"})
    for stored in blobs.stored():
        os.utime(blobs.place(stored.digest), (EARLIER - 3600, EARLIER - 3600))
    young = put(store, tmp_path / "2", {"model": "two", "index": "shared"})
    remove(store, plan(store, [], written_after=EARLIER))
    store.materialize(young, tmp_path / "laid")
    assert len(list(blobs.stored())) == 3


def test_weights_stay_with_their_release(tmp_path: Path) -> None:
    made = make_release(tmp_path)
    store = BundleStore(made.store)
    listing = store.put_weights(made.weights / "standin-1")
    remove(store, plan(store, [made.ref.digest], written_after=LATER))
    store.materialize_weights(listing, tmp_path / "weights-again")
    remove(store, plan(store, [], written_after=LATER))
    assert list(store.blobs.stored()) == []


def test_a_release_that_is_gone_is_said(store: BundleStore, tmp_path: Path) -> None:
    found = plan(store, ["sha256:" + "0" * 64], written_after=LATER)
    assert (found.gone, found.unneeded) == (("sha256:" + "0" * 64,), ())


@settings(max_examples=40, deadline=None)
@given(
    releases=st.lists(
        st.dictionaries(
            st.sampled_from(["a", "b", "c"]), st.sampled_from(["x", "y", "z"]), min_size=1
        ),
        min_size=1,
        max_size=6,
    ),
    keep=st.sets(st.integers(0, 5)),
)
def test_kept_releases_are_whole_and_nothing_is_left_over(
    releases: list[dict[str, str]], keep: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("sweep")
    store = BundleStore(folder / "store")
    made = [
        put(store, folder / str(number), {"model": "m", **files})
        for number, files in enumerate(releases)
    ]
    roots = {made[number] for number in keep if number < len(made)}
    remove(store, plan(store, roots, written_after=LATER))
    wanted = set(roots)
    for digest in roots:
        manifest = store.materialize(digest, folder / "laid" / digest[7:])
        wanted |= {file.sha256 for file in manifest.files}
    assert {blob.digest for blob in store.blobs.stored()} == wanted
