"""A project as a package: the same bytes for the same files, and nothing leaves its folder."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from proa.errors import Conflict, InvalidInput
from proa.project import Project, load
from proa.project.scaffold import write_project
from proa_pipelines import package
from proa_pipelines.origin import STATED, source


@pytest.fixture
def project(tmp_path: Path) -> Project:
    write_project("churn", kind="classic", folder=tmp_path / "churn")
    return load(tmp_path / "churn")


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


def test_the_same_files_are_the_same_bytes(project: Project, tmp_path: Path) -> None:
    one = package.pack(project)
    for path in project.folder.rglob("*"):
        path.chmod(0o700)
    (project.folder / "__pycache__").mkdir()
    (project.folder / "__pycache__" / "data.cpython-311.pyc").write_bytes(b"x")
    (project.folder / ".env").write_text("PASSWORD=1")
    (project.folder / ".git").mkdir()
    (project.folder / ".git" / "config").write_text("[remote]")
    assert package.pack(project) == one
    assert one[4:8] == bytes(4)  # gzip's own time of packing
    assert sorted(names(one)) == sorted(
        [path.name for path in project.folder.iterdir() if path.suffix in (".md", ".py", ".yaml")]
        + [STATED]
    )
    (project.folder / "data.py").write_text("def ingest(start, end): ...\n")
    assert package.pack(project) != one


def test_what_is_unpacked_is_the_project_and_says_its_commit(
    project: Project, tmp_path: Path
) -> None:
    package.unpack(package.pack(project), tmp_path / "there")
    there = load(tmp_path / "there")
    assert there.digest == project.digest
    assert source(there, "run-1").pipeline_run == "run-1"
    (tmp_path / "there" / STATED).write_text('{"git_commit": "c0ffee", "git_dirty": true}')
    found = source(there, "run-1")
    assert (found.git_commit, found.git_dirty) == ("c0ffee", True)


def test_a_link_and_a_heavy_folder_are_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "_LIMIT", 100)
    with pytest.raises(InvalidInput, match="expected at most 64 MiB"):
        package.pack(project)
    (project.folder / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput, match="passwd is a link"):
        package.pack(project)


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/../../outside"])
def test_nothing_is_laid_outside_the_folder(name: str, tmp_path: Path) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        package._add(tar, name, b"x")
    with pytest.raises(InvalidInput, match="expected a file below its folder"):
        package.unpack(raw.getvalue(), tmp_path / "in")
    assert not (tmp_path / "outside").exists()


def test_a_link_in_a_package_is_refused(tmp_path: Path) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(entry)
    with pytest.raises(InvalidInput, match="'link': expected a file"):
        package.unpack(raw.getvalue(), tmp_path)


def test_a_package_that_was_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = f"runs:/{'a' * 32}/project.tar.gz@sha256:{'0' * 64}"
    monkeypatch.setattr(package, "_ask", lambda url, act: b"something else")
    with pytest.raises(Conflict, match="changed after it was submitted"):
        package.fetch("http://mlflow", reference)


def test_a_folder_is_no_reference(tmp_path: Path) -> None:
    assert package.folder_of(str(tmp_path)) == str(tmp_path)
    assert package.parse("runs:/1/project.tar.gz@sha256:00") is None
