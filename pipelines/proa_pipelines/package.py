"""A project's folder on its way to a cluster: packed, kept in MLflow under its digest, fetched.

A step gets `runs:/RUN/project.tar.gz@sha256:…` where on one machine it gets a folder. MLflow holds
the package because who may make a release may write there already, and a pod may read there; the
digest decides what is run, so a package that was changed is refused.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from proa.errors import Conflict, InvalidInput, NotFound, Unavailable
from proa.project import Project
from proa.release.canonical import canonical_json, digest_bytes
from proa.release.registry import prepare_mlflow
from proa_pipelines.origin import STATED, source

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["fetch", "folder_of", "keep", "kept", "pack", "parse", "unpack"]

_LIMIT: Final = 64 << 20
"""Bytes of a package; what is larger belongs into a store that `data.ingest` reads."""
_FILE: Final = "project.tar.gz"
_DIGEST_TAG, _NAME_TAG = "proa.package", "proa.project"
_REFERENCE: Final = re.compile(r"runs:/([0-9a-f]{32})/project\.tar\.gz@(sha256:[0-9a-f]{64})")
_LEFT_OUT: Final = ("__pycache__", "node_modules")


def pack(project: Project) -> bytes:
    """The folder as a tar.gz; the same files and commit give the same bytes.

    Left out: names that begin with a dot, `__pycache__`, compiled files.

    Raises:
        InvalidInput: a link in the folder, or more than 64 MiB; the largest file is named.
    """
    files = _files(project.folder)
    stated = source(project, "").model_dump(mode="json", include={"git_commit", "git_dirty"})
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, path in files.items():
            _add(tar, name, path.read_bytes())
        _add(tar, STATED, canonical_json(stated))
    packed = gzip.compress(raw.getvalue(), mtime=0)
    if len(packed) > _LIMIT:
        largest = max(files.values(), key=lambda path: path.stat().st_size)
        raise InvalidInput(
            f"{project.folder} is {len(packed) / 1e6:.0f} MB packed, of which "
            f"{largest.relative_to(project.folder)} has the most: expected at most 64 MiB",
            hint="read data from a store in data.ingest, and keep it out of the folder",
        )
    return packed


def _files(folder: Path) -> dict[str, Path]:
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") or part in _LEFT_OUT for part in parts):
            continue
        if path.is_symlink():
            raise InvalidInput(f"{path} is a link: a package holds files only")
        if path.is_file() and path.suffix != ".pyc":
            found["/".join(parts)] = path
    return found


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)  # no owner, no time, no mode of this machine
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def unpack(data: bytes, folder: Path) -> None:
    """Lay a package's files below `folder`.

    Raises:
        InvalidInput: an entry that is no plain file below the folder.
    """
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        for entry in tar:
            path = Path(entry.name)
            if not entry.isfile() or path.is_absolute() or ".." in path.parts:
                raise InvalidInput(f"package: {entry.name!r}: expected a file below its folder")
            content = tar.extractfile(entry)
            assert content is not None
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read())


def keep(url: str, name: str, data: bytes) -> str:
    """Keep a package in MLflow; returns its reference. The newest one is not kept twice.

    Args:
        url: MLflow's.
        name: the model's, whose experiment holds the package.
    """
    digest = digest_bytes(data)

    def act(client: MlflowClient) -> str:
        experiment = client.get_experiment_by_name(name)
        identifier = experiment.experiment_id if experiment else client.create_experiment(name)
        newest = _newest(client, identifier)
        if newest is not None and newest.data.tags[_DIGEST_TAG] == digest:
            return str(newest.info.run_id)
        tags = {_NAME_TAG: name, _DIGEST_TAG: digest}
        run = client.create_run(identifier, run_name=f"project {digest[7:15]}", tags=tags)
        with tempfile.TemporaryDirectory(prefix="proa-package-") as folder:
            path = Path(folder) / _FILE
            path.write_bytes(data)
            client.log_artifact(run.info.run_id, str(path))
        client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    return f"runs:/{_ask(url, act)}/{_FILE}@{digest}"


def kept(url: str, name: str) -> str:
    """The reference of the package of a model that was kept last.

    Raises:
        NotFound: none was.
    """

    def act(client: MlflowClient) -> str | None:
        experiment = client.get_experiment_by_name(name)
        newest = None if experiment is None else _newest(client, experiment.experiment_id)
        if newest is None:
            return None
        return f"runs:/{newest.info.run_id}/{_FILE}@{newest.data.tags[_DIGEST_TAG]}"

    found = _ask(url, act)
    if found is None:
        raise NotFound(
            f"no project of {name!r} was submitted to this platform yet",
            hint="proa create FOLDER --on cluster",
        )
    return str(found)


def parse(text: str) -> tuple[str, str] | None:
    """The MLflow run and the digest of a reference; None for any other text."""
    match = _REFERENCE.fullmatch(text)
    return None if match is None else (match[1], match[2])


def fetch(url: str, reference: str) -> bytes:
    """A kept package, its digest verified.

    Raises:
        Conflict: its bytes have another digest.  NotFound, Unavailable: MLflow has it not.
    """
    found = parse(reference)
    if found is None:
        raise InvalidInput(f"project {reference!r}: expected runs:/RUN/{_FILE}@sha256:…")
    run_id, digest = found

    def act(client: MlflowClient) -> bytes:
        with tempfile.TemporaryDirectory(prefix="proa-package-") as folder:
            return Path(client.download_artifacts(run_id, _FILE, folder)).read_bytes()

    data: bytes = _ask(url, act)
    if digest_bytes(data) != digest:
        raise Conflict(
            f"the project in run {run_id} has the digest {digest_bytes(data)}, not {digest}: it "
            "was changed after it was submitted",
            hint="submit it again",
            code="corrupt",
        )
    return data


@cache
def folder_of(project: str) -> str:
    """A project's folder: itself, or where its package was laid in this process."""
    if parse(project) is None:
        return project
    from proa.fleet import PLATFORM
    from proa.fleet.preset import read_preset

    platform = os.environ.get(PLATFORM)
    if not platform:
        raise InvalidInput(f"{PLATFORM} is not set: a packed project is fetched from its MLflow")
    preset = read_preset(Path(platform))
    folder = Path(tempfile.mkdtemp(prefix="proa-project-"))
    unpack(fetch(preset.endpoints.mlflow, project), folder)
    return str(folder)


def _newest(client: MlflowClient, experiment: str) -> Any | None:
    found = client.search_runs(
        [experiment],
        f"tags.`{_DIGEST_TAG}` LIKE 'sha256:%'",
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    return found[0] if found else None


def _ask(url: str, act: Any) -> Any:
    """Ask MLflow; its exceptions end here."""
    prepare_mlflow()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        return act(MlflowClient(url, url))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise NotFound(f"MLflow at {url}: {str(error)[:300]}") from error
        raise Unavailable(f"MLflow at {url}: {str(error)[:300]}") from error
