"""`up` and `down`: the whole platform on this machine, started, repaired and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from proa.embedded.daemon import ensure_supervisor, stop_supervisor
from proa.embedded.engine_choice import EngineSpec, weights_cache
from proa.embedded.home import Home
from proa.embedded.local_keys import make_keys
from proa.embedded.lock import SupervisorLock
from proa.embedded.parts import ENGINE_KEY, engine_workload, static_workloads
from proa.embedded.platform_file import Platform, read_platform, write_platform
from proa.embedded.ports import Holder, PortChoice, PortPlan, find_free, holder_of, is_free
from proa.embedded.process import is_alive
from proa.embedded.supervisor import Supervisor
from proa.embedded.workload import Workload
from proa.embedded.workloads import WorkloadFiles, read_record, read_workload
from proa.errors import Conflict, InvalidInput, NotFound, ProaError, Unavailable

__all__ = ["Down", "Progress", "down", "up"]

Progress = Callable[[str, str, float, str], None]
"""Called with a part's name, `starting`, `ready`, `failed` or `stopped`, seconds, and a note."""

_POLL_SECONDS: Final = 0.1
_GRACE_SECONDS: Final = 30.0
_PORT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Down:
    """What `down` did.

    Attributes:
        stopped: the workloads that had processes.
        kept: what stays, and what the next `up` goes on with.
    """

    stopped: tuple[str, ...]
    kept: tuple[Path, ...]
    was_running: bool


def up(
    home: Home,
    *,
    ports: PortPlan | PortChoice | None = None,
    engine: EngineSpec | None = None,
    judge: float | None = None,
    progress: Progress | None = None,
    environ: Mapping[str, str] | None = None,
) -> Platform:
    """Start the platform of `home`, or repair it: what is ready stays untouched.

    Args:
        ports: None keeps those of the last time, else the defaults.
        engine: one more engine to run; those of the last time stay.
        judge: share of the answers that `engine`, or the first one, judges from now on; 0 ends it,
            None leaves it as it is.
        progress: told about every part as it starts and becomes ready.
        environ: where to look for the weights' cache; None is this process's environment.

    Raises:
        Conflict: a port is taken, or another `up` or `down` is at work; the message names them.
        Unavailable: a part does not become ready; the message names it, why, and its log.
    """
    tell = progress or (lambda name, state, seconds, note: None)
    home.create()
    with _alone(home):
        platform = _decide(home, ports, engine, os.environ if environ is None else environ)
        platform = _with_judge(platform, engine, judge)
        _check_ports(platform)
        make_keys(home)
        write_platform(platform)
        workloads = [*static_workloads(home, platform.ports, judge=platform.judge)]
        workloads += [engine_workload(home, engine)] if engine else []
        files = WorkloadFiles(home)
        for workload in workloads:
            files.apply(workload, again=_given_up(files, workload))
        names = [workload.name for workload in workloads]
        names += [name for name in _engines_of(platform) if name not in names]
        ensure_supervisor(home)
        _wait(home, names, tell)
    return platform


def down(home: Home, *, progress: Progress | None = None) -> Down:
    """Stop every process of `home`, models first; data and what is desired stay.

    Raises:
        Conflict: another `up` or `down` is at work.
        Unavailable: something did not end in time; the message names it.
    """
    tell = progress or (lambda name, state, seconds, note: None)
    if not home.root.is_dir():
        return Down((), (), False)
    home.create()
    begun = time.monotonic()
    with _alone(home):
        running = _running(home)
        by_supervisor = _stop(home)
        if home.root not in home.sockets.parents:
            shutil.rmtree(home.sockets, ignore_errors=True)
    for name in running:
        tell(name, "stopped", time.monotonic() - begun, "")
    return Down(tuple(running), _kept(home), by_supervisor or bool(running))


# ---- deciding ---------------------------------------------------------------------------------


