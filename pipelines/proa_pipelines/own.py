"""`proa create --from`: a model that is made already becomes a release, step by step.

No KFP, no Feast: fetch, read, sample, runtime, answers, stage, register, then gate and promote if
asked for. Each step prints one line with its seconds; the result file is that of a pipeline.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proa.embedded.files import write_json
from proa.embedded.home import Home
from proa.errors import InvalidInput, ProaError, Refused, error_from_wire
from proa.project import OwnProject, Project
from proa.project import load as load_project
from proa.release import runtime as runtimes
from proa.release.bundle import list_files
from proa.release.manifest import ClassicSpec, Runtime, check_manifest
from proa.release.reference import ReleaseRef
from proa.release.requirements import LOCK, compiled, name_of, pins
from proa_pipelines import own_exam, own_process, own_sample, own_source, own_stage
from proa_pipelines.origin import source as origin
from proa_pipelines.own_sample import Sample
from proa_pipelines.own_source import Source
from proa_pipelines.release_steps import fleet_of

__all__ = ["bring"]

_PLATFORM = (*runtimes.MODEL_LIBRARIES, "joblib", "threadpoolctl", "narwhals")
"""What a model may need and still run in the predictor's own environment."""
Say = Callable[[str], None]


@dataclass
class Steps:
    """Says each step with its seconds, and keeps them for the result."""

    say: Say
    done: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def __call__(self, name: str) -> Iterator[Say]:
        began = time.monotonic()
        told: list[str] = []
        yield told.append
        seconds = time.monotonic() - began
        self.done.append({"step": name, "seconds": round(seconds, 3)})
        for number, line in enumerate(told or [""]):
            head = f"  {name:<9}{seconds:6.1f} s" if number == 0 else " " * 19
            self.say(f"{head}  {line}".rstrip())


@dataclass(frozen=True)
class Asked:
    """What the command line asked for."""

    project: Project
    home: Home
    uri: str | None
    data: Path
    until: str
    new_exam: bool
    run_id: str | None
    reason: str

    @property
    def settings(self) -> OwnProject:
        """The project's settings."""
        return self.project.own


def bring(
    project: Path,
    home: Path,
    *,
    uri: str | None = None,
    data: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    until: str = "register",
    new_exam: bool = False,
    run_id: str | None = None,
    reason: str = "",
    say: Say = print,
) -> dict[str, Any]:
    """Make a release of a model that is made already.

    Args:
        project: the folder or file with the lines name, task, label, unit.
        uri: `models:/NAME/VERSION`, `runs:/…` or a file; else `from` of the project.
        data: the sample; else `data` of the project.
        until: `register`, `gate` or `promote`.
        new_exam: make another exam than the one that earlier releases sat.
        run_id: the pipeline run this is part of, if it is.
        reason: why it is made, for the journal; else where it comes from.

    Returns:
        project, release, not_watched, exam, steps (name, seconds), verdict and reason if judged.

    Raises:
        ProaError: names the step's fault; nothing is registered then.
    """
    found = load_project(project, dict(overrides or {}))
    settings = found.own
    sample = data or (found.folder / settings.data if settings.data else None)
    if sample is None:
        raise InvalidInput(
            "a sample is missing: give --data FILE (Parquet, CSV or JSON lines), or the line "
            "`data: FILE`",
            param="data",
        )
    if uri is None and settings.from_ is None and settings.serve is None:
        raise InvalidInput(
            "the model is missing: give --from models:/NAME/VERSION, or the line `from:`, or "
            "serve.command",
            param="from",
        )
    asked = Asked(
        found, Home(home.resolve()), uri or settings.from_, sample, until, new_exam, run_id, reason
    )
    steps = Steps(say)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="proa-own-") as temporary:
        result = _Bringing(asked, Path(temporary), steps).run()
    seconds = round(time.monotonic() - began, 3)
    return {"project": found.name, "kind": "classic", **result, "steps": steps.done,
            "seconds": seconds}  # fmt: skip


