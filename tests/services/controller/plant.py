"""The real controller core in one process, over a world that behaves like the real one.

Real: `Controller` with its states on disk, its SQLite journal, its routes file, `World`, the
bundle store with real manifests, `Gateways` over HTTP messages.
Faked: the supervisor (a workload has a template with a generation, an old process that serves on
until the new one is ready, releases that never start), the gateway's side of HTTP, the registry,
and the analysis of a canary, which is told. Why: thousands of orders of events, with a crash at
every single write, fit in seconds; the same with real processes is in test_killed.py.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import httpx

from proa.embedded.files import read_json
from proa.errors import Conflict, NotFound, Refused, Unavailable
from proa.exam.verdict import judge
from proa.ledger.evidence import FileEvidence
from proa.ledger.journal import Journal, Line
from proa.release.bundle import BundleStore
from proa.release.manifest import Manifest
from proa.release.reference import ReleaseRef
from proa.release.registry import CHAMPION, Pointer
from proa.rollout.analysis import Analysis
from proa.rollout.machine import Seen
from proa.rollout.policy import Policy, parse_policy
from proa.rollout.state import Rollout
from proa.rollout.workloads import Deployed
from proa_controller import verdicts
from proa_controller.core import Controller
from proa_controller.gateways import Gateways
from proa_controller.routes import RoutesFile
from proa_controller.states import FileStates
from proa_controller.watcher import Watcher
from proa_controller.world import Sight, World
from tests.services.controller.platform import evidence, manifest_of

MODEL = "m"
PASS, FAIL = Analysis("pass", "fine"), Analysis("fail", "worse")
UNSURE = Analysis("inconclusive", "too few")


class Killed(BaseException):
    """`kill -9` at a chosen point: nothing after it runs, and nothing may catch it."""


@dataclass
class Points:
    """Every place where a crash can come between two writes. `at` picks one by its number."""

    at: int | None = None
    passed: list[str] = field(default_factory=list)

    def __call__(self, label: str) -> None:
        self.passed.append(label)
        if self.at is not None and len(self.passed) > self.at:
            self.at = None
            raise Killed(label)


@dataclass
class Process:
    """One process: the release it serves, and whether it still answers."""

    release: ReleaseRef
    url: str
    alive: bool = True


@dataclass
class Shed:
    """One workload: its template, its past templates and its processes."""

    name: str
    template: ReleaseRef | None = None
    generation: int = 0
    last: int = 0
    history: list[ReleaseRef] = field(default_factory=list)
    serving: Process | None = None
    observed: int = 0
    failed: str | None = None
    draining: list[Process] = field(default_factory=list)


class Sheds:
    """`proa.rollout.workloads.Workloads` in memory, with a crash point around each write."""

    def __init__(self, points: Points) -> None:
        self.points = points
        self.all: dict[str, Shed] = {}
        self.broken: set[str] = set()
        self.writer: object | None = None

    def shed(self, name: str) -> Shed:
        return self.all.setdefault(name, Shed(name))

    def apply(
        self,
        name: str,
        template: ReleaseRef,
        *,
        after: int,
        replicas: int | None = None,
        cause: str = "",
    ) -> int:
        shed = self.shed(name)
        self.points(f"before apply {name}")
        if shed.generation != after:
            raise Conflict("changed meanwhile", code="template_changed")
        self.write(shed, template)
        self.points(f"after apply {name}")
        return shed.generation

    def write(self, shed: Shed, template: ReleaseRef) -> None:
        if shed.template == template:
            return
        if template in shed.history:
            shed.history.remove(template)
        shed.history.append(template)
        shed.template = template
        shed.last += 1
        shed.generation = shed.last

    def status(self, name: str) -> Deployed:
        shed = self.all.get(name)
        if shed is None:
            return Deployed()
        serving = shed.serving
        return Deployed(
            template_release=shed.template,
            generation=shed.generation,
            release=None if serving is None else serving.release,
            url=None if serving is None else serving.url,
            ready=serving is not None and serving.alive,
            failed=shed.failed if shed.observed == shed.generation else None,
        )

    def undo(self, name: str) -> int:
        shed = self.shed(name)
        others = [release for release in shed.history if release != shed.template]
        if shed.template is None or not others:
            raise Conflict("no earlier template", code="no_history")
        self.points(f"before undo {name}")
        self.write(shed, others[-1])
        self.points(f"after undo {name}")
        return shed.generation

    def delete(self, name: str) -> None:
        shed = self.shed(name)
        self.points(f"before delete {name}")
        shed.template, shed.generation = None, 0
        self.points(f"after delete {name}")

    def turn(self, name: str, routed: set[str]) -> None:
        """One turn of the supervisor: what is wanted serves, unless it never starts; what is
        replaced serves on while somebody is routed to it."""
        shed = self.shed(name)
        shed.observed = shed.generation
        for process in shed.draining:
            process.alive = process.url in routed
        shed.draining = [process for process in shed.draining if process.alive]
        if shed.template is None:
            self._drain(shed, routed)
            shed.failed = None
        elif str(shed.template) in self.broken:
            shed.failed = "generation ended 3 times in a row: exit code 78"
        elif shed.serving is None or shed.serving.release != shed.template:
            self._drain(shed, routed)
            shed.serving = Process(shed.template, f"http://{name}.{shed.generation}")
            shed.failed = None
        else:
            shed.failed = None

    def _drain(self, shed: Shed, routed: set[str]) -> None:
        if shed.serving is not None and shed.serving.url in routed:
            shed.draining.append(shed.serving)
        elif shed.serving is not None:
            shed.serving.alive = False
        shed.serving = None

    def alive(self) -> dict[str, ReleaseRef]:
        """URL → release of every process that answers."""
        return {
            process.url: process.release
            for shed in self.all.values()
            for process in (shed.serving, *shed.draining)
            if process is not None and process.alive
        }


@dataclass
class Launcher:
    """A release's template is the release; some cannot be made into one."""

    refused: set[str] = field(default_factory=set)

    def template(self, ref: ReleaseRef, manifest: Manifest, track: str) -> ReleaseRef:
        if str(ref) in self.refused:
            raise Refused(f"{ref.short}: its runtime cannot be built", code="RuntimeBroken")
        return ref

    def progress(self, ref: ReleaseRef) -> str | None:
        return None


