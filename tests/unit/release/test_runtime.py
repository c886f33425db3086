"""Runtimes: a mismatch names what is pinned and what is found; requirements name their faults.

`compile_requirements` with requirements that can be met needs the package index, as `make setup`
does; it is tested with the environment it leads to in tests/services/test_predictor_runtimes.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from proa.errors import InvalidInput, Refused
from proa.release import requirements, runtime
from proa.release.manifest import Runtime, check_manifest

DIGEST = "sha256:" + "a" * 64


def test_what_is_described_here_may_run_here() -> None:
    described = runtime.describe()
    assert described.kind == "platform"
    assert set(described.libraries) == set(runtime.MODEL_LIBRARIES)
    runtime.check(described)


def test_a_mismatch_names_every_library_with_both_versions() -> None:
    described = runtime.describe(["numpy", "scikit-learn"])
    found = described.libraries["scikit-learn"]
    pinned = {**described.libraries, "scikit-learn": "1.5.2", "nosuchlib": "1.0"}
    with pytest.raises(Refused) as caught:
        runtime.check(Runtime(kind="platform", python="3.9", libraries=pinned))
    assert caught.value.code == "runtime_mismatch"
    for words in (
        f"scikit-learn 1.5.2 pinned, {found} found",
        "nosuchlib 1.0 pinned, none found",
        f"Python 3.9 pinned, {sys.version_info[0]}.{sys.version_info[1]} found",
    ):
        assert words in caught.value.message
    assert "numpy" not in caught.value.message


def test_a_library_that_is_not_here_cannot_be_described() -> None:
    with pytest.raises(InvalidInput, match="'nosuchlib' is not installed"):
        runtime.describe(["nosuchlib"])


def test_a_release_of_another_environment_is_refused_by_digest() -> None:
    manifest = check_manifest(
        {
            "name": "m",
            "kind": "classic",
            "runtime": {"kind": "requirements", "python": "3.11", "requirements": "r.lock"},
            "classic": {"task": "binary", "model": "model", "columns": []},
            "files": [
                {"path": "r.lock", "sha256": DIGEST, "size": 1},
                {"path": "model", "sha256": DIGEST, "size": 1},
            ],
        }
    )
    with pytest.raises(Refused, match=f"built from {DIGEST}, this process runs on the platform"):
        runtime.check_built(manifest)


@pytest.mark.parametrize(
    "line",
    [
        "-e .",
        "--index-url somewhere",
        "git+file:///repo",
        "numpy @ file:///wheel",
        "./local",
        "-r other.txt",
        "numpy==1 --hash=sha256:aa",
    ],
)
def test_a_line_that_names_no_package_is_refused_with_its_number(line: str, tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text(f"# ours\n\nnumpy>=2  # arrays\n{line}\n")
    with pytest.raises(InvalidInput, match=r"requirements\.txt, line 4: "):
        runtime.compile_requirements(path, tmp_path)


def test_the_runtime_of_a_lock_lists_the_models_libraries(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    lock.write_text(
        "aiohttp==3.1 \\\n    --hash=sha256:aa\nnumpy==2.0.2 \\\n    --hash=sha256:bb\n"
        "scikit-learn==1.5.2 ; python_version > '3' \\\n    --hash=sha256:cc\n"
    )
    found = runtime.described_by(lock, path="x.lock")
    assert found.libraries == {"numpy": "2.0.2", "scikit-learn": "1.5.2"}
    assert (found.kind, found.requirements) == ("requirements", "x.lock")


def test_what_uv_says_loses_addresses_and_credentials() -> None:
    said = "  × No solution\n  ╰─▶ fetch https://user:secret@index.example/simple failed"
    error = requirements.broken("the runtime cannot be built", said)
    assert error.message == "the runtime cannot be built: No solution fetch (registry) failed"


@pytest.mark.parametrize(
    ("said", "lines", "named"),
    [
        (
            "cause: Because there is no version of lightgbm==9.9 and you require lightgbm==9.9",
            ["lightgbm==9.9"],
            "lightgbm==9.9: there is no such version",
        ),
        (
            "Because lightgbmm was not found in the package registry and you require lightgbmm",
            ["lightgbmm"],
            "lightgbmm: there is no such package",
        ),
        ("Hash mismatch for `idna==3.1`", [], "idna==3.1: its file has another hash"),
        (
            "Because you require a>=2 and b<1, your requirements are unsatisfiable",
            ["a>=2", "b<1", "c"],
            "a>=2 with b<1: they exclude each other",
        ),
        (
            "Because you require numpy<1.2 and numpy>=1.26, your requirements are unsatisfiable",
            ["numpy<1.2"],
            "numpy<1.2: it excludes what the predictor needs",
        ),
        (
            "Because x==2.0 has no wheels with a matching platform tag and you require x",
            ["x"],
            "x==2.0: it does not fit this machine",
        ),
    ],
)
def test_what_cannot_be_met_is_named_with_the_reason(
    said: str, lines: list[str], named: str
) -> None:
    error = requirements.broken("requirements.txt cannot be met", said, lines)
    assert (error.code, error.status) == ("RuntimeBroken", 422)
    assert named in error.message
    assert error.hint is not None


def test_the_predictors_own_needs_leave_the_models_libraries_to_the_release() -> None:
    base = {line.split(">")[0].split("[")[0]: line for line in requirements.base_requirements()}
    assert {"aiohttp", "bentoml", "numpy", "orjson", "pydantic", "scikit-learn", "skops"} <= {*base}
    assert base["scikit-learn"] == "scikit-learn>=1.4"
    assert not {"mlflow", "feast", "evidently", "kfp"} & {*base}


def test_the_command_of_a_release(tmp_path: Path) -> None:
    def manifest(kind: str, **more: Any) -> Any:
        section = {"task": "binary", "model": "model", "columns": []}
        files = [{"path": "model", "sha256": DIGEST, "size": 1}]
        pinned = {"kind": kind, "python": "3.11", **more}
        value = {"name": "m", "kind": "classic", "runtime": pinned, "classic": section}
        return check_manifest({**value, "files": files})

    here = runtime.python_for(manifest("platform"), tmp_path, tmp_path)
    assert here == [sys.executable, "-m", "proa_predictor"]
    image = manifest("image", command=["/opt/serve", "--fast"])
    assert runtime.python_for(image, tmp_path, tmp_path) == ["/opt/serve", "--fast"]


def test_requirements_are_not_for_llm_releases(tmp_path: Path) -> None:
    engine = {"identity": "e", "base_model": "b", "revision": "r", "max_model_len": 10}
    llm = {
        "engine": engine,
        "prompt": {"name": "m.system", "version": 1, "path": "p"},
        "context": {"system": 1, "retrieved": 0, "history": 0, "question": 1},
        "tokenizer": "p",
    }
    pinned = {"kind": "requirements", "python": "3.11", "requirements": "p"}
    files = [{"path": "p", "sha256": DIGEST, "size": 1}]
    value = {"name": "m", "kind": "llm", "runtime": pinned, "llm": llm, "files": files}
    with pytest.raises(Refused, match="requirements are for classic releases"):
        runtime.python_for(check_manifest(value), tmp_path, tmp_path)
