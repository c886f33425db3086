"""What every store of blobs promises: a folder, and S3 (moto's server, over the wire)."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from proa.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated, Unavailable
from proa.release.blobs import FolderBlobs, open_blobs
from proa.release.s3 import S3Blobs
from tests.standins.s3 import S3, s3_server

STORES = ("folder", "s3")
LARGE = os.urandom(1 << 20) * 13  # three parts of 5 MiB, the last one shorter


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as started:
        yield started


@pytest.fixture
def aws(s3: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3


Spoil = Callable[[str, bytes], None]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "folder":
        return FolderBlobs(tmp_path / "store")
    aws = request.getfixturevalue("aws")
    return S3Blobs(aws.bucket(), "team/bundles", part_bytes=5 << 20)


@pytest.fixture
def spoil(store: Any) -> Spoil:
    """Put other bytes under a digest, as a bad disk or a careless hand would."""

    def change(digest: str, data: bytes) -> None:
        if isinstance(store, FolderBlobs):
            path = store.place(digest)
            path.chmod(0o644)
            path.write_bytes(data)
        else:
            store._client.put_object(**store._at(digest), Body=data)

    return change


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def put(store: Any, folder: Path, data: bytes) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / hashlib.sha256(data).hexdigest()
    source.write_bytes(data)
    store.put(digest_of(data), source)
    return digest_of(data)


@pytest.mark.parametrize("data", [b"", b"some weights", LARGE], ids=["empty", "small", "large"])
def test_what_goes_in_comes_out(store: Any, tmp_path: Path, data: bytes) -> None:
    assert store.size(digest_of(data)) is None
    digest = put(store, tmp_path, data)
    assert store.size(digest) == len(data)
    assert store.read(digest) == data
    store.lay(digest, tmp_path / "laid")
    assert (tmp_path / "laid").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_is_not_there_is_named(store: Any, tmp_path: Path) -> None:
    digest = digest_of(b"nothing")
    for ask in (lambda: store.read(digest), lambda: store.lay(digest, tmp_path / "laid")):
        with pytest.raises(NotFound, match=digest):
            ask()
    assert not (tmp_path / "laid").exists()
    store.delete(digest)


@pytest.mark.parametrize("digest", ["", "sha256:ab", "md5:" + "0" * 64, "sha256:" + "/" * 64])
def test_what_is_no_digest_is_refused(store: Any, tmp_path: Path, digest: str) -> None:
    with pytest.raises(InvalidInput, match="expected sha256"):
        store.size(digest)
    with pytest.raises(InvalidInput, match="expected sha256"):
        store.put(digest, tmp_path)


@pytest.mark.parametrize("wrong", [b"", b"some weighty", b"some weights and more"])
def test_other_bytes_never_come_out(store: Any, spoil: Spoil, tmp_path: Path, wrong: bytes) -> None:
    digest = put(store, tmp_path, b"some weights")
    spoil(digest, wrong)
    for ask in (lambda: store.read(digest), lambda: store.lay(digest, tmp_path / "laid")):
        with pytest.raises(Conflict, match=digest) as caught:
            ask()
        assert caught.value.code == "corrupt"
    assert not (tmp_path / "laid").exists()


@pytest.mark.parametrize("data", [b"of two writers", LARGE], ids=["small", "large"])
def test_the_first_writer_wins(store: Any, spoil: Spoil, tmp_path: Path, data: bytes) -> None:
    """A second put changes nothing, not even when both saw an empty store."""
    digest = put(store, tmp_path, data)
    spoil(digest, b"what the first one wrote")
    before = next(blob for blob in store.stored() if blob.digest == digest)
    put(store, tmp_path, data)
    if isinstance(store, S3Blobs):
        store.size = lambda digest: None  # it looked before the other one wrote
        put(store, tmp_path, data)
    assert [blob for blob in store.stored() if blob.digest == digest] == [before]


def test_many_at_once(store: Any, tmp_path: Path) -> None:
    def both(number: int) -> bytes:
        digest = put(store, tmp_path / str(number), b"the same in every thread")
        store.lay(digest, tmp_path / f"laid-{number}")
        return (tmp_path / f"laid-{number}").read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(both, range(24))) == {b"the same in every thread"}
    assert len(list(store.stored())) == 1


def test_sweeping(store: Any, tmp_path: Path) -> None:
    began = time.time()
    one, two = put(store, tmp_path, b"one"), put(store, tmp_path, b"two two")
    found = {blob.digest: blob for blob in store.stored()}
    assert {digest: blob.size for digest, blob in found.items()} == {one: 3, two: 7}
    assert all(abs(blob.written - began) < 120 for blob in found.values())
    store.delete(one)
    assert [blob.digest for blob in store.stored()] == [two]
    assert store.size(one) is None


# ---- what only S3 can do wrong ----


def test_a_prefix_is_a_store_of_its_own(aws: S3, tmp_path: Path) -> None:
    bucket = aws.bucket()
    digest = put(open_blobs(f"s3://{bucket}/one"), tmp_path, b"data")
    assert open_blobs(f"s3://{bucket}/one/").size(digest) == 4
    assert open_blobs(f"s3://{bucket}/two").size(digest) is None
    assert open_blobs(f"s3://{bucket}").size(digest) is None


def test_an_unknown_bucket_is_named(aws: S3, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no-such-bucket"):
        S3Blobs("no-such-bucket").read(digest_of(b"x"))
    with pytest.raises(NotFound, match="no-such-bucket"):
        list(S3Blobs("no-such-bucket").stored())
    with pytest.raises(NotFound, match="no-such-bucket"):
        put(S3Blobs("no-such-bucket"), tmp_path, b"x")


def test_an_s3_that_is_down_is_unavailable(aws: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{sock.getsockname()[1]}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        with pytest.raises(Unavailable, match="s3://bucket"):
            S3Blobs("bucket").size(digest_of(b"x"))


def test_without_credentials_it_says_where_to_put_them(
    aws: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(Unauthenticated, match="credentials") as caught:
        S3Blobs("bucket").size(digest_of(b"x"))
    assert "AWS_SHARED_CREDENTIALS_FILE" in (caught.value.hint or "")


def test_credentials_come_from_a_file(
    aws: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket = aws.bucket()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    assert S3Blobs(bucket).size(digest_of(b"x")) is None


class Cutting:
    """A proxy before S3 that closes every answer with a body after `most` bytes, a few times."""

    def __init__(self, target: str, *, most: int, times: int, refuse: bool = False) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target, self._most, self._times, self._refuse = (host, int(port)), most, times, refuse
        self.cut = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            client.settimeout(10)
            request = b""
            while b"\r\n\r\n" not in request:
                request += client.recv(65536)
            if self._refuse:
                client.sendall(
                    b"HTTP/1.1 403 Forbidden\r\ncontent-type: application/xml\r\n"
                    b"content-length: 69\r\nconnection: close\r\n\r\n"
                    b"<Error><Code>AccessDenied</Code><Message>not for you</Message></Error>"
                )
                return
            server.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
            passed = 0
            while data := server.recv(65536):
                passed += len(data)
                client.sendall(data)
                if passed > self._most and self.cut < self._times:
                    self.cut += 1
                    return

    def close(self) -> None:
        self._listener.close()


@pytest.mark.parametrize(("times", "good"), [(3, True), (99, False)])
def test_a_broken_download_goes_on_where_it_broke(
    aws: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, times: int, good: bool
) -> None:
    bucket = aws.bucket()
    digest = put(S3Blobs(bucket), tmp_path, LARGE)
    proxy = Cutting(aws.url, most=2 << 20, times=times)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
    try:
        if good:
            S3Blobs(bucket).lay(digest, tmp_path / "laid")
            assert (tmp_path / "laid").read_bytes() == LARGE
            assert proxy.cut == times
        else:
            with pytest.raises(Unavailable, match=bucket):
                S3Blobs(bucket).lay(digest, tmp_path / "laid")
            assert not (tmp_path / "laid").exists()
            assert not (tmp_path / ".laid.part").exists()
    finally:
        proxy.close()


def test_no_access_is_told(aws: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Cutting(aws.url, most=0, times=0, refuse=True)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
    try:
        with pytest.raises(Forbidden, match="s3://bucket"):
            S3Blobs("bucket").read(digest_of(b"x"))
    finally:
        proxy.close()
