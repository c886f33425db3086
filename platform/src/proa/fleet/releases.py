"""`create`, `diff` and the releases there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from proa.embedded.files import write_json
from proa.errors import InvalidInput, NotFound
from proa.fleet.wire import Wire
from proa.release.bundle import list_files
from proa.release.diff import Change, diff, text_diff
from proa.release.manifest import Manifest, check_manifest
from proa.release.reference import ReleaseRef
from proa.release.registry import Registered

_TEXT_FILES = (".txt", ".md", ".yaml", ".yml")  # what people write; not selftest and profile


class Releases(Wire):
    """Verbs that make releases and read them."""

    def create(
        self,
        project: Path,
        *,
        overrides: Mapping[str, str] | None = None,
        until: str = "register",
        cause: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] = lambda line: None,
    ) -> dict[str, Any]:
        """Run a project's pipeline on this machine, as far as `register`, `gate` or `promote`.

        Args:
            cause: `cause`, `requested_by`, `evidence`: why it runs, when somebody asked.

        Returns:
            The pipeline's result: `release`, `verdict` when it came that far, seconds per step.
        """
        from proa.project.load import load
        from proa.project.run import run_pipeline

        loaded = load(project, overrides=overrides or {})
        home = self._home("a pipeline on this machine")
        write_json(home.projects / f"{loaded.name}.json", {"folder": str(loaded.folder)})
        return run_pipeline(
            project,
            home=home.root,
            platform=self._platform_file(),
            overrides=overrides or {},
            until=until,
            cause=cause or {},
            on_line=on_line,
        )

    def _platform_file(self) -> Path | None:
        """The file by which child processes find a platform that is not this home's."""
        preset = self._preset
        return preset.source if preset is not None and preset.source.is_file() else None

    def create_own(
        self,
        project: Path,
        *,
        uri: str | None = None,
        data: Path | None = None,
        overrides: Mapping[str, str] | None = None,
        until: str = "register",
        new_exam: bool = False,
        on_line: Callable[[str], None] = lambda line: None,
    ) -> dict[str, Any]:
        """Make a release of a model that is made already: four lines of yaml and a sample.

        Args:
            project: a folder with `proa.yaml`, or the file: name, task, label, unit.
            uri: `models:/NAME/VERSION`, `runs:/…` or a model's file; None: the project's `from`,
                or its `serve.command`.
            data: sample as Parquet, CSV or JSON lines; None: the project's `data`.
            new_exam: make another exam than the releases before sat.

        Returns:
            `release`, `not_watched`, `exam`, seconds per step, `verdict` when it came that far.
        """
        from proa.project.load import load
        from proa.project.run import bring_model

        _ = load(project, overrides=overrides or {}).own
        return bring_model(
            project,
            home=self._home("a pipeline on this machine").root,
            platform=self._platform_file(),
            uri=uri,
            data=data,
            overrides=overrides or {},
            until=until,
            new_exam=new_exam,
            on_line=on_line,
        )

    def create_from_folder(
        self,
        folder: Path,
        manifest: Mapping[str, Any],
        *,
        run_id: str | None = None,
        reason: str = "",
        rollout: Mapping[str, Any] | None = None,
        retrain: Mapping[str, Any] | None = None,
        weights: Path | None = None,
    ) -> ReleaseRef:
        """Make a release of a staged folder: store the bundle, register, journal.

        Args:
            folder: holds every file of the release; `manifest["files"]` is filled in from it.
            manifest: the manifest without `files`, see `proa.release.manifest.Manifest`.
            run_id: the MLflow run it came from.
            rollout: the project's `rollout:` section, for the controller to keep; None says
                nothing about it. A looser one waits for an approval; `status` says so.
            retrain: its `retrain:` section, in the same way; an empty one says that nothing is
                retrained by itself.
            weights: folder below which weights of embedders lie; the release's own are stored
                beside its bundle, so that pods find them. None: nothing is stored.

        Returns:
            The release; the same content again is the same release, not a new version.
        """
        from proa.release.transfer import weights_of
        from proa.retrieval.embedder import find_weights

        files = [file.model_dump() for file in list_files(folder)]
        checked = check_manifest({**manifest, "files": files})
        embedder = weights_of(checked)
        if weights is not None and embedder is not None:
            self.bundles.put_weights(find_weights(weights, embedder))
        self.bundles.put(checked, folder)
        ref, _ = self.registry.register(
            checked, bundle=self.endpoints.bundles, run_id=run_id, links=self._links(run_id)
        )
        body: dict[str, Any] = {"release": str(ref), "reason": reason}
        if rollout is not None:
            body["rollout"] = dict(rollout)
        if retrain is not None:
            body["retrain"] = dict(retrain)
        self._controller("POST", f"/v1/models/{ref.name}/releases", body)
        return ref

    def _links(self, run_id: str | None) -> dict[str, str]:
        if run_id is None:
            return {}
        found = self.registry.run_page(run_id)
        return {"run": found} if found else {}

    def release(self, text: str) -> ReleaseRef:
        """The release named by `name`, `name/version`, `name@alias` or a full reference.

        A bare name means the newest release.

        Raises:
            NotFound: there is none.
        """
        if "@sha256:" in text:
            return ReleaseRef.parse(text)
        name, _, alias = text.partition("@")
        if alias:
            found = self.registry.alias(name, alias)
            if found is None:
                raise NotFound(f"{name}: no alias {alias!r}", hint=f"proa history {name}")
            return found
        name, _, version = text.partition("/")
        if version:
            if not version.isdigit():
                raise InvalidInput(f"release {text!r}: expected name/number, as flight-delay/3")
            return self.registry.ref(name, int(version))
        return self._newest(name)

    def _newest(self, name: str) -> ReleaseRef:
        releases = self.registry.versions(name)
        if not releases:
            raise NotFound(f"model {name!r} has no release", hint="proa create PROJECT")
        return releases[-1].ref

    def releases(self, name: str) -> list[Registered]:
        """Every release of a model, oldest first."""
        return self.registry.versions(name)

    def manifest(self, ref: ReleaseRef) -> Manifest:
        """A release's manifest, its digest verified."""
        return self.bundles.manifest(ref.digest)

    def diff(self, before: ReleaseRef, after: ReleaseRef) -> tuple[list[Change], list[str]]:
        """What differs: keys, and unified diffs of the small text files (prompts, rules)."""
        one, two = self.manifest(before), self.manifest(after)
        changes = diff(one, two)
        return changes, self._text_diffs(changes)

    def _text_diffs(self, changes: Sequence[Change]) -> list[str]:
        lines: list[str] = []
        for change in changes:
            path = change.key.removeprefix("files:")
            if path == change.key or not path.endswith(_TEXT_FILES):
                continue
            texts = [
                self.bundles.text(digest, limit=64 << 10) if digest else ""
                for digest in (change.before, change.after)
            ]
            if texts[0] is not None and texts[1] is not None:
                lines += text_diff(path, texts[0], texts[1])
        return lines
