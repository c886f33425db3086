"""A stand-in for S3: moto's server, which speaks the real protocol over loopback.

Real: boto3, requests, signatures' presence, conditional writes, ranges, multi-part uploads. Faked:
the bucket is in this process's memory. Why: no S3 can be installed here in seconds.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from moto.server import ThreadedMotoServer

__all__ = ["S3", "s3_server"]


class S3(NamedTuple):
    """Where it listens, and the environment that leads boto3 to it."""

    url: str
    environment: dict[str, str]

    def bucket(self) -> str:
        """Make a bucket of its own; returns its name."""
        import boto3

        name = f"proa-{uuid.uuid4().hex[:12]}"
        session = boto3.session.Session("key", "secret", region_name="us-east-1")
        client = session.client("s3", endpoint_url=self.url)
        client.create_bucket(Bucket=name)
        client.close()
        return name


@contextmanager
def s3_server() -> Iterator[S3]:
    """Start one on a free port of the loopback interface."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        environment = {
            "AWS_ENDPOINT_URL_S3": url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        yield S3(url, environment)
    finally:
        server.stop()