class CrashingStates:
    """States on disk with a crash point around each write."""

    def __init__(self, states: FileStates, points: Points) -> None:
        self._states, self._points = states, points

    def __getattr__(self, name: str) -> Any:
        return getattr(self._states, name)

    def put(self, *values: Any) -> None:
        self._points("before state")
        self._states.put(*values)
        self._points("after state")


class CrashingJournal:
    """The journal with a crash point around each line; `down` makes it refuse to write."""

    def __init__(self, journal: Journal, points: Points) -> None:
        self._journal, self._points = journal, points
        self.down = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def append(self, **line: Any) -> Line:
        self._points("before line")
        if self.down:
            raise OSError("no space left on device")
        written = self._journal.append(**line)
        self._points("after line")
        return written


class ToldWorld(World):
    """The analysis is told; a crash point around the routes."""

    plant: Plant

    def see(self, state: Rollout, sight: Sight, **times: float) -> Seen:
        seen = super().see(state, sight, **times)
        due = state.phase == "canary" and state.step_since is not None
        return replace(seen, analysis=self.plant.analysis if due else None)

    def publish(self, turns: Any) -> None:
        self.plant.points("before routes")
        super().publish(turns)
        self.plant.points("after routes")


class MemoryRegistry:
    """MLflow's registry as the watcher sees it: numbers, tags, aliases, deletions."""

    def __init__(self) -> None:
        self.tags: dict[int, str | None] = {}
        self.aliases: dict[str, int] = {}
        self.down = False

    def pointers(self, name: str) -> dict[str, Pointer]:
        self._up()
        return {
            alias: Pointer(version, self.tags[version])
            for alias, version in self.aliases.items()
            if version in self.tags
        }

    def digest(self, name: str, version: int) -> str | None:
        self._up()
        return self.tags.get(version)

    def set_alias(self, ref: ReleaseRef, alias: str) -> None:
        self._up()
        if ref.version not in self.tags:
            raise NotFound(f"MLflow: {ref.short}")
        self.aliases[alias] = ref.version

    def delete_alias(self, name: str, alias: str) -> None:
        self._up()
        self.aliases.pop(alias, None)

    def delete(self, version: int) -> None:
        """A version is deleted by hand, and its aliases with it."""
        self.tags.pop(version, None)
        self.aliases = {alias: v for alias, v in self.aliases.items() if v != version}

    def _up(self) -> None:
        if self.down:
            raise Unavailable("MLflow did not answer")


