"""Blobs in S3, or in what speaks its API (MinIO, Ceph, …).

Credentials, region and endpoint come by Amazon's standard chain: AWS_SHARED_CREDENTIALS_FILE, a
service account's web identity, AWS_ENDPOINT_URL_S3, …; nothing of it is a setting of proa. A blob
is written under the condition that it is not there (`If-None-Match: *`), so that of two writers
one wins and nobody replaces what others have verified. A broken download goes on where it broke.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from proa.errors import Forbidden, NotFound, ProaError, Unauthenticated, Unavailable
from proa.release.blobs import Stored, arriving, corrupt, key_of, missing
from proa.release.canonical import digest_bytes

__all__ = ["S3Blobs"]

_PART: Final = 64 << 20
"""Bytes sent in one piece; larger files go in parts of this size."""
_CHUNK: Final = 1 << 20
_SMALL: Final = 256 << 10
_KEPT: Final = 63
_RESUMES: Final = 5
_TIMEOUTS: Final = {"connect_timeout": 10, "read_timeout": 60, "tcp_keepalive": True}
_ABSENT: Final = ("404", "NoSuchKey", "NotFound")
_DENIED: Final = ("403", "AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId")
_LOST_RACE: Final = ("412", "PreconditionFailed", "409", "ConditionalRequestConflict")


class S3Blobs:
    """Blobs below `prefix` in `bucket`. Safe to use from several threads.

    Args:
        part_bytes: files above are sent in parts of this size; S3 asks for 5 MiB or more.
    """

    def __init__(self, bucket: str, prefix: str = "", *, part_bytes: int = _PART) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._part_bytes = part_bytes
        self._small: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        retries = {"mode": "standard", "total_max_attempts": 3}
        config = Config(retries=retries, max_pool_connections=16, **_TIMEOUTS)
        # A session of its own: boto3's shared one is not safe to make clients of in threads.
        # Amazon's other tools read AWS_REGION, boto3 alone only AWS_DEFAULT_REGION.
        session = boto3.session.Session(region_name=os.environ.get("AWS_REGION") or None)
        return session.client("s3", config=config)

    def size(self, digest: str) -> int | None:
        """As `Blobs.size`."""
        try:
            with self._asked(digest):
                return int(self._client.head_object(**self._at(digest))["ContentLength"])
        except NotFound as error:
            if error.code == "unknown_bucket":
                raise
            return None

    def read(self, digest: str) -> bytes:
        """As `Blobs.read`; manifests are asked for at every look of the controller, and kept."""
        if digest in self._small:
            return self._small[digest]
        with self._asked(digest):
            data = bytes(self._client.get_object(**self._at(digest))["Body"].read())
        if digest_bytes(data) != digest:
            raise corrupt(digest, self.url)
        if len(data) <= _SMALL:
            self._small = {**dict(list(self._small.items())[-_KEPT:]), digest: data}
        return data

    def lay(self, digest: str, target: Path) -> None:
        """As `Blobs.lay`."""
        with arriving(target) as part:
            sha = hashlib.sha256()
            with part.open("wb") as file:
                for attempt in range(_RESUMES):
                    if self._stream(digest, file, sha, last=attempt == _RESUMES - 1):
                        break
            if f"sha256:{sha.hexdigest()}" != digest:
                raise corrupt(digest, self.url)

    def _stream(self, digest: str, file: Any, sha: Any, *, last: bool) -> bool:
        """Append what is still to come; False when the connection broke on the way."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        begin = file.tell()
        more = {"Range": f"bytes={begin}-"} if begin else {}
        with self._asked(digest):
            body = self._client.get_object(**self._at(digest), **more)["Body"]
            try:
                for chunk in body.iter_chunks(_CHUNK):
                    file.write(chunk)
                    sha.update(chunk)
            except (HTTPClientError, IncompleteReadError):
                if last:
                    raise
                return False
        return True

    def put(self, digest: str, source: Path) -> None:
        """As `Blobs.put`."""
        if self.size(digest) is not None:
            return
        with self._asked(digest, lost_race=True), source.open("rb") as file:
            if source.stat().st_size <= self._part_bytes:
                self._client.put_object(**self._at(digest), Body=file, IfNoneMatch="*")
            else:
                self._put_parts(digest, file)

    def _put_parts(self, digest: str, file: Any) -> None:
        at = self._at(digest)
        upload = {**at, "UploadId": self._client.create_multipart_upload(**at)["UploadId"]}
        try:
            parts: list[dict[str, Any]] = []
            while data := file.read(self._part_bytes):
                number = len(parts) + 1
                sent = self._client.upload_part(**upload, PartNumber=number, Body=data)
                parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            self._client.complete_multipart_upload(
                **upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
            )
        except BaseException:
            # Parts that nobody completes are paid for.
            self._client.abort_multipart_upload(**upload)
            raise

    def stored(self) -> Iterator[Stored]:
        """As `Sweep.stored`."""
        pages = self._client.get_paginator("list_objects_v2")
        with self._asked("the list of blobs"):
            for page in pages.paginate(Bucket=self._bucket, Prefix=f"{self._prefix}sha256/"):
                for item in page.get("Contents", ()):
                    name = str(item["Key"]).rpartition("/")[2]
                    written = item["LastModified"].timestamp()
                    yield Stored(f"sha256:{name}", int(item["Size"]), written)

    def delete(self, digest: str) -> None:
        """As `Sweep.delete`."""
        with self._asked(digest):
            self._client.delete_object(**self._at(digest))

    def _at(self, digest: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}{key_of(digest)}"}

    @contextmanager
    def _asked(self, what: str, *, lost_race: bool = False) -> Iterator[None]:
        """Translate what S3 says; with `lost_race`, that another writer was first is no error."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if lost_race and code in _LOST_RACE:
                return
            raise self._refusal(code, what, error) from error
        except BotoCoreError as error:
            raise self._failure(what, error) from error

    def _refusal(self, code: str, what: str, error: Exception) -> ProaError:
        if code == "NoSuchBucket":
            return NotFound(f"there is no bucket {self._bucket!r}: {error}", code="unknown_bucket")
        if code in _ABSENT:
            return missing(what, self.url)
        if code in _DENIED:
            return Forbidden(f"{self.url} refuses access to {what}: {error}")
        return Unavailable(f"{self.url}, {what}: {error}")

    def _failure(self, what: str, error: Exception) -> ProaError:
        if "Credential" in type(error).__name__ or "Token" in type(error).__name__:
            return Unauthenticated(
                f"{self.url}: {error}",
                hint="give credentials in AWS_SHARED_CREDENTIALS_FILE or by the service account",
            )
        return Unavailable(f"{self.url} does not answer ({what}): {error}")