class _Bringing:
    """One model on its way to a release."""

    def __init__(self, asked: Asked, work: Path, steps: Steps) -> None:
        self._asked, self._work, self._steps = asked, work, steps
        self._settings = asked.settings
        self._folder = work / "release"
        self._folder.mkdir()
        self._fleet = fleet_of(str(asked.home.root))

    def run(self) -> dict[str, Any]:
        source = None if self._settings.serve is not None else self._fetched()
        with self._steps("sample") as tell:
            columns = None if source is None else source.columns
            sample = own_sample.read(self._asked.data, self._settings, columns)
            tell(f"{len(sample.frame):,} rows, {len(sample.columns)} columns; "
                 f"{int(sample.held.sum()):,} rows held out for the exam")  # fmt: skip
        with self._steps("runtime") as tell:
            runtime, python = self._runtime(source, tell)
        with self._steps("answers") as tell:
            spec, outputs = self._answers(source, sample, runtime, python)
            tell(f"{len(next(iter(outputs.values()))):,} rows answered: {', '.join(outputs)}")
        exam = self._exam(sample, spec)
        lines = own_stage.not_watched(
            self._settings, sample, source, runtime, exam=exam is not None
        )
        with self._steps("release") as tell:
            ref = self._register(source, sample, spec, outputs, runtime, lines)
            tell(f"{ref.short} {ref.digest[:19]}…")
        for line in lines:
            self._steps.say(f"  not watched: {line}")
        result: dict[str, Any] = {"release": str(ref), "not_watched": lines}
        result["exam"] = None if exam is None else str(exam)
        if self._asked.until != "register":
            result |= self._judged(ref, exam)
        return result

    def _fetched(self) -> Source:
        with self._steps("fetch") as tell:
            uri = self._asked.uri or ""
            beside = Path.cwd() if uri != self._settings.from_ else self._asked.project.folder
            path, uri, run_id = own_source.fetch(
                uri, self._fleet.endpoints.mlflow, self._work, beside=beside
            )
            trusted = self._settings.trust == "own-code"
            source = own_source.read(path, self._folder, uri=uri, run_id=run_id, trusted=trusted)
            tell(f"{source.uri}: {source.about}")
        return source

    def _runtime(self, source: Source | None, tell: Say) -> tuple[Runtime, str]:
        """The release's runtime and its Python, built."""
        own = self._asked.project.path("runtime.requirements")
        lines = source.requirements if source is not None else ()
        if own is None and (source is None or _is_platforms(source)):
            names = [name for line in lines if (name := name_of(line)) in _PLATFORM]
            tell("the platform's own libraries")
            known = sorted({*runtimes.MODEL_LIBRARIES, *names})
            return runtimes.describe(known), sys.executable
        path = own
        if path is None:
            path = self._work / "requirements.txt"
            path.write_text("\n".join(lines) + "\n")
        root = self._asked.home.runtimes
        told = lambda line: self._steps.say(f"    {line}")  # noqa: E731
        lock = compiled(path, root)
        shutil.copyfile(lock, self._folder / LOCK)
        python = runtimes.build(lock, root, progress=told)
        named = [name_of(line) for line in (lines or path.read_text().splitlines())]
        pinned = pins(lock)
        listed = [f"{name} {pinned[name]}" for name in named if name in pinned]
        tell(f"Python {sys.version_info[0]}.{sys.version_info[1]}, {len(pinned)} packages: "
             f"{', '.join(listed[:4])}")  # fmt: skip
        return runtimes.described_by(lock, path=LOCK), str(python)

    def _answers(
        self, source: Source | None, sample: Sample, runtime: Runtime, python: str
    ) -> tuple[ClassicSpec, dict[str, list[Any]]]:
        """The model's own answers for the whole sample, and the spec with what it knows."""
        settings = self._settings
        spec = ClassicSpec(
            task=settings.task,
            model="model" if source is None else source.path,
            model_format="mlflow" if source is None else source.format,
            trust=settings.trust,
            columns=list(sample.columns),
            classes=settings.classes if settings.task == "multiclass" else [],
            threshold=settings.threshold,
            missing=settings.missing,
            explainer=settings.explain,
            background="background.json",
        )
        if source is None:
            return self._of_process(sample, spec, python)
        body: dict[str, Any] = {
            "manifest": self._manifest(spec, runtime),
            "columns": own_stage.rows_of(sample, sample.columns),
            "explicit": bool(settings.columns) or source.columns is not None,
        }
        if settings.task == "multiclass" and not spec.classes and sample.label is not None:
            body["manifest"]["classic"]["classes"] = sorted(set(sample.label.tolist()))
        found = _rehearse(python, self._folder, self._work, body)
        by_name = {column.name: column for column in sample.columns}
        columns = [by_name[name] for name in found["columns"]]
        known = {name: found[name] for name in ("classes", "intervals")}
        return spec.model_copy(update={"columns": columns, **known}), found["outputs"]

    def _of_process(
        self, sample: Sample, spec: ClassicSpec, python: str
    ) -> tuple[ClassicSpec, dict[str, list[Any]]]:
        from proa.http.contract import check_contract

        serve = self._settings.serve
        assert serve is not None
        for name in serve.files:
            _copy(self._asked.project.folder, name, self._folder)
        command = [part.replace("{python}", python) for part in serve.command]
        ref = ReleaseRef(self._settings.name, 1, f"sha256:{'0' * 64}")
        columns = own_stage.rows_of(sample, sample.columns)
        count = len(sample.frame)
        rows = [{name: values[i] for name, values in columns.items()} for i in range(count)]
        log = self._work / "process.log"
        with own_process.running(command, self._folder, release=str(ref), log=log) as url:
            report = check_contract(url, name=ref.name, rows=rows[:3], release=str(ref))
            report.require()
            binary = self._settings.task == "binary"
            outputs = own_process.answers(url, ref.name, rows, binary=binary)
        return spec, outputs

    def _exam(self, sample: Sample, spec: ClassicSpec) -> Path | None:
        """Where the exam is; the one that is there is kept."""
        settings, project = self._settings, self._asked.project
        folder = self._asked.home.projects / settings.name / "exam"
        record = self._asked.home.projects / f"{settings.name}.json"
        with self._steps("exam") as tell:
            if settings.exam is not None:
                write_json(record, {"folder": str(project.folder)})
                tell(f"{settings.exam} of the project")
                return project.folder
            kept = (folder / own_exam.EXAM).is_file()
            if kept and not self._asked.new_exam:
                tell(f"the one of the releases before: {folder / own_exam.EXAM}")
            elif sample.why_no_exam is not None:
                tell(f"none: {sample.why_no_exam}")
                return None
            else:
                shutil.rmtree(folder, ignore_errors=True)
                own_exam.write(folder, sample, settings, spec.classes)
                tell(f"{int(sample.held.sum()):,} held-out rows: {folder / own_exam.EXAM}")
            stated = {**project.settings, "exam": own_exam.EXAM, "runtime": {}}
            kept_settings = {k: v for k, v in stated.items() if k != "kind" and v is not None}
            write_json(folder / "proa.yaml", kept_settings)  # JSON is YAML
            write_json(record, {"folder": str(folder)})
        return folder

    def _manifest(self, spec: ClassicSpec, runtime: Runtime) -> dict[str, Any]:
        return {
            "name": self._settings.name,
            "kind": "classic",
            "description": self._settings.description,
            "runtime": runtime.model_dump(mode="json"),
            "classic": spec.model_dump(mode="json"),
        }

    def _register(
        self,
        source: Source | None,
        sample: Sample,
        spec: ClassicSpec,
        outputs: dict[str, list[Any]],
        runtime: Runtime,
        lines: list[str],
    ) -> ReleaseRef:
        if self._settings.serve is not None:
            command = {"kind": "image", "command": self._settings.serve.command}
            runtime = runtime.model_copy(update=command)
        settings = self._asked.project.settings
        made = own_stage.write(
            self._folder, sample=sample, spec=spec, outputs=outputs, settings=settings
        )
        about = {"from": source.uri, "model": source.about} if source is not None else {}
        where = origin(self._asked.project, "").model_dump(mode="json")
        run_id = None if source is None else source.run_id
        manifest = {
            **self._manifest(spec, runtime),
            **made,
            "parameters": about,
            "not_watched": lines,
            "source": {**where, "pipeline_run": self._asked.run_id, "mlflow_run": run_id},
        }
        files = [file.model_dump() for file in list_files(self._folder)]
        check_manifest({**manifest, "files": files})
        reason = f"made of {source.uri}" if source is not None else "a process of its own"
        ref: ReleaseRef = self._fleet.create_from_folder(
            self._folder,
            manifest,
            reason=self._asked.reason or reason,
            rollout=self._asked.project.rollout,
        )
        return ref

    def _judged(self, ref: ReleaseRef, exam: Path | None) -> dict[str, Any]:
        from proa.exam.exam import load

        if exam is None:
            raise Refused(
                f"{ref.short} is registered, but it has no exam to sit",
                code="ExamMissing",
                hint="give a sample with labels (label: COLUMN), or write exam.yaml",
            )
        with self._steps("gate") as tell:
            verdict = self._fleet.gate(ref, load(exam))
            tell(f"{verdict.value}: {verdict.reason}")
        result: dict[str, Any] = {"verdict": verdict.value, "reason": verdict.reason}
        if verdict.value != "pass" and self._asked.until == "promote":
            raise Refused(
                f"verdict {verdict.value} on {ref.short}: {verdict.reason}; not promoted",
                code="GateFailed",
                hint=f"proa history {ref.name} shows the checks",
            )
        if self._asked.until == "promote":
            with self._steps("promote") as tell:
                first = self._fleet.status(ref.name)["champion"] is None
                status = self._fleet.promote(ref, reason="proa create", wait=first)
                promoted = status["champion"] == str(ref)
                tell(f"{ref.short} is champion" if promoted else status["message"])
            result |= {"promoted": promoted, "phase": status["phase"]}
        return result


