"""The chart's Job for Secrets, with exactly the rights that the chart gives it, on a real server.

The process runs here and not in a pod, with a token of the Job's ServiceAccount: what is tried is
what it may do and does. The Job itself runs whenever tests/cluster installs the platform.
"""

from __future__ import annotations

import base64
import configparser
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.charts import render
from tests.cluster.access import Cluster
from tests.cluster.installing import apply_everywhere

KEYS = ("admin", "controller", "predictor", "assistant", "pipelines", "engine")


@dataclass
class Job:
    """The Job's command and its account's token."""

    args: list[str]
    home: str
    models: str
    engines: str
    kubeconfig: Path

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "proa_controller.secrets", *self.args, *more],
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def job(cluster: Cluster, namespaces: Callable[[str], str], tmp_path: Path) -> Callable[..., Job]:
    """`job(values)`: what the chart renders for the Job is there, and the Job's command."""

    def make(values: dict[str, Any]) -> Job:
        home, models, engines = (namespaces(part) for part in ("home", "models", "engines"))
        given = {"namespaces": {"models": [models], "engines": [engines]}}
        case = render.Case("proa", "job", render.over(values, given), namespace=home)
        every = render.objects(case)
        found = [item for item in every if item["metadata"]["name"] == "proa-secrets"]
        kinds = {item["kind"] for item in found}
        assert {"ServiceAccount", "Role", "RoleBinding", "Job"} <= kinds
        rights = [i for i in found if i["kind"] in ("ServiceAccount", "Role", "RoleBinding")]
        apply_everywhere(cluster, rights)
        token = cluster.kubectl("create", "token", "proa-secrets", "-n", home).strip()
        kubeconfig = tmp_path / f"{home}.yaml"
        kubeconfig.write_text(json.dumps(config_with(cluster, token)))
        kubeconfig.chmod(0o600)
        (container,) = render.one(found, "Job", "proa-secrets")["spec"]["template"]["spec"][
            "containers"
        ]
        return Job(container["args"], home, models, engines, kubeconfig)

    return make


def config_with(cluster: Cluster, token: str) -> dict[str, Any]:
    """A kubeconfig for the same cluster as somebody else."""
    view = cluster.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
    config: dict[str, Any] = json.loads(view)
    for user in config["users"]:
        user["user"] = {"token": token}
    return config


def secrets_of(cluster: Cluster, namespace: str) -> dict[str, dict[str, str]]:
    items = cluster.get(namespace, "secrets")
    return {
        item["metadata"]["name"]: {
            key: base64.b64decode(value).decode() for key, value in item["data"].items()
        }
        for item in items
    }


BUNDLED = {"postgres": {"bundled": True}, "bundles": {"url": "file:///bundles", "size": "1Gi"}}


def test_everything_is_made_once_and_never_changed(
    cluster: Cluster, job: Callable[..., Job]
) -> None:
    made = job(BUNDLED)
    first = made.run()
    assert first.returncode == 0, first.stderr
    here = secrets_of(cluster, made.home)
    assert set(here) == {f"proa-{key}-key" for key in KEYS} | {"proa-postgres", "proa-mlflow"}
    there = secrets_of(cluster, made.models)
    assert there == {name: here[name] for name in ("proa-predictor-key", "proa-assistant-key")}
    assert secrets_of(cluster, made.engines) == {"proa-engine-key": here["proa-engine-key"]}
    texts = [text for entries in here.values() for text in entries.values()]
    assert len(texts) == len(set(texts))
    for text in texts:
        assert text not in first.stdout + first.stderr, "names only, never contents"
    assert f"{made.models}/proa-predictor-key: made" in first.stdout
    second = made.run()
    assert second.returncode == 0, second.stderr
    assert "made" not in second.stdout
    assert secrets_of(cluster, made.home) == here


