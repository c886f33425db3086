"""The house rules that a tool can hold: sizes, names, layering, what an import may cost."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("platform", "services", "pipelines", "tests")
MAX_FILE, MAX_FUNCTION = 600, 60
BANNED_NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
SECRET = re.compile(
    r"(AKIA(?!IOSFODNN7EXAMPLE)[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|proa_[a-z0-9]{12}_[\w-]{43})"
)


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "__pycache__" not in path.parts:
                yield path


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parsed() -> Iterator[tuple[Path, ast.Module]]:
    for path in sources():
        yield path, ast.parse(path.read_text(), filename=shown(path))


def test_there_are_sources_to_check() -> None:
    assert len(list(sources())) > 50


def test_files_are_short() -> None:
    long = {shown(path): n for path in sources() if (n := len(path.read_text().splitlines())) > 600}
    assert not long, f"over {MAX_FILE} lines: {long}"


def test_functions_are_short() -> None:
    long = [
        f"{shown(path)}:{node.lineno} {node.name} ({length} lines)"
        for path, tree in parsed()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION
    ]
    assert not long, f"over {MAX_FUNCTION} lines: {long}"


def test_no_file_is_called_utils() -> None:
    bad = [shown(path) for path in sources() if BANNED_NAMES & set(path.with_suffix("").parts)]
    assert not bad


def test_every_module_says_what_it_is() -> None:
    silent = [
        shown(path)
        for path, tree in parsed()
        if ast.get_docstring(tree) is None and not path.name.startswith("test_")
    ]
    assert not silent


def test_platform_is_a_folder_and_hides_nothing() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert not (ROOT / "tests" / "platform").exists()
    import platform

    assert platform.system()


def test_nothing_happens_on_import() -> None:
    """Module level holds definitions and constants: no calls that stand alone, no environment."""
    faults = []
    for path, tree in parsed():
        if path.name == "__main__.py" or "tests" in path.relative_to(ROOT).parts:
            continue
        for node in tree.body:
            alone = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
            reads = isinstance(node, ast.Assign | ast.AnnAssign) and "attr='environ'" in ast.dump(
                node
            )
            if alone or reads:
                faults.append(f"{shown(path)}:{node.lineno}")
    assert not faults


HEAVY = {
    "proa": {"mlflow", "pandas", "kfp", "feast", "bentoml", "evidently", "numpy", "starlette"},
    "proa.fleet": {"mlflow", "pandas", "kfp", "feast", "bentoml", "evidently", "numpy"},
    "proa.cli": {"mlflow", "pandas", "kfp", "feast", "bentoml", "evidently", "numpy"},
    "proa_gateway.app": {"mlflow", "pandas", "feast", "bentoml", "evidently", "numpy"},
    "proa_predictor.app": {"mlflow", "feast", "evidently", "shap", "kfp"},
    "proa_assistant.app": {"mlflow", "feast", "evidently", "bentoml", "pandas", "kfp"},
    "proa_monitor.app": {"mlflow", "feast", "evidently", "bentoml", "kfp"},
}


@pytest.mark.parametrize("module", sorted(HEAVY))
def test_heavy_libraries_stay_out(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = HEAVY[module] & set(done.stdout.split())
    assert not loaded, f"import {module} loads {sorted(loaded)}"


def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_secret_and_no_large_file_is_tracked() -> None:
    for name in tracked():
        path = ROOT / name
        assert path.stat().st_size <= 1 << 20, f"{name} is larger than 1 MiB"
        assert not SECRET.search(path.read_text(errors="ignore")), f"{name} holds a secret"


def test_locks_are_hashed_and_name_no_registry() -> None:
    locks = sorted((ROOT / "services" / "locks").glob("*.txt"))
    assert locks
    for lock in locks:
        text = lock.read_text()
        assert "://" not in re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE), lock.name
        assert "--index-url" not in text, lock.name
        if "overrides" not in lock.name:
            assert "--hash=sha256:" in text, lock.name