def _is_platforms(source: Source | None) -> bool:
    """Whether the model runs on the platform's own libraries, exactly as it was made."""
    if source is None or source.format != "skops" or not source.requirements:
        return False
    installed = {name: runtimes.version_of(name) for name in _PLATFORM}
    for line in source.requirements:
        name, _, version = line.partition("==")
        if installed.get(name_of(name)) != version.strip() or not version:
            return False
    return True


def _rehearse(python: str, folder: Path, work: Path, body: Mapping[str, Any]) -> dict[str, Any]:
    """Have the release's own Python load the model and answer."""
    request, answer, log = work / "request.json", work / "answer.json", work / "rehearse.log"
    request.write_text(json.dumps(body))
    with log.open("wb") as sink:
        done = subprocess.run(
            [python, "-W", "ignore", "-m", "proa.release.rehearse", str(folder), str(request),
             str(answer)],
            stdout=sink, stderr=subprocess.STDOUT, check=False, cwd=work,
        )  # fmt: skip
    found = own_stage.load_answer(answer)
    if "error" in found:
        raise error_from_wire(400, found)
    if done.returncode != 0 or not found:
        said = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise InvalidInput(
            f"the model ends its process ({done.returncode}): {' '.join(said)[:500]}"
        )
    return found


def _copy(folder: Path, name: str, target: Path) -> None:
    path = folder / name
    if not path.exists():
        raise InvalidInput(f"serve.files: {name!r}: no such file in {folder}", param="serve.files")
    if path.is_dir():
        ignore = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(path, target / name, ignore=ignore)
    else:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / name)


def run(options: Any, say: Say) -> int:
    """The verb `own` of the command line; writes the result file, also when it fails."""
    body: dict[str, Any] = {"until": options.until}
    error: ProaError | None = None
    try:
        body |= bring(
            options.project,
            options.home,
            uri=options.uri,
            data=options.data,
            overrides=dict(options.settings),
            until=options.until,
            new_exam=options.new_exam,
            say=say,
        )
    except ProaError as raised:
        error = raised
        body |= raised.to_wire()
    if options.result is not None:
        options.result.write_text(json.dumps(body, indent=1))
    if error is not None:
        raise error
    return 0
