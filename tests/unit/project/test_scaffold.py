"""`proa init`: what it writes is a project, says its name, and never replaces a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from proa.errors import Conflict, InvalidInput
from proa.exam.exam import load as load_exam
from proa.project import load
from proa.project.scaffold import write_project


@pytest.mark.parametrize("kind", ["classic", "llm"])
def test_what_is_written_is_a_project_with_an_exam(kind: str, tmp_path: Path) -> None:
    written = write_project("my-model", kind=kind, folder=tmp_path / "p")
    project = load(tmp_path / "p")
    assert (project.name, project.kind) == ("my-model", kind)
    assert load_exam(project).size >= 16
    assert sorted(written) == sorted(p for p in (tmp_path / "p").rglob("*.*") if p.suffix != ".pyc")
    readme = (tmp_path / "p" / "README.md").read_text()
    assert "proa create . --until promote" in readme
    assert len(readme.splitlines()) <= 10
    for path in written:
        assert "NAME-OF-THE-PROJECT" not in path.read_text()


@pytest.mark.parametrize("kind", ["classic", "llm"])
def test_every_line_of_the_settings_says_why(kind: str, tmp_path: Path) -> None:
    write_project("m", kind=kind, folder=tmp_path)
    lines = (tmp_path / "proa.yaml").read_text().splitlines()
    silent = []
    for number, line in enumerate(lines):
        opens = line.endswith(":")
        explained = "#" in line or (number > 0 and lines[number - 1].lstrip().startswith("#"))
        if line.strip() and not opens and not explained:
            silent.append(line)
    allowed = ("description:", "team:")
    assert [line for line in silent if not line.startswith(allowed)] == []


def test_a_file_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("mine")
    with pytest.raises(Conflict, match=r"model\.py is there already: nothing was written"):
        write_project("m", kind="classic", folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.py"]
    assert (tmp_path / "model.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["My Model", "x_y", "", "-a"])
def test_a_name_that_no_model_can_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="expected lower-case letters"):
        write_project(name, kind="classic", folder=tmp_path)
