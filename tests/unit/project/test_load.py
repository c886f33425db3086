"""Project files: every mistake is named by file, key, value, expectation and line."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from proa.errors import InvalidInput, NotFound
from proa.project import ClassicProject, load

CLASSIC = """\
version: 1
name: flight-delay
kind: classic
task: binary
data:
  ingest: rows:ingest
  validate: rows:check
  time: time_hour
  label: late
  train: {start: 2013-01-01, end: 2013-04-01}
train:
  function: rows:train
threshold: {rule: f1}
"""
LLM = """\
version: 1
name: python-help
kind: llm
prompt: prompt.md
context: {system: 100, retrieved: 0, history: 0, question: 50}
engine: smollm2
"""


def project(folder: Path, text: str, **files: str) -> Path:
    (folder / "proa.yaml").write_text(text)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def test_classic_settings_have_their_defaults(tmp_path: Path) -> None:
    loaded = load(project(tmp_path, CLASSIC))
    assert loaded.classic.data.train.start == "2013-01-01T00:00:00+00:00"
    assert loaded.classic.train.trials == 20
    assert loaded.settings["data"]["validate"] == "rows:check"
    assert isinstance(loaded.spec, ClassicProject)
    with pytest.raises(InvalidInput, match="expected 'llm'"):
        _ = loaded.llm


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("label: late", "label: 3", r"proa.yaml: data.label = 3: expected a string \(line 9\)"),
        ("label: late", "lable: late", r"data.label is missing"),
        ("task: binary", "task: binry", r"task = 'binry': expected 'binary', 'multiclass'"),
        ("task: binary", "task: regression", r"threshold: expected none for task regression"),
        ("kind: classic", "kind: deep", r"kind = 'deep': expected 'classic' or 'llm'"),
        ("version: 1", "version: 2", r"version = 2: expected 1 \(line 1\)"),
        ("rows:ingest", "rows.ingest", r"data.ingest = 'rows.ingest': expected module:function"),
        ("2013-04-01", "2012-04-01", r"data.train: expected start before end"),
        ("threshold:", "treshold:", r"treshold is not a key; expected one of calibrate, cost"),
        (
            "{rule: f1}",
            "{rule: f1, values: 3}",
            r"threshold.values is not a key; expected one of",
        ),
        ("{rule: f1}", "{rule: fixed}", r"threshold: expected a value with rule fixed"),
        ("name: flight-delay", "name: Flight", r"name = 'Flight': "),
        ("task: binary", "name: again", r"name is given twice, in lines 2 and 4"),
        ("task: binary", "task: [", r"not valid YAML: .* \(line "),
        ("task: binary", "task: !!python/name:os.system", r"not valid YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load(project(tmp_path, CLASSIC.replace(old, new)))


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"prompt = 'prompt.md': no such file in"):
        load(project(tmp_path, LLM))
    assert load(project(tmp_path, LLM, prompt__md="{context}")).path("prompt") is not None
    with pytest.raises(InvalidInput, match="path inside"):
        load(tmp_path, {"prompt": "../x"})


def test_no_project_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"expected a folder with proa\.yaml"):
        load(tmp_path)


def test_overrides_are_yaml_scalars(tmp_path: Path) -> None:
    folder = project(tmp_path, CLASSIC)
    loaded = load(folder, {"train.trials": "5", "serve.explain": "shap", "slices": "[origin]"})
    assert (loaded.classic.train.trials, loaded.classic.serve.explain) == (5, "shap")
    assert loaded.classic.slices == ["origin"]
    assert loaded.digest != load(folder).digest
    with pytest.raises(InvalidInput, match=r"train.trials = 'many': expected an integer"):
        load(folder, {"train.trials": "many"})
    with pytest.raises(InvalidInput, match=r"data.label = 'late' has no keys"):
        load(folder, {"data.label.name": "x"})


@given(st.integers(1, 10_000))
def test_an_override_equals_the_value_in_the_file(trials: int) -> None:
    value = yaml.safe_load(CLASSIC)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        overridden = load(project(Path(one), CLASSIC), {"train.trials": str(trials)})
        value["train"]["trials"] = trials
        written = load(project(Path(two), yaml.safe_dump(value)))
    assert overridden.digest == written.digest


def test_functions_are_imported_only_when_called_for(tmp_path: Path) -> None:
    folder = project(
        tmp_path,
        CLASSIC,
        rows__py="import late_one\ndef train():\n    import sibling\n    return sibling.VALUE\n",
        late_one__py="",
        sibling__py="VALUE = 7",
    )
    before, modules = list(sys.path), set(sys.modules)
    assert load(folder).resolve("train.function")() == 7
    assert sys.path == before
    assert set(sys.modules) == modules


def test_two_projects_may_have_modules_of_one_name(tmp_path: Path) -> None:
    found = []
    for value in (1, 2):
        folder = tmp_path / str(value)
        folder.mkdir()
        project(
            folder,
            CLASSIC,
            rows__py="def train():\n    import sibling\n    return sibling.VALUE\n",
            sibling__py=f"VALUE = {value}",
        )
        found.append(load(folder).resolve("train.function"))
    assert [function() for function in found] == [1, 2]


def test_a_package_is_imported_under_its_own_name(tmp_path: Path) -> None:
    folder = tmp_path / "wooden_boat"
    folder.mkdir()
    project(
        folder,
        CLASSIC,
        __init____py="",
        rows__py="from wooden_boat.sibling import VALUE\ndef train():\n    return VALUE\n",
        sibling__py="VALUE = 3",
    )
    (folder / "__init__.py").write_text("")
    before = list(sys.path)
    function = load(folder).resolve("train.function")
    try:
        assert function() == 3
        assert function.__module__ == "wooden_boat.rows"
        assert sys.path == before
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "wooden_boat"]:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (None, NotFound, r"train.function = 'rows:train': there is no rows.py in"),
        ("x = 1", NotFound, r"rows.py has no train"),
        (
            "import nothing_here",
            InvalidInput,
            r"importing rows failed: ModuleNotFoundError",
        ),
        ("1/0", InvalidInput, r"importing rows failed: ZeroDivisionError"),
    ],
)
def test_a_missing_function_is_named(
    tmp_path: Path, content: str | None, kind: type[Exception], message: str
) -> None:
    files = {} if content is None else {"rows__py": content}
    with pytest.raises(kind, match=message):
        load(project(tmp_path, CLASSIC, **files)).resolve("train.function")


def test_an_absent_optional_function_is_none(tmp_path: Path) -> None:
    loaded = load(project(tmp_path, CLASSIC))
    assert loaded.resolve("train.search") is None
    with pytest.raises(InvalidInput, match=r"train.nothing is not a key"):
        loaded.resolve("train.nothing")
