"""Requests to predictors, assistants and engines: pooled connections, errors translated once.

Where a URL names a Service of a cluster, the call goes to one of its endpoints and is in flight
there until its answer's last byte.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from proa.errors import Unavailable

if TYPE_CHECKING:
    from proa_gateway.balance import Endpoint
    from proa_gateway.services import Service, Services

__all__ = ["Upstream"]

CONNECT_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 0.05
# Below the 5 s after which uvicorn (vLLM, BentoML) closes an idle connection: whoever closes
# first must be us, or a request meets a closing socket.
_IDLE_SECONDS: Final = 4.0
_UNIX: Final = "unix://"
# Nothing was sent yet: another endpoint, or the same once more, cannot do a thing twice.
_NOT_SENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_MOST_TRIES: Final = 3

_log = logging.getLogger(__name__)


class Upstream:
    """One pool for HTTP addresses and one for each unix socket.

    Args:
        timeout: seconds an answer may take; for a stream, seconds between two pieces of it.
        services: of the cluster this process runs in; None outside of one.
    """

    def __init__(self, *, timeout: float, services: Services | None = None) -> None:
        self._answer = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS)
        self._stream = aiohttp.ClientTimeout(sock_read=timeout, sock_connect=CONNECT_SECONDS)
        self._timeout = timeout
        self._services = services
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def post(
        self,
        url: str,
        path: str,
        *,
        body: bytes,
        headers: Mapping[str, str],
        stream: bool = False,
        what: str,
    ) -> aiohttp.ClientResponse:
        """Send `body` and return the answer as soon as its headers are there.

        A connection that cannot be made is tried again, at another endpoint where there is one; a
        request that may have been sent is not.

        Args:
            what: names the upstream in errors; its address is ours alone.

        Raises:
            Unavailable: nobody listens there, the connection broke, or it took too long.
        """
        timeout = self._stream if stream else self._answer
        service = None if self._services is None else self._services.of(url)
        if service is not None and service.known:
            return await self._post_to_one(service, path, body, headers, timeout, what)
        session, target = self._session(url), _target(url, path)
        try:
            try:
                return await session.post(target, data=body, headers=headers, timeout=timeout)
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(RETRY_SECONDS)
                return await session.post(target, data=body, headers=headers, timeout=timeout)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self.translate(error, what) from error

    async def _post_to_one(
        self,
        service: Service,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        what: str,
    ) -> aiohttp.ClientResponse:
        session = self._session(url="")
        tried: list[Endpoint] = []
        error: Exception | None = None
        for _ in range(_MOST_TRIES):
            endpoint = service.choose(tried)
            if endpoint is None:
                # All of them, or the only one, is restarting: once more, as without endpoints.
                await asyncio.sleep(RETRY_SECONDS)
                tried.clear()
                endpoint = service.choose()
            if endpoint is None:
                raise Unavailable(f"{what} has no endpoint that is ready", code="upstream_down")
            target = _target(f"http://{endpoint.place}", path)
            endpoint.in_flight += 1
            try:
                response = await session.post(target, data=body, headers=headers, timeout=timeout)
            except BaseException as fault:
                endpoint.in_flight -= 1
                if isinstance(fault, _NOT_SENT):
                    service.avoid(endpoint)
                    tried.append(endpoint)
                    error = fault
                    continue
                if isinstance(fault, (aiohttp.ClientError, TimeoutError)):
                    raise self.translate(fault, what) from fault
                raise
            _until_its_end(response, endpoint)
            return response
        assert error is not None
        raise self.translate(error, what) from error

    async def read(self, response: aiohttp.ClientResponse, *, what: str) -> bytes:
        """The whole body of an answer; the connection goes back to the pool.

        Raises:
            Unavailable: the connection broke, or it took too long.
        """
        try:
            return await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self.translate(error, what) from error

    def translate(self, error: Exception, what: str) -> Unavailable:
        """The error a caller is told; the log says which address it was."""
        _log.warning("%s: %s", what, str(error) or type(error).__name__)
        if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
            return Unavailable(f"{what} cannot be reached", code="upstream_down")
        if isinstance(error, TimeoutError):
            message = f"{what} did not answer within {self._timeout:g} s"
            return Unavailable(message, code="upstream_late")
        return Unavailable(f"{what} closed the connection", code="upstream_lost")

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()

    def _session(self, url: str) -> aiohttp.ClientSession:
        place = url if url.startswith(_UNIX) else "http"
        session = self._sessions.get(place)
        if session is None:
            session = self._sessions[place] = _new_session(place)
        return session


def _new_session(place: str) -> aiohttp.ClientSession:
    connector: aiohttp.BaseConnector
    if place.startswith(_UNIX):
        path = place.removeprefix(_UNIX)
        connector = aiohttp.UnixConnector(path, limit=0, keepalive_timeout=_IDLE_SECONDS)
    else:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept"),
        trust_env=False,
    )


def _until_its_end(response: aiohttp.ClientResponse, endpoint: Endpoint) -> None:
    """Count the call as in flight until its connection is free or closed."""

    def ended() -> None:
        endpoint.in_flight -= 1

    connection = response.connection
    if connection is None:  # the whole answer came at once
        ended()
    else:
        connection.add_callback(ended)


@lru_cache(maxsize=4096)
def _target(url: str, path: str) -> URL:
    base = "http://engine" if url.startswith(_UNIX) else url
    return URL(base + path, encoded=True)
