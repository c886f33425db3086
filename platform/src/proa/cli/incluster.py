"""`kubectl proa`: finds the platform in a cluster through kubectl, and reaches it for one command.

kubectl does what touches the cluster: it lists Services, reads what the user may read, and holds
`port-forward` for the parts that the command needs. They end with the command, by their own pids.
"""

from __future__ import annotations

import base64
import configparser
import json
import os
import re
import select
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from proa.errors import Conflict, Forbidden, NotFound, ProaError, Unavailable

__all__ = ["Reach", "parts_of"]

_SELECTOR: Final = "app.kubernetes.io/part-of=proa"
_INSTANCE, _COMPONENT = "app.kubernetes.io/instance", "app.kubernetes.io/component"
_PORTS: Final = {"gateway": "http", "controller": "http", "monitor": "http", "mlflow": "http"}
_SECONDS: Final = 20.0
"""How long a port-forward may take to listen."""
_FORWARDED = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")
# A verb that is not listed gets every part: names of releases are looked up in MLflow.
_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "predict": ("gateway",),
    "chat": ("gateway",),
    "costs": ("gateway",),
    "keys": ("gateway",),
    "monitor": ("monitor",),
    **dict.fromkeys(
        ("status", "history", "why", "journal", "revoked", "pause", "resume", "abort", "undo",
         "rollback", "retraining", "worklist"),
        ("controller",),
    ),
    **dict.fromkeys(("promote", "approve", "revoke", "unrevoke", "diff", "show", "verdict"),
                    ("controller", "mlflow")),
}  # fmt: skip
Say = Callable[[str], None]


def parts_of(verb: str | None) -> tuple[str, ...]:
    """The parts that a verb speaks to."""
    return _NEEDS.get(verb or "", tuple(_PORTS))


@dataclass(frozen=True, slots=True)
class Found:
    """A platform in a cluster: its namespace, its Helm release, part → (Service, port)."""

    namespace: str
    instance: str
    services: Mapping[str, tuple[str, int]]


