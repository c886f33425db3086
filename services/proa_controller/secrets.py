"""`python -m proa_controller.secrets`: makes the Secrets that are missing, and changes none.

The chart's Job before each installation and upgrade. Its Roles let it create Secrets, and read back
by name the few whose contents go elsewhere: keys of models and engines to their namespaces, the
user database's URL to MLflow. It tells names, never contents.
"""

from __future__ import annotations

import argparse
import base64
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from proa.cluster.api import Cluster, connect
from proa.errors import Conflict, InvalidInput, ProaError, Unavailable
from proa.ledger.keys import new_key_text

# Whose key is wanted where else: a pod mounts only Secrets of its own namespace.
_OF_MODELS: Final = ("predictor", "assistant")
_OF_ENGINES: Final = ("engine",)
_DATABASES: Final = {"ledger-url": "proa", "mlflow-url": "mlflow", "mlflow-auth-url": "mlflow_auth"}
_USER: Final = "proa"


def main(argv: Sequence[str] | None = None) -> int:
    """Make what is missing; exit 0 when everything is there."""
    parser = argparse.ArgumentParser(prog="proa_controller.secrets", description=__doc__)
    parser.add_argument("--namespace", required=True, help="the platform's namespace")
    parser.add_argument("--prefix", required=True, help="the Helm release, in front of every name")
    parser.add_argument("--keys", type=_names, required=True, help="names of keys, with commas")
    parser.add_argument("--model-namespaces", type=_names, required=True)
    parser.add_argument("--engine-namespaces", type=_names, required=True)
    parser.add_argument("--postgres", help="SECRET:HOST:PORT of a database whose password is made")
    parser.add_argument("--mlflow", help="SECRET:SECRET-OF-POSTGRES of an MLflow with log-in")
    parser.add_argument("--wait-seconds", type=float, default=60.0, help="for the API server")
    asked = parser.parse_args(argv)
    try:
        _when_there(
            lambda: make(Maker(connect(), asked.namespace, asked.prefix), asked), asked.wait_seconds
        )
    except ProaError as error:
        print(error.message, file=sys.stderr)
        return error.exit_code
    return 0


def make(maker: Maker, asked: argparse.Namespace) -> None:
    """Every Secret that the chart names, each by one request: there is no half of one.

    Raises:
        Refused: a right is missing; the message names it.
        Unavailable: the API server cannot be reached.
    """
    for key in asked.keys:
        name = f"{asked.prefix}-{key}-key"
        maker.ensure(name, {f"{key}.key": _key_text(key)})
        namespaces = (asked.model_namespaces if key in _OF_MODELS else []) + (
            asked.engine_namespaces if key in _OF_ENGINES else []
        )
        for namespace in namespaces:
            maker.copy(name, namespace)
    if asked.postgres:
        secret, host, port = _parts(asked.postgres, 3, "--postgres")
        maker.ensure(secret, database_entries(host, port))
    if asked.mlflow:
        secret, database = _parts(asked.mlflow, 2, "--mlflow")
        maker.ensure(secret, mlflow_entries(maker.entry(database, "mlflow-auth-url")))


class Maker:
    """Creates Secrets in a cluster; says which, on standard output."""

    def __init__(self, cluster: Cluster, namespace: str, release: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._release = release

    def ensure(self, name: str, entries: Mapping[str, str]) -> None:
        """Make the Secret in the platform's namespace unless it is there."""
        self._create(self._namespace, name, entries)

    def copy(self, name: str, namespace: str) -> None:
        """Make the Secret in another namespace with what it holds in the platform's."""
        if namespace != self._namespace:
            self._create(namespace, name, self._read(name))

    def entry(self, name: str, entry: str) -> str:
        """One entry of a Secret of the platform's namespace.

        Raises:
            InvalidInput: the Secret has no such entry.
        """
        found = self._read(name)
        if entry not in found:
            raise InvalidInput(
                f"Secret {self._namespace}/{name} has no entry {entry!r}; it has "
                f"{', '.join(sorted(found)) or 'none'}"
            )
        return found[entry]

    def _create(self, namespace: str, name: str, entries: Mapping[str, str]) -> None:
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {
                    "app.kubernetes.io/part-of": "proa",
                    "app.kubernetes.io/instance": self._release,
                    "app.kubernetes.io/component": "secrets",
                },
            },
            "type": "Opaque",
            "data": {key: base64.b64encode(v.encode()).decode() for key, v in entries.items()},
        }
        try:
            self._cluster.create("secrets", namespace, body, manager="proa-secrets")
        except Conflict:
            print(f"{namespace}/{name}: there, left as it is")
        else:
            print(f"{namespace}/{name}: made")

    def _read(self, name: str) -> dict[str, str]:
        data = self._cluster.get("secrets", self._namespace, name).get("data") or {}
        return {key: base64.b64decode(value).decode() for key, value in data.items()}


def database_entries(host: str, port: str) -> dict[str, str]:
    """A new password, and the URLs of the three databases with it."""
    password = secrets.token_urlsafe(32)
    urls = {
        entry: f"postgresql://{_USER}:{quote(password, safe='')}@{host}:{port}/{database}"
        for entry, database in _DATABASES.items()
    }
    return {"postgres-password": password, **urls}


def mlflow_entries(users: str) -> dict[str, str]:
    """MLflow's log-in: its configuration, its cookie's key, and the platform's own account.

    Args:
        users: URL of the database of users.
    """
    password = secrets.token_urlsafe(32)
    # A percent sign is configparser's own: doubled, it reads back as one.
    configuration = {
        "default_permission": "READ",
        "database_uri": users.strip().replace("%", "%%"),
        "admin_username": _USER,
        "admin_password": password,
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
    }
    account = {"mlflow_tracking_username": _USER, "mlflow_tracking_password": password}
    return {
        "auth.ini": _ini(configuration),
        "credentials": _ini(account),
        "flask-secret-key": secrets.token_urlsafe(48),
    }


def _ini(values: Mapping[str, str]) -> str:
    return "[mlflow]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())


def _key_text(name: str) -> str:
    # An engine's key goes to vLLM as it is; the others are registered in the ledger.
    return secrets.token_urlsafe(32) if name in _OF_ENGINES else new_key_text()


def _when_there(work: Callable[[], None], seconds: float) -> None:
    """Again until the API server answers: networks of new pods take a moment to come up."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return work()
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _parts(text: str, count: int, flag: str) -> list[str]:
    parts = text.split(":")
    if len(parts) != count or not all(parts):
        raise InvalidInput(f"{flag} = {text!r}: expected {count} parts with colons between them")
    return parts


if __name__ == "__main__":
    raise SystemExit(main())
