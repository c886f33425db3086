"""Four lines of yaml: what a model made elsewhere needs, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from proa.errors import InvalidInput
from proa.project import OwnProject, load

FOUR = "name: churn\ntask: binary\nlabel: churned\nunit: customer\n"


def test_four_lines_are_enough(tmp_path: Path) -> None:
    (tmp_path / "proa.yaml").write_text(FOUR)
    project = load(tmp_path)
    assert isinstance(project.spec, OwnProject)
    assert (project.kind, project.task, project.own.trust) == ("classic", "binary", "formats")
    with pytest.raises(InvalidInput, match="there is no pipeline to run"):
        _ = project.classic


def test_a_file_of_any_name_is_a_project_too(tmp_path: Path) -> None:
    (tmp_path / "churn.yaml").write_text(FOUR)
    assert load(tmp_path / "churn.yaml").own.label == "churned"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("serve: {command: [run]}\n", "expected trust: own-code beside it"),
        (
            "trust: own-code\nfrom: models:/m/1\nserve: {command: [run]}\n",
            "expected one of from",
        ),
        ("trust: everything\n", "trust = 'everything'"),
        ("threshhold: 0.5\n", "threshhold is not a key; expected one of"),
        ("serve: {command: []}\ntrust: own-code\n", "serve.command"),
        ("holdout: 1.5\n", "holdout = 1.5"),
    ],
)
def test_a_mistake_is_named(more: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "proa.yaml").write_text(FOUR + more)
    with pytest.raises(InvalidInput, match=message):
        load(tmp_path)
