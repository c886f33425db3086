"""The Kubernetes API as plain JSON objects: one connection pool, errors of our own family.

The official client's generated classes cost 60 MB and hide what is on the wire. It is used to read
a kubeconfig alone (clusters, contexts, exec plugins); in a pod it is not even imported.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

import orjson
import urllib3

from proa.errors import (
    Conflict,
    Internal,
    InvalidInput,
    NotFound,
    ProaError,
    Refused,
    Unauthenticated,
    Unavailable,
)

__all__ = ["KINDS", "Cluster", "Object", "Patch", "connect"]

Object = dict[str, Any]
"""A Kubernetes object as JSON."""

Patch = Literal["merge", "json", "strategic", "apply"]

KINDS: Final[Mapping[str, str]] = {
    "configmaps": "/api/v1",
    "events": "/api/v1",
    "namespaces": "/api/v1",
    "pods": "/api/v1",
    "secrets": "/api/v1",
    "services": "/api/v1",
    "deployments": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "jobs": "/apis/batch/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "endpointslices": "/apis/discovery.k8s.io/v1",
}
"""Plural name of a kind → its API's path."""

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_SECONDS: Final = 60.0
_CONNECTIONS: Final = 32
_PATCHES: Final[Mapping[Patch, str]] = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
_CONNECT_SECONDS: Final = 2.0
_READ_SECONDS: Final = 10.0
_SILENCE_SECONDS: Final = 15.0
"""How much longer than asked a watch may stay open before its server is taken for dead."""


@dataclass(frozen=True)
class Cluster:
    """One API server and who we are to it. Safe to use from any thread.

    Attributes:
        may_write: asked before every write: seconds for which it is still allowed, 0 when it is
            not (see `fenced`); None allows every write.
    """

    _pool: urllib3.PoolManager
    _host: str
    _authorization: Callable[[], str | None]
    may_write: Callable[[], float] | None = None

    def fenced(self, may_write: Callable[[], float]) -> Cluster:
        """The same, writing only while `may_write` answers with seconds left.

        A write gets no more time than that, so that none is under way when another may write.
        """
        return replace(self, may_write=may_write)

    def get(self, kind: str, namespace: str, name: str) -> Object:
        """One object.

        Raises:
            NotFound: there is none.
        """
        return self._ask("GET", _path(kind, namespace, name))

    def find(self, kind: str, namespace: str, name: str) -> Object | None:
        """One object, or None."""
        try:
            return self.get(kind, namespace, name)
        except NotFound:
            return None

    def list(
        self, kind: str, namespace: str | None, *, label: str | None = None, name: str | None = None
    ) -> tuple[list[Object], str]:
        """All objects of a kind, newest state, and the resource version a watch goes on from.

        Args:
            namespace: None for all, and for kinds without one.
            label: a label selector.
            name: only the object of this name (what a Role with `resourceNames` allows).
        """
        items: list[Object] = []
        query = _query(label, name) | {"limit": "500"}
        while True:
            page = self._ask("GET", _path(kind, namespace), query)
            items += page["items"]
            following = page["metadata"].get("continue")
            if not following:
                return items, page["metadata"]["resourceVersion"]
            query["continue"] = following

    def watch(
        self,
        kind: str,
        namespace: str | None,
        *,
        since: str,
        label: str | None = None,
        name: str | None = None,
        seconds: int = 60,
    ) -> Generator[tuple[str, Object], None, None]:
        """Events (`ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`; object) since a resource version.

        Ends after `seconds`; go on from the last object's resource version.

        Raises:
            Conflict (`expired`): that version is too old: list again.
        """
        query = _query(label, name) | {
            "watch": "true",
            "resourceVersion": since,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        path = _path(kind, namespace)
        answer = self._send("GET", path, query, read=seconds + _SILENCE_SECONDS, stream=True)
        try:
            for event in _lines(answer):
                if event["type"] == "ERROR":
                    raise _error("watch", path, event["object"].get("code", 500), event["object"])
                yield event["type"], event["object"]
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(f"the Kubernetes API went away: {error}") from error
        finally:
            answer.close()

    def create(self, kind: str, namespace: str, body: Object, *, manager: str) -> Object:
        """Make an object.

        Raises:
            Conflict (`already_exists`): there is one of this name.
        """
        return self._write("POST", _path(kind, namespace), body, {"fieldManager": manager})

    def replace(self, kind: str, namespace: str, body: Object, *, manager: str) -> Object:
        """Write a whole object; with `metadata.resourceVersion` only over that version.

        Raises:
            Conflict: it is another version now.  NotFound: there is none.
        """
        path = _path(kind, namespace, body["metadata"]["name"])
        return self._write("PUT", path, body, {"fieldManager": manager})

    def patch(
        self,
        kind: str,
        namespace: str,
        name: str,
        body: Any,
        *,
        manager: str,
        how: Patch = "merge",
        force: bool = False,
        sub: str | None = None,
    ) -> Object:
        """Change an object; with `metadata.resourceVersion` in the body only that version.

        Args:
            how: the body's form; `apply` is server-side apply.
            force: take over fields that another manager owns (`apply`).
            sub: a subresource (`status`, `scale`).

        Raises:
            Conflict: another version now, or fields of another manager.  NotFound: there is none.
        """
        query = {"fieldManager": manager} | ({"force": "true"} if force else {})
        path = _path(kind, namespace, name) + (f"/{sub}" if sub else "")
        return self._write("PATCH", path, body, query, _PATCHES[how])

    def delete(self, kind: str, namespace: str, name: str) -> bool:
        """Delete an object and, in the background, what it owns; whether there was one."""
        try:
            path = _path(kind, namespace, name)
            self._write("DELETE", path, {"propagationPolicy": "Background"}, {})
        except NotFound:
            return False
        return True

    def _write(
        self,
        verb: str,
        path: str,
        body: Any,
        query: Mapping[str, str],
        content: str = "application/json",
    ) -> Object:
        seconds = _READ_SECONDS
        if self.may_write is not None:
            seconds = min(seconds, self.may_write())
            if seconds <= 0:
                raise Unavailable("this process may not write: it does not lead", code="not_leader")
        return self._ask(verb, path, query, body, content, read=seconds)

    def _ask(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = "application/json",
        read: float = _READ_SECONDS,
    ) -> Object:
        answer = self._send(verb, path, query or {}, body, content, read=read)
        try:
            value: Object = orjson.loads(answer.data)
        except (orjson.JSONDecodeError, urllib3.exceptions.HTTPError) as error:
            raise Unavailable(f"the Kubernetes API: {verb} {path}: {error}") from error
        return value

    def _send(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str],
        body: Any = None,
        content: str = "application/json",
        *,
        read: float,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        headers = {"accept": "application/json", "user-agent": "proa"}
        authorization = self._authorization()
        if authorization is not None:
            headers["authorization"] = authorization
        if body is not None:
            headers["content-type"] = content
        url = f"{self._host}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            answer = self._pool.request(
                verb,
                url,
                body=None if body is None else orjson.dumps(body),
                headers=headers,
                timeout=urllib3.Timeout(connect=min(_CONNECT_SECONDS, read), read=read),
                retries=False,
                preload_content=not stream,
            )
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(
                f"the Kubernetes API at {self._host} does not answer: {error}", code="api_away"
            ) from error
        if answer.status >= 400:
            raise _error(verb, path, answer.status, _decoded(answer))
        return answer


