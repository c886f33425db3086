"""The embedded launcher builds a release's runtime: told while it builds, once, refused by name.

Real: uv, the environments, the bundle store. Small: the locks hold one tiny package each instead of
a predictor's ninety, since nothing is started here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proa.embedded.home import Home
from proa.embedded.platform_file import Platform
from proa.embedded.ports import PortChoice
from proa.errors import Refused
from proa.release.bundle import BundleStore, list_files
from proa.release.manifest import Manifest, check_manifest
from proa.release.reference import ReleaseRef
from proa.release.requirements import run_uv
from proa_controller.embedded import ProcessLauncher
from tests.processes import wait_until


@pytest.fixture(scope="module")
def lock(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Hashed requirements of one package."""
    folder = tmp_path_factory.mktemp("lock")
    (folder / "in.txt").write_text("idna==3.10\n")
    words = ["pip", "compile", "--quiet", "--generate-hashes", "--no-emit-index-url", "--no-header"]
    out = folder / "out.txt"
    done = run_uv([*words, "--output-file", str(out), str(folder / "in.txt")], None)
    assert done.returncode == 0, done.stderr
    return out.read_text()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


def release(home: Home, lock: str, number: int, **runtime: Any) -> tuple[ReleaseRef, Manifest]:
    """A release with this lock in the home's store."""
    staging = home.root / f"staging-{number}"
    staging.mkdir()
    (staging / "requirements.lock").write_text(lock)
    (staging / "model.py").write_text("print('hello')\n")
    pinned = {"kind": "requirements", "python": "3.11", "requirements": "requirements.lock"}
    manifest = check_manifest(
        {
            "name": "m",
            "kind": "classic",
            "runtime": {**pinned, **runtime},
            "classic": {"task": "binary", "model": "model.py", "columns": []},
            "parameters": {"number": number},
            "files": [file.model_dump() for file in list_files(staging)],
        }
    )
    return ReleaseRef("m", number, BundleStore(home.bundles).put(manifest, staging)), manifest


def launcher(home: Home) -> ProcessLauncher:
    platform = Platform(home=home, ports=PortChoice({}, auto=True).resolve(None))
    return ProcessLauncher(home, platform, BundleStore(home.bundles))


def test_two_releases_of_one_lock_get_one_environment(home: Home, lock: str) -> None:
    starting = launcher(home)
    one, two = release(home, lock, 1), release(home, lock, 2)
    assert starting.template(*one, "champion") is None
    assert starting.template(*two, "challenger") is None
    told: set[str] = set()

    def both() -> list[Any] | None:
        told.update(filter(None, (starting.progress(one[0]), starting.progress(two[0]))))
        found = [starting.template(*one, "champion"), starting.template(*two, "challenger")]
        return found if all(found) else None

    first, second = wait_until(both, 120, what="both runtimes")
    assert told
    assert all("runtime" in text for text in told)
    assert first.command[0] == second.command[0]
    assert Path(first.command[0]).is_relative_to(home.runtimes)
    assert starting.progress(one[0]) is None
    environments = [path for path in home.runtimes.iterdir() if path.is_dir()]
    assert len(environments) == 1
    done = subprocess.run([first.command[0], "-c", "import idna"], timeout=60, check=False)
    assert done.returncode == 0


def test_a_process_starts_among_its_files_with_its_own_python(home: Home, lock: str) -> None:
    starting = launcher(home)
    command = ["{python}", "model.py", "--port", "{port}"]
    ref, manifest = release(home, lock, 3, kind="image", command=command)
    template = wait_until(lambda: starting.template(ref, manifest, "champion"), 120)
    assert template.cwd is not None
    assert (Path(template.cwd) / "model.py").is_file()
    assert Path(template.command[0]).is_relative_to(home.runtimes)
    assert template.command[1:] == ("model.py", "--port", "{port}")
    assert template.env == {"PROA_RELEASE": str(ref)}
    plain, other = release(home, lock, 4, kind="image", command=command, requirements=None)
    template = wait_until(lambda: starting.template(plain, other, "champion"), 60)
    assert template.command[0] == sys.executable


def test_what_cannot_be_built_is_named_and_not_built_again_at_every_turn(
    home: Home, lock: str
) -> None:
    starting = launcher(home)
    broken = re.sub("sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, lock)
    ref, manifest = release(home, broken, 5)

    def refused() -> Refused | None:
        try:
            assert starting.template(ref, manifest, "challenger") is None
        except Refused as error:
            return error
        return None

    error = wait_until(refused, 120, what="the refusal")
    assert error.code == "RuntimeBroken"
    assert "idna==3.10: its file has another hash" in error.message
    assert error.hint is not None
    again = refused()
    assert again is not None
    assert again.message == error.message
    assert [path.name for path in home.runtimes.iterdir() if path.is_dir()] == []
    assert json.dumps(error.to_wire())