@dataclass
class HandClock:
    """A wall clock that a test sets, and the uptime which only ever grows."""

    wall: datetime = datetime(2026, 11, 21, tzinfo=UTC)
    uptime: float = 1000.0

    def now(self) -> datetime:
        return self.wall

    def run(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.uptime += seconds

    def set(self, hours: float) -> None:
        self.wall += timedelta(hours=hours)


@dataclass(frozen=True)
class Stock:
    """Releases 1 to `n` in a bundle store, made once."""

    bundles: BundleStore
    refs: tuple[ReleaseRef, ...]

    def __getitem__(self, number: int) -> ReleaseRef:
        return self.refs[number - 1]


@lru_cache(maxsize=1)
def stock() -> Stock:
    """Five releases of one model, in a folder that lives as long as this process."""
    folder = _scratch()
    bundles = BundleStore(folder / "bundles")
    refs = [
        ReleaseRef(MODEL, number, bundles.put(manifest_of(MODEL, number), folder))
        for number in range(1, 6)
    ]
    return Stock(bundles, tuple(refs))


class Plant:
    """One platform in one process. `restart` is what a new controller process does."""

    def __init__(self, *, crash_at: int | None = None) -> None:
        self.folder = _scratch()
        self.points = Points()
        self.sheds = Sheds(self.points)
        self.launcher = Launcher()
        self.registry = MemoryRegistry()
        self.clock = HandClock()
        self.analysis: Analysis | None = PASS
        self.loaded: dict[str, Any] = {"generation": 0, "models": {}}
        self.gateway_stuck = False
        self.crash_at = crash_at
        self.crashes = 0
        self.failed_calls: list[str] = []
        self.routes_file = self.folder / "routes.json"
        (self.folder / "states").mkdir()
        self.restart()
        for ref in stock().refs:
            self.registry.tags[ref.version] = ref.digest
            self.controller.announce(ref, "test", "")
        self.points.passed.clear()
        self.points.at = crash_at

    def restart(self) -> None:
        """A new controller over what is on disk."""
        states = FileStates(self.folder / "states")
        self.journal = CrashingJournal(Journal(self.folder / "journal.db"), self.points)
        client = httpx.Client(
            transport=httpx.MockTransport(self._gateway), base_url="http://gateway"
        )
        world = ToldWorld(
            workloads=self.sheds,
            launcher=self.launcher,
            routes=RoutesFile(self.routes_file),
            gateways=Gateways([client]),
            bundles=stock().bundles,
            engines=lambda: frozenset(),
        )
        world.plant = self
        self.controller = Controller(
            states=CrashingStates(states, self.points),
            journal=self.journal,
            evidence=FileEvidence(self.folder / "evidence"),
            bundles=stock().bundles,
            world=world,
            clock=self.clock,
        )
        self.controller._steady._uptime = lambda: self.clock.uptime
        self.controller._steady._offset = self.clock.uptime
        self.watcher = Watcher(self.controller, self.registry, 2.0)

    def _gateway(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/proa/v1/routes":
            return httpx.Response(200, json={"generation": self.loaded["generation"]})
        return httpx.Response(503, json={})

    def close(self) -> None:
        shutil.rmtree(self.folder)

    # What happens

    def turn(self, seconds: float = 1.0) -> None:
        """The gateway reads its routes, the supervisor acts, the controller ticks, users call."""
        self.clock.run(seconds)
        self.gateway_reads()
        routed = self.routed_urls()
        for name in sorted(self.sheds.all):
            self.sheds.turn(name, routed)
        self.call()
        self.guarded(self.controller.tick)
        self.call()

    def guarded(self, act: Callable[[], Any]) -> Any:
        """Do something that a kill may end; then the supervisor starts a new controller."""
        try:
            return act()
        except Killed:
            self.crashes += 1
            self.call()
            self.restart()
            return None

    def gateway_reads(self) -> None:
        if not self.gateway_stuck and self.routes_file.exists():
            self.loaded = read_json(self.routes_file)

    def routed_urls(self) -> set[str]:
        """URLs that the routes file or the gateway's copy of it names."""
        written = read_json(self.routes_file) if self.routes_file.exists() else {"models": {}}
        return {
            track["url"]
            for routes in (written, self.loaded)
            for model in routes["models"].values()
            for track in model["tracks"].values()
        }

    def call(self) -> None:
        """A user's call to every track with weight: each must be answered by its release."""
        alive = self.sheds.alive()
        for model in self.loaded["models"].values():
            usable = [t for t in model["tracks"].values() if t["ready"] and t["weight"] > 0]
            for track in usable:
                if str(alive.get(track["url"])) != track["release"]:
                    self.failed_calls.append(f"{track} answered by {alive.get(track['url'])}")
            if not usable and self.has_served:
                self.failed_calls.append("nobody answers")
            self.has_served = self.has_served or bool(usable)

    has_served = False

    def look(self) -> None:
        """The watcher's look at the aliases."""
        self.guarded(lambda: self.watcher.look())

    def run(self, turns: int = 40, *, until: Callable[[], bool] | None = None) -> None:
        """Turns with looks between them, until a condition holds."""
        for _ in range(turns):
            self.turn()
            self.look()
            if until is not None and until():
                return
        if until is not None:
            raise AssertionError(f"not within {turns} turns: {self.state}")

    def settle(self) -> None:
        """Until nothing is under way, and a little longer."""
        self.run(60, until=self.is_settled)
        self.run(3)

    def is_settled(self) -> bool:
        state = self.state
        want = self.sheds.status(MODEL)
        return (
            state.phase == "idle"
            and state.applying is None
            and state.aliases.wish is None
            and want.release == state.champion
        )

    # What people ask

    def judge(self, ref: ReleaseRef, *, good: bool = True) -> None:
        """A whole gate: slot, evidence, verdict, slot given back."""
        slot = self.controller.take_slot(ref)
        champion = None if slot.champion is None else str(slot.champion)
        found = _evidence(ref, champion, slot.runtime, good)
        self.controller.record_verdict(MODEL, slot.id, found, "test")
        self.controller.release_slot(MODEL, slot.id)

    def promote(self, ref: ReleaseRef, **policy: Any) -> None:
        self.controller.promote(ref, who="ann", reason="because", policy=policy_of(**policy))

    def rollback(self) -> None:
        self.controller.rollback(MODEL, who="ann", reason="wrong")

    def first(self) -> None:
        """Release 1 becomes champion."""
        self.judge(stock()[1])
        self.promote(stock()[1])
        self.settle()

    # What is

    @property
    def state(self) -> Rollout:
        state = FileStates(self.folder / "states").find(MODEL)
        assert state is not None
        return state

    def lines(self) -> list[Line]:
        return self.journal.lines(MODEL)

    def actions(self) -> list[str]:
        """The journal's actions without those of creating and judging."""
        return [x.action for x in self.lines() if x.action not in ("created", "judged")]

    def check_journal(self) -> None:
        """Whole, in order, and every transition in it exactly once."""
        self.journal.verify()
        keys = [line.key for line in self.lines()]
        assert len(keys) == len(set(keys))

    @property
    def reported(self) -> int | None:
        return self.registry.aliases.get(CHAMPION)


def policy_of(**changes: Any) -> Policy:
    """The settings of these tests in one place."""
    return parse_policy({"steps": [10, 50], "max_seconds": 30, "warm_seconds": 60, **changes})


_verdicts: dict[int, Any] = {}


def remembered_judge(found: Any) -> Any:
    """The real `judge`, asked once for the same evidence: it is pure and takes a while."""
    if id(found) not in _verdicts:
        _verdicts[id(found)] = judge(found)
    return _verdicts[id(found)]


@cache
def _evidence(ref: ReleaseRef, champion: str | None, runtime: str, good: bool) -> Any:
    return evidence({"champion": champion, "runtime": runtime}, ref, good=good)


@contextmanager
def remembering() -> Iterator[None]:
    """Judge with memory while it lasts."""
    real, verdicts.judge = verdicts.judge, remembered_judge
    try:
        yield
    finally:
        verdicts.judge = real


def _scratch() -> Path:
    """A folder in memory where there is one: thousands of flushed writes are made in it."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="proa-plant-", dir=memory if memory.is_dir() else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