def connect(kubeconfig: Path | None = None) -> Cluster:
    """The cluster this process runs in, else the one that `KUBECONFIG` names.

    Args:
        kubeconfig: this file instead of either.

    Raises:
        Unavailable: neither is there, or its configuration cannot be read.
    """
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    if kubeconfig is None and host is not None and (_ACCOUNT / "token").exists():
        host = f"[{host}]" if ":" in host else host
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        pool = urllib3.PoolManager(ca_certs=str(_ACCOUNT / "ca.crt"), maxsize=_CONNECTIONS)
        return Cluster(pool, f"https://{host}:{port}", _Token(_ACCOUNT / "token"))
    return _from_file(kubeconfig)


def _from_file(kubeconfig: Path | None) -> Cluster:
    from kubernetes.client import Configuration
    from kubernetes.client.rest import RESTClientObject
    from kubernetes.config import ConfigException, load_kube_config

    settings = Configuration()
    try:
        path = None if kubeconfig is None else str(kubeconfig)
        load_kube_config(path, client_configuration=settings)
    except (ConfigException, OSError) as error:
        raise Unavailable(
            f"no Kubernetes cluster is configured: {error}",
            hint="set KUBECONFIG, or run in a pod with a service account",
        ) from error
    pool = RESTClientObject(settings, maxsize=_CONNECTIONS).pool_manager
    return Cluster(
        pool, settings.host.rstrip("/"), lambda: settings.get_api_key_with_prefix("authorization")
    )


class _Token:
    """A service account's token: the kubelet renews the file long before the old one ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = float("-inf")
        self._value = ""

    def __call__(self) -> str:
        if time.monotonic() - self._read_at > _TOKEN_SECONDS:
            self._value = f"Bearer {self._path.read_text().strip()}"
            self._read_at = time.monotonic()
        return self._value


def _path(kind: str, namespace: str | None, name: str | None = None) -> str:
    where = "" if namespace is None else f"/namespaces/{quote(namespace, safe='')}"
    what = "" if name is None else f"/{quote(name, safe='')}"
    return f"{KINDS[kind]}{where}/{kind}{what}"


def _query(label: str | None, name: str | None) -> dict[str, str]:
    query = {} if label is None else {"labelSelector": label}
    return query if name is None else {**query, "fieldSelector": f"metadata.name={name}"}


def _lines(answer: urllib3.BaseHTTPResponse) -> Iterator[Any]:
    """The JSON values of a stream, one per line."""
    rest = b""
    for chunk in answer.stream(1 << 16):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield orjson.loads(line)


def _decoded(answer: urllib3.BaseHTTPResponse) -> Object:
    try:
        value = orjson.loads(answer.data)  # reads a stream to its end
    except (orjson.JSONDecodeError, urllib3.exceptions.HTTPError):
        return {}
    finally:
        answer.close()
    return value if isinstance(value, dict) else {}


def _error(verb: str, path: str, status: int, told: Object) -> ProaError:
    message = f"Kubernetes: {told.get('message') or f'HTTP {status} to {verb} {path}'}"
    reason = told.get("reason")
    match status:
        case 400 | 422:
            return InvalidInput(message, code="invalid_object")
        case 401:
            return Unauthenticated(message)
        case 403:
            return Refused(f"{message} ({verb} {path})", code="cluster_forbidden")
        case 404:
            return NotFound(message)
        case 409:
            return Conflict(message, code=_word(reason) or "conflict")
        case 410:
            return Conflict(message, code="expired")
        case 429 | 500 | 502 | 503 | 504:
            return Unavailable(message)
    return Internal(message)


def _word(reason: Any) -> str | None:
    return {"AlreadyExists": "already_exists"}.get(str(reason))
