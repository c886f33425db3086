"""Day two of a platform with data in it: upgrade, step back, backup, restore, uninstall.

The commands are those of charts/proa/DAY-TWO.md. Data is one key, one entry of the journal, one
registered model and one bundle: one of each store that must survive.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.cluster import pages
from tests.cluster.access import Cluster
from tests.cluster.installing import install

PAGE = "charts/proa/DAY-TWO.md"
PARTS = ("gateway", "monitor", "controller", "mlflow")


@dataclass
class House:
    """A platform in one namespace, and a person's folder with its values."""

    cluster: Cluster
    namespace: str
    folder: Path

    def run(self, script: str) -> str:
        return pages.run(self.cluster, script, self.folder, {"NS": self.namespace})

    def secret(self, name: str, entry: str) -> str:
        data = self.cluster.get(self.namespace, "secret", name)["data"]
        return base64.b64decode(data[entry]).decode()

    def ask(self, part: str, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """The JSON answer of a part; its status must be 200 or 201."""
        url = self.cluster.address(self.namespace, f"proa-{part}", more.pop("port", 8080))
        answer = httpx.request(method, f"{url}{path}", json=body, timeout=30, **more)
        assert answer.status_code in (200, 201), f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def mlflow(self, method: str, path: str, body: Any = None) -> Any:
        text = self.secret("proa-mlflow", "credentials")
        user, password = (line.partition("= ")[2] for line in text.strip().splitlines()[1:])
        # It answers to its own names alone, and here it is asked by its address.
        more = {
            "auth": (user, password),
            "headers": {"host": f"proa-mlflow.{self.namespace}.svc:5000"},
        }
        return self.ask("mlflow", method, f"/api/2.0/mlflow/{path}", body, port=5000, **more)

    @property
    def admin(self) -> dict[str, str]:
        key = self.secret("proa-admin-key", "admin.key").strip()
        return {"authorization": f"Bearer {key}"}

    def sql(self, database: str, query: str) -> str:
        command = ("psql", "-U", "proa", "-d", database, "-At", "-c", query)
        return self.cluster.kubectl(
            "exec", "-n", self.namespace, "proa-postgres-0", "--", *command
        ).strip()


def values(images: dict[str, str]) -> dict[str, Any]:
    """The sample of a laptop, smaller: no Prometheus, and the tests' Postgres."""
    repository, _, tag = images["postgres"].rpartition(":")
    sample = yaml.safe_load((pages.ROOT / "manifests/samples/laptop/values-proa.yaml").read_text())
    postgres = {**sample["postgres"], "image": {"repository": repository, "tag": tag}}
    return {**sample, "postgres": postgres, "prometheus": {"bundled": False}}


@pytest.fixture(scope="module")
def images(images_of: Callable[..., dict[str, str]]) -> dict[str, str]:
    return images_of(*PARTS, "postgres")


@pytest.fixture(scope="module")
def house(
    cluster: Cluster, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """Installed with Helm 3, and with something in every store."""
    with cluster.namespace(prefix="day-two") as namespace:
        folder = tmp_path_factory.mktemp("day-two")
        (folder / "values.yaml").write_text(yaml.safe_dump(values(images)))
        install(cluster, 3, "proa", "proa", namespace, values(images), deadline=480)
        made = House(cluster, namespace, folder)
        body = {"team": "a-team", "feature": "kept", "rights": ["call"]}
        made.ask("gateway", "POST", "/proa/v1/keys", body, headers=made.admin)
        made.mlflow("POST", "registered-models/create", {"name": "kept"})
        fill(made)
        yield made


def fill(house: House) -> None:
    """A bundle's blob, in the way the page copies things in."""
    house.run(
        "kubectl -n $NS apply -f manifests/claims.yaml\n"
        "kubectl -n $NS wait --for=condition=Ready pod/proa-claims --timeout=120s\n"
        "kubectl -n $NS exec proa-claims -- python -c '"
        'import pathlib; p = pathlib.Path("/bundles/sha256"); p.mkdir(exist_ok=True); '
        '(p / "kept").write_text("kept"); pathlib.Path("/artifacts/kept").write_text("kept")'
        "'\nkubectl -n $NS delete pod proa-claims"
    )


def holds_everything(house: House) -> None:
    keys = house.ask("gateway", "GET", "/proa/v1/keys", headers=house.admin)
    assert "kept" in json.dumps(keys)
    found = house.mlflow("GET", "registered-models/get?name=kept")
    assert found["registered_model"]["name"] == "kept"
    said = house.cluster.kubectl(
        *("exec", "-n", house.namespace, "deploy/proa-controller", "--"),
        *("python", "-c", 'print(open("/bundles/sha256/kept").read())'),
    )
    assert said.strip() == "kept"


def generations(house: House) -> dict[str, int]:
    items = house.cluster.get(house.namespace, "deployments")
    return {item["metadata"]["name"]: item["metadata"]["generation"] for item in items}


@pytest.mark.timeout(900)
def test_an_upgrade_and_a_step_back_keep_the_data(house: House) -> None:
    secrets = house.cluster.get(house.namespace, "secrets")
    made = {s["metadata"]["name"]: s["data"] for s in secrets if "helm" not in s["type"]}
    before = generations(house)
    changed = yaml.safe_load((house.folder / "values.yaml").read_text())
    changed["gateway"] = {**changed["gateway"], "timeoutSeconds": 60}
    install(house.cluster, 4, "proa", "proa", house.namespace, changed)
    holds_everything(house)
    after = generations(house)
    rolled = {name for name in after if after[name] != before[name]}
    assert rolled == {"proa-gateway"}, "an upgrade rolls what changed"
    done = house.cluster.helm(4, "rollback", "proa", "1", "-n", house.namespace, "--wait")
    assert done.returncode == 0, done.stderr
    holds_everything(house)
    found = house.cluster.get(house.namespace, "secrets")
    assert {s["metadata"]["name"]: s["data"] for s in found if "helm" not in s["type"]} == made


@pytest.mark.timeout(1500)
def test_a_backup_restores_everything_elsewhere(house: House, cluster: Cluster) -> None:
    house.run(pages.block(PAGE, "backup"))
    kept = {path.name for path in (house.folder / "backup").iterdir()}
    assert kept == {
        *(f"{name}.dump" for name in ("proa", "mlflow", "mlflow_auth")),
        *("bundles.tar", "artifacts.tar", "secrets.yaml"),
    }
    with cluster.namespace(prefix="restored") as namespace:
        secrets = house.folder / "backup/secrets.yaml"
        # Here the namespace has another name; in a new cluster it has the same.
        text = secrets.read_text()
        secrets.write_text(text.replace(house.namespace, namespace))
        renamed = yaml.safe_load(secrets.read_text())
        for item in renamed["items"]:
            for entry, data in item["data"].items():
                plain = base64.b64decode(data).decode().replace(house.namespace, namespace)
                item["data"][entry] = base64.b64encode(plain.encode()).decode()
        secrets.write_text(yaml.safe_dump(renamed))
        there = House(cluster, namespace, house.folder)
        said = there.run(pages.block(PAGE, "restore"))
        assert "journal" in said
        holds_everything(there)
        query = "SELECT seq, hash FROM proa.journal_head"
        assert there.sql("proa", query) == house.sql("proa", query)


@pytest.mark.timeout(600)
def test_uninstall_leaves_what_it_says(house: House) -> None:
    """Last: the house is gone afterwards."""
    cluster, namespace = house.cluster, house.namespace
    done = cluster.helm(4, "uninstall", "proa", "-n", namespace, "--wait", "--timeout=300s")
    assert done.returncode == 0, done.stderr
    page = (pages.ROOT / PAGE).read_text().partition("## Uninstall")[2]
    assert not cluster.get(namespace, "deployments")
    assert not cluster.get(namespace, "statefulsets")
    claims = cluster.get(namespace, "pvc", selector="app.kubernetes.io/instance=proa")
    names = {item["metadata"]["name"] for item in claims}
    assert {"proa-bundles", "proa-artifacts", "data-proa-postgres-0"} <= names
    assert len(cluster.get(namespace, "pvc")) == len(names)
    selector = "app.kubernetes.io/instance=proa,app.kubernetes.io/component=secrets"
    assert len(cluster.get(namespace, "secrets", selector=selector)) == 8
    for command in (
        f"kubectl -n $NS delete secret -l {selector}",
        "kubectl -n $NS delete pvc -l app.kubernetes.io/instance=proa",
        "kubectl -n $NS delete configmap proa-routes",
    ):
        assert command in page
        house.run(command)
    left = cluster.get(namespace, "configmap,secret,pvc,service,serviceaccount,role,job")
    names = {item["metadata"]["name"] for item in left}
    assert names <= {"kube-root-ca.crt", "default"}, "and then nothing is left"
