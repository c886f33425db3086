"""manifests/: namespaces that admit only restricted pods, small roles, samples that render."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.charts import render
from tests.charts.test_pod_security import forbidden

MANIFESTS = render.ROOT / "manifests"
SAMPLES = sorted(MANIFESTS.glob("samples/*/values-*.yaml"))


def documents(name: str) -> list[render.Object]:
    return [item for item in yaml.safe_load_all((MANIFESTS / name).read_text()) if item]


def sample(path: Path) -> render.Case:
    chart = path.stem.removeprefix("values-")
    return render.Case(chart, path.parent.name, yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
@pytest.mark.parametrize("helm", ["helm-3", "helm-4"])
def test_a_sample_renders(path: Path, helm: str) -> None:
    assert render.objects(sample(path), helm)


@pytest.mark.parametrize("folder", sorted({path.parent for path in SAMPLES}), ids=lambda p: p.name)
def test_a_sample_is_whole(folder: Path) -> None:
    """Four installations, each command given, and every claim and Secret made or asked for."""
    assert {path.stem.removeprefix("values-") for path in folder.glob("values-*")} == set(
        render.NAMES
    )
    text = (folder / "values-proa.yaml").read_text()
    for path in folder.glob("values-*.yaml"):
        assert f"-f {path.relative_to(render.ROOT)}" in text
    found = [item for path in folder.glob("*.yaml") for item in render.objects(sample(path))]
    claims = {item["metadata"]["name"] for item in render.kinds(found, "PersistentVolumeClaim")}
    for _, pod in render.pods(found):
        for volume in pod["spec"].get("volumes", []):
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
            if "secret" in volume:
                name = volume["secret"]["secretName"]
                by_job = name.startswith("proa-") and (name.endswith("-key") or name in JOB)
                assert by_job or f"secret generic {name} " in text, name


# What the Job of the chart proa makes, beside one Secret for each key.
JOB = ("proa-postgres", "proa-mlflow")


def test_namespaces_admit_only_restricted_pods() -> None:
    found = documents("namespaces.yaml")
    assert [item["metadata"]["name"] for item in found] == [
        "proa-system",
        "proa-models",
        "proa-engines",
    ]
    for item in found:
        labels = item["metadata"]["labels"]
        for mode in ("enforce", "warn", "audit"):
            assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"


def test_the_pod_that_holds_claims_is_restricted_and_finds_them() -> None:
    (pod,) = documents("claims.yaml")
    assert forbidden([pod]) == [[]]
    (container,) = pod["spec"]["containers"]
    controller = next(i for i in (render.CHARTS / "images.txt").read_text().split() if "contr" in i)
    assert container["image"] == controller
    made = render.objects(sample(MANIFESTS / "samples/laptop/values-proa.yaml"))
    claims = {item["metadata"]["name"] for item in render.kinds(made, "PersistentVolumeClaim")}
    named = {v["persistentVolumeClaim"]["claimName"] for v in pod["spec"]["volumes"]}
    assert named == {"proa-bundles", "proa-artifacts"} <= claims


def test_people_read_no_secret_and_delete_nothing() -> None:
    roles = {
        r["metadata"]["name"]: r for r in documents("roles.yaml") if r["kind"] == "ClusterRole"
    }
    assert set(roles) == {"proa-viewer", "proa-releaser", "proa-caller"}
    verbs: dict[str, set[str]] = {name: set() for name in roles}
    for name, role in roles.items():
        for rule in role["rules"]:
            assert not {"secrets", "pods/exec", "*"} & set(rule["resources"])
            verbs[name] |= set(rule["verbs"])
            if "create" in rule["verbs"]:
                assert (name, rule["resources"]) == ("proa-caller", ["pods/portforward"])
    assert verbs["proa-viewer"] == {"get", "list", "watch"}
    assert verbs["proa-releaser"] <= {"get", "patch", "update"}
    assert verbs["proa-caller"] <= {"get", "list", "create"}
    for binding in documents("roles.yaml"):
        if binding["kind"] == "RoleBinding":
            assert binding["roleRef"]["name"] in roles
            assert all(subject["kind"] == "Group" for subject in binding["subjects"])
