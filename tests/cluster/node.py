"""A real cluster of one node, built and started here: the same commands that run anywhere."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import tools
from tests.cluster import certificates, kubernetes, machine, packages, record, settings
from tests.cluster import layout as at
from tests.cluster.layout import Layout

CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {
        "name": "standard",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    # tests.cluster.volumes answers for it.
    "provisioner": "proa.dev/folders",
    "reclaimPolicy": "Delete",
    "volumeBindingMode": "Immediate",
}


def build() -> tuple[Path, Path]:
    """Kubernetes' commands and CoreDNS, built when they are not there yet.

    Raises:
        RuntimeError: something cannot be built or installed; with why.
    """
    packages.install()
    return kubernetes.folder(), tools.path("coredns")


def running(layout: Layout) -> bool:
    """Whether a cluster of this layout stands, made by `python -m tests.cluster up`."""
    there = record.read(layout.record)
    return there is not None and there.kept and all(map(record.alive, there.processes.values()))


def start(layout: Layout, *, kept: bool) -> None:
    """Start the node and wait until it takes pods; cleans up first what a killed run left.

    Raises:
        RuntimeError: another test run has a cluster here, or a process does not come up; with the
            end of its log.
    """
    layout.home.mkdir(parents=True, exist_ok=True)
    with (layout.home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        there = record.read(layout.record)
        if there is not None and not there.kept and record.alive(there.owner):
            raise RuntimeError(f"process {there.owner[0]} has a cluster on this machine: wait")
        stop(layout)
        made = record.Record(owner=record.mark(os.getpid()), kept=kept)
        made.write(layout.record)
    try:
        _start(layout, made)
    except BaseException:
        stop(layout)
        raise


def stop(layout: Layout) -> None:
    """Stop what the record says runs, and give the machine back as it was."""
    there = record.read(layout.record)
    if there is None:
        return
    # The node's own first, so that nothing starts a pod again.
    order = sorted(there.processes, key=lambda name: name in ("etcd", "kube-apiserver"))
    for name in order:
        if name != "containerd":
            record.stop(there.processes[name])
    machine.kill_containers(layout)
    if "containerd" in there.processes:
        record.stop(there.processes["containerd"])
    machine.give_back(layout, there.settings)
    shutil.rmtree(layout.run, ignore_errors=True)
    layout.record.unlink(missing_ok=True)


def restart_api_server(layout: Layout, pause: float = 0.0) -> None:
    """Kill the API server as a crash does, and start it again after `pause` seconds.

    Raises:
        RuntimeError: it does not come back; with the end of its log.
    """
    made = record.read(layout.record)
    assert made is not None, "there is no cluster of our own"
    record.stop(made.processes["kube-apiserver"], seconds=0)
    time.sleep(pause)
    argv = settings.api_server(layout, kubernetes.folder())
    _spawn(layout, made, "kube-apiserver", argv)
    _wait(layout, made, lambda: ask(layout, "/readyz") == b"ok", "the API server is back")


@contextmanager
def started(layout: Layout) -> Iterator[None]:
    """A cluster for the time of this block."""
    start(layout, kept=False)
    try:
        yield
    finally:
        stop(layout)


def _start(layout: Layout, made: record.Record) -> None:
    commands, dns = build()
    begun = time.monotonic()
    names = ("localhost", "127.0.0.1", at.NODE_IP, at.API_IP, "kubernetes", "kubernetes.default")
    certificates.write(layout.certificates, [*names, "kubernetes.default.svc"])
    settings.write(layout)
    made.settings = machine.prepare()
    made.write(layout.record)

    def spawn(name: str, argv: list[str]) -> None:
        _spawn(layout, made, name, argv)

    spawn("etcd", settings.etcd(layout))
    spawn("containerd", settings.containerd(layout))
    spawn("kube-apiserver", settings.api_server(layout, commands))
    _wait(layout, made, lambda: ask(layout, "/readyz") == b"ok", "the API server is ready")
    _say(begun, "the API server is ready")
    spawn("kube-controller-manager", settings.controllers(layout, commands))
    spawn("kube-scheduler", settings.scheduler(layout, commands))
    _wait(layout, made, layout.socket.exists, "containerd listens")
    _pause_image(layout)
    spawn("kubelet", settings.kubelet(layout, commands))
    spawn("kube-proxy", settings.proxy(layout, commands))
    spawn("coredns", settings.dns(layout, dns))
    spawn("volumes", [sys.executable, "-m", "tests.cluster.volumes"])
    create(layout, "/apis/storage.k8s.io/v1/storageclasses", CLASS)
    _wait(layout, made, lambda: _node_ready(layout), "the node is Ready")
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    _wait(layout, made, lambda: bool(ask(layout, account)), "service accounts are made")
    _say(begun, "the node is Ready")


def ask(layout: Layout, path: str) -> bytes | None:
    """A GET of the API; None when it is not answered with 200."""
    try:
        with _open(layout, urllib.request.Request(_url(path))) as response:
            body: bytes = response.read()
            return body
    except OSError:
        return None


def watch(layout: Layout, path: str) -> Iterator[Any]:
    """Every change that the API tells about `path`, until it ends the connection."""
    with _open(layout, urllib.request.Request(_url(path)), timeout=600) as response:
        for line in response:
            yield json.loads(line)


def create(layout: Layout, path: str, item: Any, method: str = "POST") -> None:
    """Send `item`; one that is there already, or gone already, is as good.

    Raises:
        RuntimeError: the API refuses; with its message.
    """
    request = urllib.request.Request(
        _url(path), json.dumps(item).encode(), {"Content-Type": "application/json"}, method=method
    )
    try:
        _open(layout, request).close()
    except urllib.error.HTTPError as error:
        if error.code not in (404, 409):
            raise RuntimeError(f"{method} {path}: {error.read().decode()}") from None
        error.close()


def _url(path: str) -> str:
    return f"https://127.0.0.1:{at.API_PORT}{path}"


def _open(layout: Layout, request: urllib.request.Request, timeout: float = 10) -> Any:
    context = ssl.create_default_context(cafile=str(layout.certificates / "ca.crt"))
    keys = layout.certificates
    context.load_cert_chain(keys / "admin.crt", keys / "admin.key")
    return urllib.request.urlopen(request, timeout=timeout, context=context)


def _spawn(layout: Layout, made: record.Record, name: str, argv: list[str]) -> None:
    """Start a process in a session of its own; only the record knows it, so it may outlive us."""
    log, flags = str(layout.logs / f"{name}.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    pid = os.posix_spawn(
        argv[0],
        argv,
        # For the one process that is ours.
        {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    made.processes[name] = record.mark(pid)
    made.write(layout.record)


def _wait(layout: Layout, made: record.Record, ready: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 90
    while not ready():
        dead = [name for name, process in made.processes.items() if not record.alive(process)]
        if dead or time.monotonic() > end:
            names = dead or list(made.processes)
            logs = "\n".join(f"--- {name}\n{_tail(layout, name)}" for name in names)
            raise RuntimeError(f"waiting until {what}: {', '.join(dead) or 'late'}\n{logs}")
        time.sleep(0.1)


def _tail(layout: Layout, name: str) -> str:
    return (layout.logs / f"{name}.log").read_text(errors="replace")[-3000:]


def _node_ready(layout: Layout) -> bool:
    found = json.loads(ask(layout, "/api/v1/nodes") or b"{}").get("items", [])
    conditions = found[0]["status"].get("conditions", []) if found else []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _pause_image(layout: Layout) -> None:
    """Put the image with the one static command into containerd, when it is not there."""
    from tests.cluster import archive

    have = subprocess.run(
        [*control(layout), "images", "ls", "-q"], capture_output=True, text=True, check=False
    )
    if settings.PAUSE in have.stdout.split():
        return
    file = layout.run / "pause.tar"
    archive.write(file, settings.PAUSE, {"pause": kubernetes.pause()}, ["/pause"])
    done = subprocess.run(
        [*control(layout), "images", "import", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{settings.PAUSE} cannot be imported: {done.stderr.strip()}")


def control(layout: Layout) -> list[str]:
    """containerd's command line, for the namespace that kubelet uses."""
    return ["ctr", "--address", str(layout.socket), "--namespace", "k8s.io"]


def _say(begun: float, what: str) -> None:
    print(f"==> {what} ({time.monotonic() - begun:.1f} s)", file=sys.stderr, flush=True)
