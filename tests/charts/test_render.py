"""Every case renders alike under both Helms, and every object is one that Kubernetes knows."""

from __future__ import annotations

import copy
import subprocess
from pathlib import Path

import pytest
import yaml

from tests import tools
from tests.charts import render, schemas

CASES = render.cases()
# Neither Grafana's operator nor Argo CD can be had as a Go module: what matters is checked below
# and in tests/cluster/test_argocd.py.
UNKNOWN = "GrafanaDashboard"


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 20
    assert {case.chart for case in CASES} == set(render.NAMES)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_both_helms_render_the_same(case: render.Case) -> None:
    assert render.objects(case, "helm-3") == render.objects(case, "helm-4")


@pytest.mark.parametrize("chart", render.NAMES)
@pytest.mark.parametrize("helm", ["helm-3", "helm-4"])
def test_helm_lints_the_chart(chart: str, helm: str, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(render.least(chart)))
    done = subprocess.run(
        [
            *(str(tools.path(helm)), "lint", "--strict", "--quiet", "--values", str(values)),
            *("--kube-version", schemas.NEWEST, str(render.CHARTS / chart)),
        ],
        env={"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def conform(folder: Path, version: str) -> subprocess.CompletedProcess[str]:
    name = "{{ .ResourceKind }}_{{ .Group }}_{{ .ResourceAPIVersion }}.json"
    return subprocess.run(
        [
            *(str(tools.path("kubeconform")), "-strict", "-summary", "-n", "2"),
            *("-skip", f"{UNKNOWN},Application"),
            *("-schema-location", f"{schemas.of_kubernetes(version)}/{name}"),
            *("-schema-location", f"{schemas.of_others()}/{name}"),
            str(folder),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("version", [schemas.OLDEST, schemas.NEWEST])
def test_kubernetes_knows_every_field(version: str, tmp_path: Path) -> None:
    for case in CASES:
        (tmp_path / f"{case}.yaml").write_text(yaml.safe_dump_all(render.objects(case)))
    for path in sorted((render.ROOT / "manifests").rglob("*.yaml")):
        if not path.name.startswith("values"):
            (tmp_path / f"manifests-{path.stem}.yaml").write_text(path.read_text())
    done = conform(tmp_path, version)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (["spec", "template", "spec", "enableServiceLink"], "enableServiceLink"),
        (["spec", "template", "spec", "containers", 0, "readinesProbe"], "readinesProbe"),
        (["spec", "replica"], "replica"),
    ],
)
def test_a_field_that_is_not_there_is_found(
    fault: list[str | int], says: str, tmp_path: Path
) -> None:
    """The check above would be green over schemas that allow everything."""
    found = copy.deepcopy(render.objects(CASES[0]))
    node = render.one(found, "Deployment", "flight-delay")
    for key in fault[:-1]:
        node = node[key]  # type: ignore[index]
    node[fault[-1]] = {}  # type: ignore[index]
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump_all(found))
    done = conform(tmp_path, schemas.NEWEST)
    assert done.returncode != 0
    assert says in done.stdout + done.stderr


def test_dashboards_are_given_to_the_operator_or_the_sidecar() -> None:
    by_name = {str(case): case for case in CASES}
    boards = {path.stem for path in (render.CHARTS / "proa/dashboards").glob("*.json")}
    operator = render.kinds(render.objects(by_name["proa-http-route"]), UNKNOWN)
    assert {item["metadata"]["name"] for item in operator} == {f"proa-{name}" for name in boards}
    assert all(yaml.safe_load(item["spec"]["json"])["panels"] for item in operator)
    least = render.objects(by_name["proa-least"])
    for name in boards:
        sidecar = render.one(least, "ConfigMap", f"proa-{name}-dashboard")
        assert yaml.safe_load(sidecar["data"][f"{name}.json"])["panels"]


@pytest.mark.parametrize("chart", render.NAMES)
@pytest.mark.parametrize("helm", ["helm-3", "helm-4"])
def test_nothing_that_needs_a_crd_without_the_crd(chart: str, helm: str) -> None:
    built_in = ("apps/v1", "v1", "batch/v1", "policy/v1", "autoscaling/v2")
    for item in render.objects(render.Case(chart, "least", render.least(chart)), helm):
        group = item["apiVersion"]
        assert group in built_in or group.partition("/")[0].endswith(".k8s.io"), group


@pytest.mark.parametrize("chart", render.NAMES)
def test_notes_say_the_next_command(chart: str) -> None:
    """Helm 3 shows notes only of a cluster it reaches: tests/cluster sees those."""
    said = render.notes(render.Case(chart, "least", render.least(chart)))
    assert "Next:" in said
    following = said.partition("Next:\n")[2].strip().splitlines()[0].strip()
    assert following.split()[0] in ("kubectl", "proa", "helm"), following
    assert f"-n {render.NAMESPACE} " in said
    assert "helm uninstall" in said, "it says what stays"
