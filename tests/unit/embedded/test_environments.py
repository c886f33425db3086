"""The file of environments: what is written comes back, what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from proa.embedded.environments import (
    PARTS,
    Environment,
    add_environment,
    environment,
    read_environments,
)
from proa.embedded.home import Home
from proa.errors import Conflict, InvalidInput, NotFound


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path / "home")
    found.root.mkdir()
    return found


def test_what_is_written_comes_back(home: Home, tmp_path: Path) -> None:
    assert read_environments(home) == {}
    urls = dict.fromkeys(PARTS, "https://there")
    far = Environment("prod", None, urls, tmp_path / "key")
    near = Environment("canada", tmp_path / "other")
    add_environment(home, far)
    add_environment(home, near)
    assert list(read_environments(home).items()) == [("canada", near), ("prod", far)]
    assert environment(home, "prod") == far
    with pytest.raises(Conflict, match="already"):
        add_environment(home, Environment("prod", tmp_path))
    add_environment(home, Environment("prod", tmp_path), replace=True)
    assert environment(home, "prod").home == tmp_path
    with pytest.raises(NotFound, match="known: canada, prod"):
        environment(home, "staging")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "Prod"}, "lower-case"),
        ({"home": None}, "missing: bundles, controller, gateway, mlflow, monitor"),
        ({"home": None, "urls": dict.fromkeys(PARTS, "x")}, "missing: the key file"),
    ],
)
def test_what_cannot_be_used_is_named(home: Home, changes: dict[str, object], said: str) -> None:
    values: dict[str, object] = {"name": "prod", "home": home.root.parent, **changes}
    with pytest.raises(InvalidInput, match=said):
        add_environment(home, Environment(**values))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="this platform itself"):
        add_environment(home, Environment("self", home.root))


@pytest.mark.parametrize("text", ["[]", "{}", '{"schema_version": 2, "environments": {}}', "{"])
def test_a_file_of_another_shape_is_named(home: Home, text: str) -> None:
    home.environments_file.write_text(text)
    with pytest.raises(InvalidInput, match=r"environments\.json"):
        read_environments(home)
