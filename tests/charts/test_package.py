"""A packaged chart is the chart; and each chart's own suite of helm-unittest passes.

The suites stand beside the charts for whoever changes one: what must hold in every case is in
test_invariants.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from tests import tools
from tests.charts import render, schemas


def package(helm: str, chart: str, folder: Path) -> Path:
    done = subprocess.run(
        [str(tools.path(helm)), "package", str(render.CHARTS / chart), "-d", str(folder)],
        env={"HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob(f"{chart}-*.tgz")
    return made


@pytest.mark.parametrize("chart", render.NAMES)
@pytest.mark.parametrize("helm", ["helm-3", "helm-4"])
def test_a_package_renders_as_its_folder_does(helm: str, chart: str, tmp_path: Path) -> None:
    """The library and what charts share are links in the work tree; a package has no links."""
    made = package(helm, chart, tmp_path)
    with tarfile.open(made) as archive:
        members = archive.getmembers()
        assert all(member.isfile() for member in members)
        names = {member.name for member in members}
    assert f"{chart}/charts/library/templates/_pod.tpl" in names
    assert not [name for name in names if name.startswith(f"{chart}/tests/")]
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(render.least(chart)))
    rendered = []
    for source in (made, render.CHARTS / chart):
        command = [str(tools.path(helm)), "template", "my", str(source), "-f", str(values)]
        command += ["--kube-version", schemas.NEWEST]
        done = subprocess.run(
            command, env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        rendered.append([item for item in yaml.safe_load_all(done.stdout) if item])
    assert rendered[0] == rendered[1]


def unittest(charts: Path, chart: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(tools.path("helm-unittest")), "--color=false", str(charts / chart)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The charts, where helm-unittest may leave its folders of snapshots."""
    return shutil.copytree(render.CHARTS, tmp_path / "charts", symlinks=True)


@pytest.mark.parametrize("chart", render.NAMES)
def test_its_own_suite_passes(chart: str, copied: Path) -> None:
    done = unittest(copied, chart)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"^Tests: +(\d+) passed", done.stdout, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) >= 3


def test_a_broken_chart_fails_its_suite(copied: Path) -> None:
    """The check above would be green over suites that hold for anything."""
    pod = copied / "library/templates/_pod.tpl"
    pod.write_text(pod.read_text().replace("timeoutSeconds) 300 }}", "timeoutSeconds) 30 }}"))
    done = unittest(copied, "predictor")
    assert done.returncode != 0
    assert "makes one budget of startup" in done.stdout
