"""The init container's work: a release's bundle brought to a pod, whole and verified, or not.

Real: the process, both kinds of releases, the folder store, boto3. Faked: S3 (moto's server).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from proa.errors import Unavailable
from proa.release.blobs import FolderBlobs
from proa.release.bundle import BundleStore
from proa.release.fetch import fetch
from proa.release.reference import ReleaseRef
from proa.release.s3 import S3Blobs
from proa.release.transfer import copy_release
from proa_assistant.loading import load
from tests import classic_release
from tests.processes import free_port
from tests.services.assistant.conftest import Bundled, make_release
from tests.standins.s3 import S3, s3_server


def run(
    release: object, source: str, target: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """As the init container of charts/library does."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "proa.release.fetch", f"--release={release}"),
            *(f"--from={source}", f"--to=file://{target}"),
        ],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def classic(tmp_path_factory: pytest.TempPathFactory) -> classic_release.Built:
    return classic_release.build(tmp_path_factory.mktemp("classic"))


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Bundled:
    made = make_release(tmp_path_factory.mktemp("llm"))
    BundleStore(made.store).put_weights(made.weights / "standin-1")
    return made


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as started:
        yield started


def test_without_a_release_there_is_nothing_to_do(tmp_path: Path) -> None:
    done = run("", "s3://no-such-bucket", tmp_path / "to")
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "")
    assert "no release yet" in done.stdout
    assert not (tmp_path / "to").exists()


def test_a_folder_to_a_folder(classic: classic_release.Built, tmp_path: Path) -> None:
    done = run(classic.ref, f"file://{classic.store.blobs.root}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{classic.ref.short}: {len(classic.manifest.files) + 1} blobs" in done.stdout
    brought = BundleStore(tmp_path).materialize(classic.ref.digest, tmp_path / "laid")
    assert brought == classic.manifest
    again = run(classic.ref, f"file://{classic.store.blobs.root}", tmp_path)
    assert (again.returncode, " 0 brought" in again.stdout) == (0, True)


def test_an_llm_release_comes_with_its_weights_from_s3(
    llm: Bundled, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{s3.bucket()}/bundles"
    copy_release(llm.ref.digest, BundleStore(llm.store), BundleStore.from_url(url))
    done = run(llm.ref, url, tmp_path / "bundles", s3.environment)
    assert done.returncode == 0, done.stderr
    loaded = load(
        llm.ref,
        bundles=f"file://{tmp_path}/bundles",
        workdir=tmp_path / "releases",
        weights=tmp_path / "weights",
    )
    assert loaded.cases == 3  # retrieval with those weights gave what the release says


def test_weights_that_the_store_lacks_are_named(tmp_path: Path) -> None:
    made = make_release(tmp_path / "made")
    done = run(made.ref, f"file://{made.store}", tmp_path / "to")
    assert done.returncode == 0
    assert made.manifest.llm is not None
    assert made.manifest.llm.retrieval is not None
    assert f"weights {made.manifest.llm.retrieval.embedder_digest} are not" in done.stdout


def copied(classic: classic_release.Built, folder: Path) -> tuple[FolderBlobs, str]:
    """A store of its own with the release, and the digest of its model's file."""
    copy_release(classic.ref.digest, classic.store, BundleStore(folder))
    found = {file.path: file.sha256 for file in classic.manifest.files}["model/model.skops"]
    blobs = FolderBlobs(folder)
    own = blobs.place(found).read_bytes()
    blobs.place(found).unlink()  # it was a link to the other store's file
    blobs.place(found).write_bytes(own)
    return blobs, found


def test_a_damaged_blob_is_refused_by_name(classic: classic_release.Built, tmp_path: Path) -> None:
    blobs, model = copied(classic, tmp_path / "from")
    blobs.place(model).write_bytes(b"something else")
    done = run(classic.ref, f"file://{tmp_path}/from", tmp_path / "to")
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1
    for part in (str(classic.ref), "model/model.skops", model, f"{tmp_path}/from"):
        assert part in done.stderr
    assert not BundleStore(tmp_path / "to").has(classic.ref.digest)
    assert FolderBlobs(tmp_path / "to").size(model) is None


def test_what_arrived_stays_and_the_rest_follows(
    classic: classic_release.Built, tmp_path: Path
) -> None:
    blobs, model = copied(classic, tmp_path / "from")
    data = blobs.place(model).read_bytes()
    blobs.delete(model)
    done = run(classic.ref, f"file://{tmp_path}/from", tmp_path / "to")
    assert done.returncode == 4
    assert "model/model.skops" in done.stderr
    blobs.place(model).write_bytes(data)
    again = run(classic.ref, f"file://{tmp_path}/from", tmp_path / "to")
    assert again.returncode == 0
    assert " 2 brought" in again.stdout  # the model and, as always last, the manifest


@pytest.mark.parametrize(
    ("release", "source", "code", "told"),
    [
        ("flight-delay/1", "file:///nowhere", 2, "name/version@sha256"),
        (f"m/1@sha256:{'0' * 64}", "file:///nowhere", 4, "is not in the store /nowhere"),
        (f"m/1@sha256:{'0' * 64}", "gs://bucket", 2, "s3://bucket/prefix"),
    ],
)
def test_faults_are_told_in_one_line(
    tmp_path: Path, release: str, source: str, code: int, told: str
) -> None:
    done = run(release, source, tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)
    assert told in done.stderr


def test_another_model_under_the_name_is_refused(
    classic: classic_release.Built, tmp_path: Path
) -> None:
    other = ReleaseRef("other", 1, classic.ref.digest)
    done = run(other, f"file://{classic.store.blobs.root}", tmp_path)
    assert done.returncode == 5
    assert "is of 'flight-delay', expected 'other'" in done.stderr


def test_a_store_that_is_down_is_waited_for(
    classic: classic_release.Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    here = S3(f"http://127.0.0.1:{port}", {})
    for name, value in {
        "AWS_ENDPOINT_URL_S3": here.url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }.items():
        monkeypatch.setenv(name, value)
    server, pauses, said = ThreadedMotoServer("127.0.0.1", port, verbose=False), [], []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            server.start()
            bucket = here.bucket()
            source.blobs = S3Blobs(bucket)
            copy_release(classic.ref.digest, classic.store, source)

    source = BundleStore(S3Blobs("not-there-yet"))
    try:
        found = fetch(classic.ref, source, BundleStore(tmp_path), pause=pause, say=said.append)
    finally:
        server.stop()
    assert found.moved == len(classic.manifest.files) + 1
    assert pauses == [1.0, 2.0]
    assert "once more in 1 s" in said[0]


def test_a_store_that_stays_down_is_given_up(
    classic: classic_release.Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    pauses: list[float] = []
    source = BundleStore(S3Blobs("bucket"))
    with pytest.raises(Unavailable, match="s3://bucket"):
        fetch(classic.ref, source, BundleStore(tmp_path), pause=pauses.append, say=lambda _: None)
    assert len(pauses) == 5
