"""One machine: releases run as processes under the supervisor."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from proa.embedded.home import Home
from proa.embedded.platform_file import Platform
from proa.embedded.workload import Template, Workload
from proa.embedded.workloads import WorkloadFiles
from proa.errors import Refused
from proa.release.bundle import BundleStore
from proa.release.manifest import Manifest
from proa.release.reference import ReleaseRef
from proa.release.runtime import python_for
from proa.rollout.workloads import Deployed


class ProcessWorkloads:
    """`proa.rollout.workloads.Workloads` over the supervisor's files."""

    def __init__(self, files: WorkloadFiles) -> None:
        self._files = files

    def apply(self, name: str, template: Template) -> int:
        """Write the template under this name."""
        return self._files.apply(Workload(name, template))

    def status(self, name: str) -> Deployed:
        """The supervisor's view of a workload."""
        status = self._files.status(name)
        if status is None:
            return Deployed()
        return Deployed(
            template_release=_ref(status.desired_release),
            generation=status.desired_generation,
            release=_ref(status.release),
            url=status.url,
            ready=status.ready,
            failed=status.failed,
        )

    def undo(self, name: str) -> int:
        """The template before this one, again."""
        return self._files.undo(name)

    def delete(self, name: str) -> None:
        """Drain and stop."""
        self._files.delete(name)


class ProcessLauncher:
    """Makes the command line of a release's predictor or assistant; builds its runtime first."""

    def __init__(self, home: Home, platform: Platform, bundles: BundleStore) -> None:
        self._home = home
        self._platform = platform
        self._bundles = bundles
        self._builds: dict[str, Future[list[str]]] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="runtime")

    def template(self, ref: ReleaseRef, manifest: Manifest, track: str) -> Template | None:
        """The workload's template, or None while the runtime is being built.

        Raises:
            Refused: the runtime cannot be built; the message names the requirement.
        """
        command = self._command(ref, manifest)
        if command is None:
            return None
        return Template(
            command=tuple(command),
            env={"PROA_RELEASE": str(ref)},
            release=str(ref),
            labels={
                "proa.dev/model": ref.name,
                "proa.dev/version": str(ref.version),
                "proa.dev/track": track,
            },
            startup_seconds=120,
        )

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
        ]
        if manifest.kind == "classic":
            return [*command, "--features", urls["features"]]
        weights = self._platform.weights
        return [*command, "--engine", f"{urls['engine']}/v1", "--weights", str(weights)]

    def _start(self, ref: ReleaseRef, manifest: Manifest) -> list[str] | None:
        """The command's beginning, or None while a runtime of its own is being built."""
        folder = self._home.releases / ref.digest.removeprefix("sha256:")
        if manifest.runtime.kind != "requirements":
            return python_for(manifest, folder, self._home.runtimes)
        future = self._builds.get(ref.digest)
        if future is None:
            future = self._pool.submit(self._build, ref, manifest, folder)
            self._builds[ref.digest] = future
        if not future.done():
            return None
        error = future.exception()
        if error is not None:
            del self._builds[ref.digest]  # a later request tries again
            raise Refused(
                f"{ref.short}: its runtime cannot be built: {error}", code="RuntimeBroken"
            )
        return future.result()

    def _build(self, ref: ReleaseRef, manifest: Manifest, folder: Path) -> list[str]:
        self._bundles.materialize(ref.digest, folder)
        return python_for(manifest, folder, self._home.runtimes)


def _ref(text: str | None) -> ReleaseRef | None:
    return None if text is None else ReleaseRef.parse(text)
