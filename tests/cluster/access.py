"""What tests do with a cluster: kubectl, Helm, namespaces, addresses. Any cluster will do."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests import tools

T = TypeVar("T")
Object = dict[str, Any]
_COUNT = itertools.count(1)
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@dataclass
class Cluster:
    """A cluster behind a kubeconfig.

    Attributes:
        kubectl_command: the command `kubectl`.
        direct: the node is this machine, so that pods' and Services' addresses can be reached.
    """

    kubeconfig: Path
    kubectl_command: str
    direct: bool
    _forwards: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(
        self, *arguments: str, given: str | None = None, deadline: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """`kubectl ARGUMENTS`, whatever comes of it."""
        return self._call([self.kubectl_command, *arguments], given, deadline)

    def kubectl(self, *arguments: str, given: str | None = None, deadline: float = 120) -> str:
        """`kubectl ARGUMENTS`, and what it wrote.

        Raises:
            AssertionError: it failed; with its message.
        """
        done = self.run(*arguments, given=given, deadline=deadline)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr.strip()}"
        return done.stdout

    def helm(
        self, version: int, *arguments: str, given: str | None = None, deadline: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """`helm ARGUMENTS` of Helm 3 or 4, whatever comes of it."""
        return self._call([str(tools.path(f"helm-{version}")), *arguments], given, deadline)

    def apply(self, namespace: str, *objects: Object) -> None:
        """Create or change objects."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-n", namespace, "-f", "-", given=json.dumps(listed))

    def get(self, namespace: str, kind: str, name: str = "", selector: str = "") -> Any:
        """One object, or with no name the list of those a label selector takes."""
        wanted = [
            kind,
            *([name] if name else []),
            *([f"--selector={selector}"] if selector else []),
        ]
        found = json.loads(self.kubectl("get", "-n", namespace, *wanted, "-o", "json"))
        return found if name else found["items"]

    def wait(self, condition: Callable[[], T], deadline: float, what: str = "") -> T:
        """Poll twice a second until `condition()` is true and return its value.

        Raises:
            AssertionError: not within `deadline` seconds.
        """
        end = time.monotonic() + deadline
        while True:
            value = condition()
            if value:
                return value
            late = f"not within {deadline:g} s: {what or condition}; last {value!r}"
            assert time.monotonic() < end, late
            time.sleep(0.5)

    def ready(self, namespace: str, deployment: str, deadline: float = 120) -> None:
        """Wait until a Deployment's rollout is complete; otherwise say what its pods say."""
        arguments = ("rollout", "status", "-n", namespace, deployment, f"--timeout={deadline:g}s")
        done = self.run(*arguments, deadline=deadline + 10)
        assert done.returncode == 0, f"{done.stderr.strip()}\n{self.explain(namespace)}"

    def explain(self, namespace: str) -> str:
        """Pods, the last events and the last lines of pods that are not Ready, for a failure."""
        told = [self.run("get", "pods", "-n", namespace, "-o", "wide").stdout]
        events = self.run("get", "events", "-n", namespace, "--sort-by=.lastTimestamp").stdout
        told += events.splitlines()[-25:]
        for pod in self.get(namespace, "pods"):
            conditions = pod["status"].get("conditions", [])
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
            if not ready and pod["status"].get("phase") != "Succeeded":
                name = pod["metadata"]["name"]
                log = self.run("logs", "-n", namespace, name, "--all-containers", "--tail=30")
                told += [f"--- {name}", log.stdout.strip()]
        return "\n".join(told)

    def address(self, namespace: str, service: str, port: int) -> str:
        """`http://HOST:PORT` of a Service, for this machine."""
        if self.direct:
            found = self.get(namespace, "service", service)
            return f"http://{found['spec']['clusterIP']}:{port}"
        return self.forward(namespace, service, port)

    def forward(self, namespace: str, service: str, port: int) -> str:
        """The same by way of `kubectl port-forward`, until `close`."""
        command = [self.kubectl_command, "port-forward", "-n", namespace, f"service/{service}"]
        process = subprocess.Popen(
            [*command, f":{port}"], stdout=subprocess.PIPE, text=True, env=self._env()
        )
        self._forwards.append(process)
        assert process.stdout is not None
        told = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert told is not None, f"kubectl port-forward of {service} said nothing"
        return f"http://127.0.0.1:{told.group(1)}"

    @contextmanager
    def namespace(
        self, name: str = "", labels: Mapping[str, str] = RESTRICTED, prefix: str = "test"
    ) -> Iterator[str]:
        """A new namespace, by default under Pod Security `restricted`; removed in the end."""
        name = name or f"{prefix}-{os.getpid()}-{next(_COUNT)}"
        meta = {"name": name, "labels": dict(labels)}
        self.apply("default", {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")

    def close(self) -> None:
        """End what forwards ports."""
        for process in self._forwards:
            process.terminate()
            process.wait(10)
            assert process.stdout is not None
            process.stdout.close()

    def _call(
        self, command: Sequence[str], given: str | None, deadline: float
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            input=given,
            env=self._env(),
            capture_output=True,
            text=True,
            timeout=deadline,
            check=False,
        )

    def _env(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
