"""What every verb needs: where the platform answers, the caller's key, one HTTP client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import httpx
import orjson

from proa.embedded.home import Home
from proa.embedded.platform_file import read_platform
from proa.errors import Conflict, Unavailable, error_from_wire
from proa.release.bundle import BundleStore
from proa.release.registry import Registry

_PARTS = ("gateway", "controller", "monitor", "mlflow")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the platform answers. Two modes are two presets of these URLs."""

    gateway: str
    controller: str
    monitor: str
    mlflow: str
    bundles: str

    @classmethod
    def of(cls, home: Home) -> Self:
        """Those of the platform in a home.

        Raises:
            NotFound: no platform there; the hint is `proa up`.
        """
        urls = {part: read_platform(home).urls[part] for part in _PARTS}
        return cls(**urls, bundles=home.bundles.as_uri())


class Wire:
    """One platform, as one caller may use it."""

    def __init__(
        self,
        endpoints: Endpoints,
        key: str,
        *,
        home: Home | None = None,
        person: str | None = None,
    ) -> None:
        self.endpoints = endpoints
        self.home = home
        self.person = person
        self.registry = Registry(endpoints.mlflow)
        self.bundles = BundleStore.from_url(endpoints.bundles)
        self._key = key
        headers = {"authorization": f"Bearer {key}"}
        timeout = httpx.Timeout(30.0, read=600.0)
        self._http = httpx.Client(headers=headers, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _home(self) -> Home:
        if self.home is None:
            raise Conflict("pipelines run on the machine of an embedded platform: name its --home")
        return self.home

    def _controller(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the controller; a body names the person who asks, when one was given."""
        if isinstance(body, dict) and self.person is not None:
            body = {"as": self.person, **body}
        return self._ask(method, f"{self.endpoints.controller}{path}", body)

    def _gateway(
        self, method: str, path: str, body: Any = None, params: Mapping[str, str] | None = None
    ) -> Any:
        return self._ask(method, f"{self.endpoints.gateway}{path}", body, params=params)

    def _ask(
        self, method: str, url: str, body: Any = None, *, params: Mapping[str, str] | None = None
    ) -> Any:
        return self._send(method, url, body, params=params).json()

    def _send(
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        params: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        try:
            answer = self._http.request(
                method,
                url,
                content=None if body is None else orjson.dumps(body),
                headers={"content-type": "application/json", **(headers or {})},
                params=dict(params) if params else None,
            )
        except httpx.HTTPError as error:
            raise Unavailable(
                f"{url} did not answer: {type(error).__name__}", hint="proa status"
            ) from error
        if answer.status_code >= 400:
            raise error_from_wire(answer.status_code, decoded(answer))
        return answer


def decoded(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return answer.text