class Reach:
    """A platform in a cluster, reachable from this machine until `close`.

    Args:
        namespace: where it is; None is kubectl's own, else the only one in the cluster.
        environ: where PROA_KEY and MLflow's user may stand.
        kubectl: the program.
    """

    def __init__(
        self,
        namespace: str | None,
        environ: Mapping[str, str],
        *,
        say: Say = lambda text: None,
        kubectl: str = "kubectl",
    ) -> None:
        self._namespace = namespace
        self._environ = environ
        self._say = say
        self._kubectl = kubectl
        self._forwards: list[subprocess.Popen[str]] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def open(self, parts: Sequence[str]) -> Path:
        """Find the platform, forward these parts, and write the platform file that says so.

        Raises:
            NotFound: no platform, or more than one; kubectl is not there.
            Forbidden: the user may not list Services.
            Unavailable: a part cannot be forwarded.
            Conflict: there is no key.
        """
        try:
            return self._open(parts)
        except BaseException:
            self.close()
            raise

    def _open(self, parts: Sequence[str]) -> Path:
        found = self._find()
        self._folder = tempfile.TemporaryDirectory(prefix="proa-kubectl-")  # 0700
        folder = Path(self._folder.name)
        value = self._known(found)
        value |= self._forward(found, [part for part in _PORTS if part in parts])
        # A part that this verb does not speak to: a port where nothing listens.
        value = {**dict.fromkeys(("gateway", "controller", "mlflow"), "http://127.0.0.1:9"),
                 **value}  # fmt: skip
        value["key_file"] = "key"
        key = folder / "key"
        key.touch(0o600)
        key.write_text(self._key(found))
        if "mlflow" in parts:
            self._sign_in(found)
        path = folder / "platform.yaml"
        path.write_text(yaml.safe_dump(value))
        return path

    def close(self) -> None:
        """End every port-forward, and forget the key."""
        for process in self._forwards:
            process.terminate()
        for process in self._forwards:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._forwards.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _find(self) -> Found:
        if self._namespace is not None:
            listed = self._get("services", "-l", _SELECTOR, "-n", self._namespace)
        else:
            listed = self._get("services", "-l", _SELECTOR)
            if not _platforms(listed):
                listed = self._get("services", "-l", _SELECTOR, "-A")
        found = _platforms(listed)
        where = f"namespace {self._namespace}" if self._namespace else "this cluster"
        if not found:
            raise NotFound(
                f"no platform of proa in {where}: no Service with {_SELECTOR} and "
                f"{_COMPONENT}=controller",
                hint="helm install proa charts/proa; or name its namespace with -n",
            )
        if len(found) > 1:
            names = ", ".join(f"{item.instance} in {item.namespace}" for item in found)
            raise NotFound(f"{len(found)} platforms in {where}: {names}", hint="choose with -n")
        return found[0]

    def _known(self, found: Found) -> dict[str, Any]:
        """What the platform says of itself: its ConfigMap, and the controller's arguments."""
        value: dict[str, Any] = {"bundles": ""}
        try:
            stated = self._get("configmap", f"{found.instance}-platform", "-n", found.namespace)
            inside = yaml.safe_load(stated["data"]["platform.yaml"]) or {}
            kept = ("bundles", "engines", "aliases", "prices", "currency", "pipelines")
            value |= {key: inside[key] for key in kept if key in inside}
        except (NotFound, Forbidden, KeyError):
            value["bundles"] = self._bundles(found)
        if not str(value["bundles"]).startswith("s3://"):
            value["bundles"] = ""  # a folder in a pod is no folder here
        return value

    def _bundles(self, found: Found) -> str:
        try:
            name = f"{found.instance}-controller"
            deployment = self._get("deployment", name, "-n", found.namespace)
        except (NotFound, Forbidden):
            return ""
        containers = deployment["spec"]["template"]["spec"]["containers"]
        given = [word for item in containers for word in item.get("args", ())]
        urls = [word.partition("=")[2] for word in given if word.startswith("--bundles=")]
        return urls[0] if urls else ""

    def _forward(self, found: Found, parts: Sequence[str]) -> dict[str, str]:
        started = {}
        for part in parts:
            if part not in found.services:
                continue  # MLflow may be somebody else's: its address stands in the ConfigMap
            service, port = found.services[part]
            leader = self._leader(found) if part == "controller" else None
            target = f"service/{service}" if leader is None else f"pod/{leader}"
            words = ["port-forward", target, f":{port}", "-n", found.namespace,
                     "--address", "127.0.0.1"]  # fmt: skip
            started[part] = self._start(words)
        deadline = time.monotonic() + _SECONDS
        return {part: self._listening(part, process, deadline) for part, process in started.items()}

    def _leader(self, found: Found) -> str | None:
        """The controller's pod that leads: kubectl forwards a Service to one pod of its choice, and
        one that only waits answers reads alone."""
        try:
            lease = self._get("lease", f"{found.instance}-controller", "-n", found.namespace)
            holder = str(lease["spec"].get("holderIdentity") or "").partition("_")[0]
            self._get("pod", holder, "-n", found.namespace)
        except ProaError:
            return None
        return holder or None

    def _start(self, words: Sequence[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [self._kubectl, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._forwards.append(process)
        return process

    def _listening(self, part: str, process: subprocess.Popen[str], deadline: float) -> str:
        assert process.stdout is not None
        said: list[str] = []
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([process.stdout], [], [], left)[0]:
                break
            line = process.stdout.readline()
            if not line:
                break
            match = _FORWARDED.search(line)
            if match is not None:
                return f"http://127.0.0.1:{match[1]}"
            said.append(line.strip())
        why = said[-1] if said else f"not listening after {_SECONDS:.0f} s"
        raise Unavailable(
            f"kubectl port-forward to the {part}: {why}", hint="kubectl get pods shows what runs"
        )

    def _key(self, found: Found) -> str:
        """The caller's key: theirs, else the administrator's, if they may read it."""
        given = self._environ.get("PROA_KEY")
        if given:
            return given
        name = f"{found.instance}-admin-key"
        try:
            return self._secret(name, found.namespace, "admin.key").strip()
        except (NotFound, Forbidden, KeyError) as error:
            raise Conflict(
                f"no key: PROA_KEY is not set, and the Secret {name} in {found.namespace} cannot "
                "be read",
                hint="export PROA_KEY=proa_…",
                code="no_key",
            ) from error

    def _sign_in(self, found: Found) -> None:
        """MLflow's user from its Secret, when the caller has none of their own."""
        own = Path(self._environ.get("HOME", "/")) / ".mlflow" / "credentials"
        if "MLFLOW_TRACKING_USERNAME" in self._environ or own.is_file():
            return
        try:
            text = self._secret(f"{found.instance}-mlflow", found.namespace, "credentials")
            parsed = configparser.ConfigParser(interpolation=None)
            parsed.read_string(text)
            section = parsed["mlflow"]
            names = ("mlflow_tracking_username", "mlflow_tracking_password")
            found_values = {name.upper(): section[name] for name in names}
        except (NotFound, Forbidden, KeyError, configparser.Error):
            self._say("no user of MLflow is known: set MLFLOW_TRACKING_USERNAME and _PASSWORD")
            return
        os.environ.update(found_values)  # MLflow reads them nowhere else; this process ends soon

    def _secret(self, name: str, namespace: str, entry: str) -> str:
        data = self._get("secret", name, "-n", namespace)["data"]
        return base64.b64decode(data[entry]).decode()

    def _get(self, *words: str) -> dict[str, Any]:
        """`kubectl get … -o json`.

        Raises:
            NotFound, Forbidden, Unavailable: what the API server said.
        """
        try:
            done = subprocess.run(
                [self._kubectl, "get", *words, "-o", "json"],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        except OSError as error:
            raise NotFound(
                f"{self._kubectl}: {error.strerror}", hint="install kubectl, or use --platform FILE"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise Unavailable("kubectl: the API server did not answer within 60 s") from error
        if done.returncode != 0:
            raise _kubectl_error(done.stderr.strip() or f"kubectl ended with {done.returncode}")
        return dict(json.loads(done.stdout))


def _platforms(listed: Mapping[str, Any]) -> list[Found]:
    """Every Helm release that has a controller; headless Services are for the controller."""
    parts: dict[tuple[str, str], dict[str, tuple[str, int]]] = {}
    for item in listed.get("items", ()):
        metadata, spec = item["metadata"], item["spec"]
        labels = metadata.get("labels", {})
        part = labels.get(_COMPONENT)
        if part not in _PORTS or spec.get("clusterIP") == "None":
            continue
        ports = {port["name"]: port["port"] for port in spec["ports"]}
        if _PORTS[part] in ports:
            where = (metadata["namespace"], labels.get(_INSTANCE, ""))
            parts.setdefault(where, {})[part] = (metadata["name"], ports[_PORTS[part]])
    return [
        Found(namespace, instance, services)
        for (namespace, instance), services in sorted(parts.items())
        if "controller" in services
    ]


def _kubectl_error(text: str) -> ProaError:
    last = text.splitlines()[-1]
    if "(NotFound)" in text:
        return NotFound(f"kubectl: {last}")
    if "(Forbidden)" in text or "(Unauthorized)" in text:
        return Forbidden(f"kubectl: {last}", hint="name a namespace you may use with -n")
    return Unavailable(f"kubectl: {last}", hint="kubectl cluster-info")