def _decide(
    home: Home,
    ports: PortPlan | PortChoice | None,
    engine: EngineSpec | None,
    environ: Mapping[str, str],
) -> Platform:
    try:
        known: Platform | None = read_platform(home)
    except NotFound:
        known = None
    if ports is None:
        ports = PortChoice({})
    if isinstance(ports, PortChoice):
        ports = ports.resolve(known.ports if known else None)
    ports.check()
    platform = replace(known, ports=ports) if known else Platform(home=home, ports=ports)
    platform = replace(platform, weights=weights_cache(environ))
    return _with_engine(platform, engine) if engine else platform


def _with_engine(platform: Platform, engine: EngineSpec) -> Platform:
    name = engine_workload(platform.home, engine).name
    entry: dict[str, Any] = {
        "url": f"unix://{platform.home.socket(name)}",
        "key_file": str(platform.home.key(ENGINE_KEY)),
        "base_model": engine.base_model,
        "max_model_len": engine.max_model_len,
        "continuous_usage": True,
        "weights": str(engine.weights) if engine.weights else None,
        "revision": engine.revision,
        "runtime": engine.runtime,
        "arguments": list(engine.arguments),
        "prices": dict(engine.prices),
    }
    before = platform.engines.get(engine.identity)
    if before is not None:
        entry["prices"] = before["prices"]
    return replace(
        platform,
        engines={**platform.engines, engine.identity: entry},
        aliases={**platform.aliases, engine.alias: engine.identity},
    )


def _with_judge(platform: Platform, engine: EngineSpec | None, share: float | None) -> Platform:
    if share is None:
        return platform
    if not 0 <= share <= 1:
        raise InvalidInput(f"judge = {share:g}: expected a share from 0 to 1", param="judge")
    if not share:
        return replace(platform, judge=None)
    identity = engine.identity if engine else next(iter(platform.engines), None)
    if identity is None:
        raise InvalidInput(
            "no engine can judge answers", hint="proa up --engine smollm2", param="judge"
        )
    return replace(platform, judge={"engine": identity, "share": share})


def _engines_of(platform: Platform) -> list[str]:
    return [f"engine-{identity}" for identity in platform.engines]


def _check_ports(platform: Platform) -> None:
    """Every port is free, or held by this very platform."""
    deadline = time.monotonic() + _PORT_SECONDS
    # A process of ours that was just killed holds its port a moment longer, and is nobody's then.
    while taken := _taken(platform):
        if time.monotonic() > deadline:
            raise _port_conflict(platform, taken)
        time.sleep(_POLL_SECONDS)


def _taken(platform: Platform) -> list[tuple[str, int, Holder | None]]:
    found = []
    for name, port in platform.ports.to_json().items():
        if is_free(port):
            continue
        holder = holder_of(port)
        if holder is None or holder.pid not in _own_pids(platform.home):
            found.append((name, port, holder))
    return found


def _port_conflict(platform: Platform, taken: Sequence[tuple[str, int, Holder | None]]) -> Conflict:
    sentences = [f"port {port} is taken by {holder or 'another user'}" for _, port, holder in taken]
    used = set(platform.ports.to_json().values())
    advice = []
    for name, port, _ in taken:
        used.add(other := _near(port, used))
        advice.append(f"--port {name}={other}")
    return Conflict(
        f"{'; '.join(sentences)}; choose another with {' '.join(advice)}",
        hint=f"proa up {' '.join(advice)}",
        code="port_taken",
    )


def _near(port: int, used: Collection[int]) -> int:
    """A free port close to the one that is taken."""
    for candidate in range(port + 1, min(port + 200, 65536)):
        if candidate not in used and is_free(candidate):
            return candidate
    return find_free(used)


def _own_pids(home: Home) -> set[int]:
    pids = set()
    for path in home.statuses.glob("*.json"):
        record = read_record(home, path.stem)
        for item in record.instances() if record else ():
            if item.process and is_alive(item.process):
                pids.add(item.process.pid)
    return pids


