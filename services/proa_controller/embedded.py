"""One machine: releases run as processes under the supervisor."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proa.embedded.home import Home
from proa.embedded.platform_file import Platform
from proa.embedded.workload import Template, Workload
from proa.embedded.workloads import WorkloadFiles
from proa.errors import ProaError, Refused
from proa.release.bundle import BundleStore
from proa.release.manifest import Manifest
from proa.release.reference import ReleaseRef
from proa.release.runtime import progress_of, python_for
from proa.rollout.workloads import Deployed

_DRAIN_SECONDS: Final = {"classic": 20.0, "llm": 120.0}
"""How long an answer under way may take when its process is replaced: a long streamed one too."""
_FLUSH_SECONDS: Final = 10.0
_AGAIN_SECONDS: Final = 30.0
"""After this long a failed build is tried again, when somebody still wants it."""


class ProcessWorkloads:
    """`proa.rollout.workloads.Workloads` over the supervisor's files."""

    def __init__(self, files: WorkloadFiles) -> None:
        self._files = files

    def apply(
        self,
        name: str,
        template: Template,
        *,
        after: int,
        replicas: int | None = None,
        cause: str = "",
    ) -> int:
        """Write the template under this name; there is always one process of it."""
        return self._files.apply(Workload(name, template), after=after)

    def status(self, name: str) -> Deployed:
        """The supervisor's view of a workload."""
        status = self._files.status(name)
        if status is None:
            return Deployed()
        # Until the supervisor has tried a template, a failure it tells of is an older one's.
        tried = status.observed_generation == status.desired_generation and not status.updating
        return Deployed(
            template_release=_ref(status.desired_release),
            generation=status.desired_generation,
            release=_ref(status.release),
            url=status.url,
            ready=status.ready,
            failed=status.failed if tried else None,
        )

    def undo(self, name: str) -> int:
        """The template before this one, again."""
        return self._files.undo(name)

    def delete(self, name: str) -> None:
        """Drain and stop."""
        self._files.delete(name)


@dataclass(slots=True)
class _Build:
    """One release on its way to a command: its files laid out, its runtime built."""

    future: Future[list[str]]
    failed_at: float | None = None


class ProcessLauncher:
    """Makes the command line of a release's process; lays it out and builds its runtime first."""

    def __init__(self, home: Home, platform: Platform, bundles: BundleStore) -> None:
        self._home = home
        self._platform = platform
        self._bundles = bundles
        self._builds: dict[str, _Build] = {}
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="runtime")

    def template(self, ref: ReleaseRef, manifest: Manifest, track: str) -> Template | None:
        """The workload's template, or None while the runtime is being built.

        Raises:
            Refused: `RuntimeBroken`: the runtime cannot be built; the message names the
                requirement.
        """
        command = self._command(ref, manifest)
        if command is None:
            return None
        own = manifest.runtime.kind == "image" and manifest.files
        return Template(
            command=tuple(command),
            env={"PROA_RELEASE": str(ref)},
            cwd=str(self._folder(ref)) if own else None,
            release=str(ref),
            labels={
                "proa.dev/model": ref.name,
                "proa.dev/version": str(ref.version),
                "proa.dev/track": track,
            },
            startup_seconds=120,
            drain_seconds=_DRAIN_SECONDS[manifest.kind] + _FLUSH_SECONDS,
        )

    def progress(self, ref: ReleaseRef) -> str | None:
        """How far the build of a release's runtime is, for people; None when none is under way."""
        build = self._builds.get(ref.digest)
        if build is None or build.future.done() or not self._bundles.has(ref.digest):
            return None
        manifest = self._bundles.manifest(ref.digest)
        if manifest.runtime.requirements is None:
            return None
        lock = {file.path: file.sha256 for file in manifest.files}[manifest.runtime.requirements]
        return progress_of(self._home.runtimes, lock) or "the runtime waits to be built"

    def _folder(self, ref: ReleaseRef) -> Path:
        return self._home.releases / ref.digest.removeprefix("sha256:")

    def _command(self, ref: ReleaseRef, manifest: Manifest) -> list[str] | None:
        start = self._start(ref, manifest)
        if start is None or manifest.runtime.kind == "image":
            return start
        home, urls = self._home, self._platform.urls
        key = "predictor" if manifest.kind == "classic" else "assistant"
        command = [
            *start,
            *("--release", str(ref)),
            *("--bundles", home.bundles.as_uri()),
            *("--workdir", str(home.releases)),
            *("--host", "{host}", "--port", "{port}"),
            *("--monitor", urls["monitor"]),
            *("--key-file", str(home.key(key))),
            *("--drain-seconds", str(_DRAIN_SECONDS[manifest.kind])),
        ]
        if manifest.kind == "classic":
            return [*command, "--features", urls["features"]]
        weights = self._platform.weights
        return [*command, "--engine", f"{urls['engine']}/v1", "--weights", str(weights)]

    def _start(self, ref: ReleaseRef, manifest: Manifest) -> list[str] | None:
        """The command's beginning, or None while a runtime of its own is being built."""
        runtime = manifest.runtime
        if runtime.requirements is None and (runtime.kind != "image" or not manifest.files):
            return python_for(manifest, self._folder(ref), self._home.runtimes)
        build = self._builds.get(ref.digest)
        if build is None or _is_stale(build):
            future = self._pool.submit(self._build, ref, manifest)
            build = self._builds[ref.digest] = _Build(future)
        if not build.future.done():
            return None
        error = build.future.exception()
        if error is not None:
            # kept a while: a turn every half second must not build every half second
            build.failed_at = build.failed_at or time.monotonic()
            hint = error.hint if isinstance(error, ProaError) else None
            raise Refused(
                f"{ref.short}: its runtime cannot be built: {error}",
                code="RuntimeBroken",
                hint=hint,
            )
        del self._builds[ref.digest]  # the next template is made of files verified anew
        return build.future.result()

    def _build(self, ref: ReleaseRef, manifest: Manifest) -> list[str]:
        folder = self._folder(ref)
        self._bundles.materialize(ref.digest, folder)
        return python_for(manifest, folder, self._home.runtimes)


def _is_stale(build: _Build) -> bool:
    """A failure that may be tried again, or an environment that somebody removed."""
    if not build.future.done():
        return False
    if build.future.exception() is None:
        program = build.future.result()[0]
        return program.startswith("/") and not Path(program).exists()
    return build.failed_at is not None and time.monotonic() - build.failed_at > _AGAIN_SECONDS


def _ref(text: str | None) -> ReleaseRef | None:
    return None if text is None else ReleaseRef.parse(text)
