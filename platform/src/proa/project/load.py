"""Read `proa.yaml`, name every mistake by file, key, value and what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from proa.errors import InvalidInput, NotFound
from proa.project.check import check_settings
from proa.project.functions import resolve
from proa.project.model import FILES, ClassicProject, LlmProject, OwnProject
from proa.project.yamlfile import Lines, parse_scalar, parse_yaml
from proa.release.canonical import digest_json
from proa.release.manifest import Task

FILE = "proa.yaml"


@dataclass(frozen=True)
class Project:
    """A project's folder with its checked settings; nothing of the user's code is imported yet."""

    folder: Path
    spec: ClassicProject | OwnProject | LlmProject

    @property
    def name(self) -> str:
        """The model's name."""
        return self.spec.name

    @property
    def kind(self) -> str:
        """`classic` or `llm`."""
        return self.spec.kind

    @property
    def task(self) -> Task | None:
        """A classic model's task."""
        return None if isinstance(self.spec, LlmProject) else self.spec.task

    @property
    def own(self) -> OwnProject:
        """The settings of a model made elsewhere; `InvalidInput` when this is none."""
        if not isinstance(self.spec, OwnProject):
            raise InvalidInput(
                f"{FILE} of {self.name} describes a pipeline: expected name, task, label and unit "
                "of a model that is made already",
                hint="proa create FOLDER without --from runs the pipeline",
            )
        return self.spec

    @property
    def classic(self) -> ClassicProject:
        """The settings of a classic project; `InvalidInput` when this is none."""
        if isinstance(self.spec, OwnProject):
            raise InvalidInput(
                f"{FILE} of {self.name} describes a model made elsewhere: there is no pipeline to "
                "run",
                hint="proa create FOLDER --from models:/NAME/VERSION --data SAMPLE",
            )
        if not isinstance(self.spec, ClassicProject):
            raise InvalidInput(f"{FILE}: kind = {self.kind!r}: expected 'classic'", param="kind")
        return self.spec

    @property
    def llm(self) -> LlmProject:
        """The settings of an llm project; `InvalidInput` when this is none."""
        if not isinstance(self.spec, LlmProject):
            raise InvalidInput(f"{FILE}: kind = {self.kind!r}: expected 'llm'", param="kind")
        return self.spec

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Every setting in force, defaults filled in, as plain JSON under its key in the file.

        Without `rollout` and `retrain`: how a release moves is no part of what it is, nor is when
        the next one is made, or what it is examined on.
        """
        out = {"rollout": True, "retrain": True}
        if isinstance(self.spec, ClassicProject):
            return self.spec.model_dump(
                mode="json", by_alias=True, exclude={**out, "data": {"exam": True}}
            )
        return self.spec.model_dump(mode="json", by_alias=True, exclude=out)

    @property
    def rollout(self) -> dict[str, Any]:
        """The section `rollout:` as it was written, plain JSON; the controller keeps it."""
        return self.spec.rollout.to_json()

    @property
    def retrain(self) -> dict[str, Any]:
        """The section `retrain:`, every key filled in; empty when there is none."""
        return {} if self.spec.retrain is None else self.spec.retrain.to_json()

    @cached_property
    def digest(self) -> str:
        """Digest of `settings`: two runs with the same one were asked for the same."""
        return digest_json(self.settings)

    def path(self, key: str) -> Path | None:
        """The absolute path of the file that `key` names, or None when it names none."""
        value = _get(self.settings, key)
        return None if value is None else self.folder / str(value)

    def resolve(self, key: str) -> Any:
        """Import and return the `module:function` that `key` names; None for an absent optional.

        Raises:
            InvalidInput: `key` is no key that names a function.
            NotFound: the module or the function is not there; the message names both.
        """
        value = _get(self.settings, key)
        if value is None:
            return None
        if not isinstance(value, str) or ":" not in value:
            raise InvalidInput(f"{FILE}: {key} = {value!r}: expected module:function", param=key)
        return resolve(self.folder, value, where=f"{FILE}: {key}")


def load(path: Path | str, overrides: Mapping[str, Any] | None = None) -> Project:
    """Read and check a project.

    Args:
        path: the project's folder, or its `proa.yaml`.
        overrides: dotted key to value, laid over the file; texts are read as YAML scalars.

    Raises:
        NotFound: no such folder or no `proa.yaml` in it.
        InvalidInput: names file, key, value, what was expected and, where known, the line.
    """
    file = Path(path)
    file = file / FILE if file.is_dir() else file
    if not file.is_file():
        raise NotFound(
            f"project {str(path)!r}: expected a folder with {FILE}",
            hint="give the folder that holds proa.yaml",
        )
    value, lines = parse_yaml(file.read_bytes(), what=file.name)
    if not isinstance(value, dict):
        raise InvalidInput(f"{file.name}: expected keys with values, got {type(value).__name__}")
    for key, item in (overrides or {}).items():
        _lay_over(value, key, item)
    spec = _check(value, lines, what=file.name)
    project = Project(file.parent.resolve(), spec)
    _check_files(project, file.name)
    return project


def _check(
    value: dict[str, Any], lines: Lines, *, what: str
) -> ClassicProject | OwnProject | LlmProject:
    kind = value.get("kind")
    if kind is None and ("task" in value or "label" in value):
        return check_settings(OwnProject, value, what=what, lines=lines)
    if kind == "classic":
        return check_settings(ClassicProject, value, what=what, lines=lines)
    if kind == "llm":
        return check_settings(LlmProject, value, what=what, lines=lines)
    raise InvalidInput(f"{what}: kind = {kind!r}: expected 'classic' or 'llm'", param="kind")


def _check_files(project: Project, what: str) -> None:
    for key in FILES:
        if key not in ("prompt", "guard") or project.kind == "llm":
            path = project.path(key)
            if path is not None and not path.is_file():
                raise InvalidInput(
                    f"{what}: {key} = {_get(project.settings, key)!r}: no such file in "
                    f"{project.folder}",
                    param=key,
                )


def _lay_over(value: dict[str, Any], key: str, item: Any) -> None:
    parts = key.split(".")
    if not all(parts):
        raise InvalidInput(f"override {key!r}: expected a dotted key such as train.trials")
    section = value
    for depth, part in enumerate(parts[:-1]):
        inner = section.setdefault(part, {})
        if inner is None:
            inner = section[part] = {}
        if not isinstance(inner, dict):
            at = ".".join(parts[: depth + 1])
            raise InvalidInput(f"override {key!r}: {at} = {inner!r} has no keys", param=key)
        section = inner
    what = f"override {key} = {item!r}"
    section[parts[-1]] = parse_scalar(item, what=what) if isinstance(item, str) else item


def _get(settings: Mapping[str, Any], key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        if value is None:
            return None
        if not isinstance(value, Mapping) or part not in value:
            raise InvalidInput(f"{FILE}: {key} is not a key", param=key)
        value = value[part]
    return value