def _given_up(files: WorkloadFiles, workload: Workload) -> bool:
    """Whether the present template does not work: to ask for it again means to try it again."""
    status = files.status(workload.name)
    return status is not None and status.failed is not None and not status.complete


# ---- waiting ----------------------------------------------------------------------------------


def _wait(home: Home, names: Sequence[str], tell: Progress) -> None:
    files = WorkloadFiles(home)
    begun = time.monotonic()
    deadlines = {name: begun + _startup_seconds(home, name) + _GRACE_SECONDS for name in names}
    waiting = list(names)
    for name in names:
        tell(name, "starting", 0.0, "")
    while waiting:
        for name in list(waiting):
            if _is_ready(home, files, name, deadlines[name], tell, begun):
                waiting.remove(name)
        if waiting:
            time.sleep(_POLL_SECONDS)
            ensure_supervisor(home)


def _is_ready(
    home: Home,
    files: WorkloadFiles,
    name: str,
    deadline: float,
    tell: Progress,
    begun: float,
) -> bool:
    status = files.status(name)
    seconds = time.monotonic() - begun
    if status is not None and status.complete:
        tell(name, "ready", seconds, status.url or "")
        return True
    seen = status is not None and status.observed_generation == status.desired_generation
    reason = status.failed if status is not None and seen else None
    if reason is None and time.monotonic() > deadline:
        reason = f"it was not ready within {seconds:.0f} s"
    if reason is None:
        return False
    tell(name, "failed", seconds, reason)
    raise Unavailable(
        f"{name} does not become ready: {reason}",
        hint=f"see {home.log(name)}; proa down stops the rest",
        code="part_failed",
    )


def _startup_seconds(home: Home, name: str) -> float:
    workload = read_workload(home, name)
    return workload.template.startup_seconds if workload else 0.0


# ---- stopping ---------------------------------------------------------------------------------


def _stop(home: Home) -> bool:
    """Stop every process of a home; whether a supervisor ran.

    A controller that still runs may start a supervisor at any moment, so both ways are tried
    until nothing is left.
    """
    ran = False
    deadline = time.monotonic() + _patience(home)
    while True:
        ran |= stop_supervisor(home, seconds=max(1.0, deadline - time.monotonic()))
        left = _running(home)
        if not left:
            return ran
        if time.monotonic() > deadline:
            raise Unavailable(
                f"still running: {', '.join(left)}", hint=f"see {home.log('supervisor')}"
            )
        with contextlib.suppress(Conflict), SupervisorLock(home):
            # The supervisor is gone, its processes are not: do what it would have done.
            asyncio.run(Supervisor(home, environ=os.environ).stop_all())


def _running(home: Home) -> list[str]:
    """Workloads with a living process."""
    names = []
    for path in sorted(home.statuses.glob("*.json")):
        try:
            record = read_record(home, path.stem)
        except ProaError:
            continue
        items = record.instances() if record else ()
        if any(item.process and is_alive(item.process) for item in items):
            names.append(path.stem)
    return names


def _patience(home: Home) -> float:
    """How long stopping everything may take: every drain, one after the other."""
    drains = [_GRACE_SECONDS]
    for path in home.statuses.glob("*.json"):
        with contextlib.suppress(ProaError):
            record = read_record(home, path.stem)
            items = record.instances() if record else ()
            drains += [item.template.drain_seconds for item in items if item.process]
    return sum(drains)


def _kept(home: Home) -> tuple[Path, ...]:
    places = (
        *(home.mlflow, home.bundles, home.ledger, home.journal, home.events, home.feast),
        *(home.reports, home.keys, home.workloads),
    )
    return tuple(path for path in places if path.is_file() or _has_entries(path))


def _has_entries(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """One `up` or `down` of a home at a time."""
    handle = os.open(home.root / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                f"another `proa up` or `proa down` is at work on {home.root}",
                hint="wait for it to end",
                code="up_runs",
            ) from error
        yield
    finally:
        os.close(handle)
