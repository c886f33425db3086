"""What every verb needs: where the platform answers, the caller's key, one HTTP client."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import httpx
import orjson

from proa.embedded.home import Home
from proa.errors import Conflict, Unavailable, error_from_wire
from proa.fleet.preset import Endpoints, Preset
from proa.release.bundle import BundleStore
from proa.release.registry import Registry

_LEADER_SECONDS = 20.0
"""How long a controller may be without a leader before a request is given up."""
_LEADER_POLL_SECONDS = 0.3


class Wire:
    """One platform, as one caller may use it."""

    def __init__(
        self,
        endpoints: Endpoints,
        key: str,
        *,
        home: Home | None = None,
        preset: Preset | None = None,
        person: str | None = None,
    ) -> None:
        self.endpoints = endpoints
        self.home = home
        self.person = person
        self.registry = Registry(endpoints.mlflow)
        self._preset = preset
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

    @cached_property
    def bundles(self) -> BundleStore:
        """The bundle store.

        Raises:
            Conflict: it cannot be reached from here.
        """
        if not self.endpoints.bundles:
            raise Conflict(
                "this platform's bundle store cannot be reached from here: `bundles` is empty in "
                "the platform file",
                hint="name an s3:// store there, or run this in the cluster",
                code="bundles_away",
            )
        self._check_mounted()
        return BundleStore.from_url(self.endpoints.bundles)

    def _check_mounted(self) -> None:
        """A platform file of a cluster may name a folder: a claim, which must be mounted here.

        Without it a release would be stored where nobody finds it.
        """
        folder = self.endpoints.bundles.removeprefix("file://")
        of_cluster = self._preset is not None and self._preset.source.is_file()
        if of_cluster and folder.startswith("/") and not Path(folder).is_dir():
            raise Conflict(
                f"the bundle store {self.endpoints.bundles} is not mounted here",
                hint="mount its claim there (pipelines.bundles_claim), or use an s3:// store",
                code="bundles_away",
            )

    def _home(self, what: str) -> Home:
        """The home; `what` needs it, in the words of the message.

        Raises:
            Conflict: there is none.
        """
        if self.home is None:
            raise Conflict(
                f"{what} needs the home folder of an embedded platform, and this is one on a "
                "cluster",
                hint="name a folder with --home",
                code="no_home",
            )
        return self.home

    def _facts(self) -> Preset | None:
        """What else is known of the platform: engines, weights, prices."""
        if self._preset is not None:
            return self._preset
        return None if self.home is None else Preset.of(self.home)

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
        deadline = time.monotonic() + _LEADER_SECONDS
        while True:
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
            if answer.status_code < 400:
                return answer
            fault = error_from_wire(answer.status_code, decoded(answer))
            if fault.code != "not_leader" or time.monotonic() > deadline:
                raise fault
            # Nothing was done, and the connection is closed: the next one may reach the leader.
            time.sleep(_LEADER_POLL_SECONDS)


def decoded(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return answer.text