def test_what_is_missing_is_made_of_what_is_there(
    cluster: Cluster, job: Callable[..., Job]
) -> None:
    """A half-done run goes on where it was; a key brought by hand is the one that is copied."""
    made = job(BUNDLED)
    cluster.kubectl(
        *("create", "secret", "generic", "proa-predictor-key", "-n", made.home),
        "--from-literal=predictor.key=brought",
    )
    assert made.run().returncode == 0
    before = secrets_of(cluster, made.home)
    assert before["proa-predictor-key"] == {"predictor.key": "brought"}
    cluster.kubectl("delete", "secret", "proa-mlflow", "-n", made.home)
    cluster.kubectl("delete", "secret", "proa-assistant-key", "-n", made.models)
    assert made.run().returncode == 0
    after = secrets_of(cluster, made.home)
    assert after.pop("proa-mlflow") != before.pop("proa-mlflow"), "a new password"
    assert after == before
    there = secrets_of(cluster, made.models)
    assert there["proa-predictor-key"] == {"predictor.key": "brought"}
    assert there["proa-assistant-key"] == before["proa-assistant-key"]


def test_mlflow_gets_the_users_database_of_your_own_postgres(
    cluster: Cluster, job: Callable[..., Job]
) -> None:
    made = job(render.least("proa"))
    url = "postgresql://me:p%40ss@db.example.org:6432/users"
    cluster.kubectl(
        *("create", "secret", "generic", "proa-postgres", "-n", made.home),
        f"--from-literal=mlflow-auth-url={url}",
    )
    done = made.run()
    assert done.returncode == 0, done.stderr
    entries = secrets_of(cluster, made.home)["proa-mlflow"]
    users, account = configparser.ConfigParser(), configparser.ConfigParser()
    users.read_string(entries["auth.ini"])
    account.read_string(entries["credentials"])
    assert users["mlflow"]["database_uri"] == url
    assert users["mlflow"]["admin_username"] == account["mlflow"]["mlflow_tracking_username"]
    assert users["mlflow"]["admin_password"] == account["mlflow"]["mlflow_tracking_password"]
    assert len(entries["flask-secret-key"]) >= 32


def test_a_missing_entry_and_a_missing_right_are_named(
    cluster: Cluster, job: Callable[..., Job]
) -> None:
    made = job(render.least("proa"))
    cluster.kubectl(
        *("create", "secret", "generic", "proa-postgres", "-n", made.home),
        "--from-literal=ledger-url=postgresql://db/ledger",
    )
    done = made.run()
    assert done.returncode == 2
    assert "proa-postgres has no entry 'mlflow-auth-url'; it has ledger-url" in done.stderr
    cluster.kubectl("delete", "rolebinding", "proa-secrets", "-n", made.engines)
    cluster.kubectl("delete", "secret", "proa-engine-key", "-n", made.engines)
    done = made.run()
    assert done.returncode == 6
    assert (
        f'cannot create resource "secrets" in API group "" in the namespace "{made.engines}"'
        in (done.stderr)
    )


def test_the_job_may_do_nothing_else(cluster: Cluster, job: Callable[..., Job]) -> None:
    made = job(BUNDLED)
    account = f"system:serviceaccount:{made.home}:proa-secrets"

    def may(verb: str, what: str, namespace: str) -> bool:
        answer = cluster.run("auth", "can-i", verb, what, "-n", namespace, "--as", account)
        return answer.stdout.strip().splitlines()[-1] == "yes"

    assert may("create", "secrets", made.models)
    assert may("get", "secrets/proa-predictor-key", made.home)
    for verb in ("list", "watch", "update", "patch", "delete"):
        for namespace in (made.home, made.models, made.engines):
            assert not may(verb, "secrets", namespace), f"{verb} in {namespace}"
    assert not may("get", "secrets/proa-admin-key", made.home)
    assert not may("get", "secrets/proa-predictor-key", made.models)
    assert not may("get", "pods", made.home)
