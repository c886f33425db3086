"""What a chart renders to, under either Helm; asked once per run for the same values."""

from __future__ import annotations

import functools
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests import tools
from tests.charts import schemas

ROOT = Path(__file__).resolve().parents[2]
CHARTS = ROOT / "charts"
NAMES = ("predictor", "assistant", "vllm", "proa")
NAMESPACE = "here"
Object = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A values file of cases.yaml.

    Attributes:
        api: API versions that the cluster is said to have besides its own.
        namespace: where it would be installed.
    """

    chart: str
    name: str
    values: Mapping[str, Any]
    api: tuple[str, ...] = ()
    namespace: str = NAMESPACE

    def __str__(self) -> str:
        return f"{self.chart}-{self.name}"


def cases() -> list[Case]:
    """Every case, each on top of the chart's least values."""
    every = yaml.safe_load((ROOT / "tests/charts/cases.yaml").read_text())
    found = []
    for chart, named in every.items():
        for name, given in named.items():
            values = {key: value for key, value in given.items() if key != "api"}
            found.append(Case(chart, name, over(least(chart), values), tuple(given.get("api", ()))))
    return found


def least(chart: str) -> dict[str, Any]:
    """The fewest values a chart needs."""
    every = yaml.safe_load((ROOT / "tests/charts/least.yaml").read_text())
    found: dict[str, Any] = every[chart]
    return found


def over(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """`more` on top of `base`, as Helm does it."""
    merged = dict(base)
    for key, value in more.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = over(old, value) if both else value  # type: ignore[arg-type]
    return merged


def objects(case: Case, helm: str = "helm-4") -> list[Object]:
    """Every object, hooks and tests too.

    Raises:
        AssertionError: Helm refuses the values; with its message.
    """
    done = run(case, helm)
    assert done.returncode == 0, f"{case}: {done.stderr}"
    return _parse(done.stdout)


@functools.cache
def _parse(text: str) -> list[Object]:
    """Shared between tests: who changes an object copies it first."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [item for item in yaml.load_all(text, loader) if item]


def settings(case: Case) -> dict[str, Any]:
    """The case's values over the chart's own."""
    return over(_parse((CHARTS / case.chart / "values.yaml").read_text())[0], case.values)


def run(case: Case, helm: str = "helm-4") -> subprocess.CompletedProcess[str]:
    """`helm template`, whatever comes of it."""
    return _run(helm, case.chart, json.dumps(case.values), case.api, case.namespace)


@functools.cache
def _run(
    helm: str, chart: str, values: str, api: tuple[str, ...], namespace: str
) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as home:
        return subprocess.run(
            [
                *(str(tools.path(helm)), "template", release_name(chart), str(CHARTS / chart)),
                *("--namespace", namespace, "--kube-version", schemas.NEWEST, "--values", "-"),
                *(part for version in api for part in ("--api-versions", version)),
            ],
            input=values,
            env={"HOME": home, "HELM_NO_PLUGINS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )


def notes(case: Case) -> str:
    """NOTES.txt as `helm install` of Helm 4 would print it; no cluster is asked."""
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [
                *(str(tools.path("helm-4")), "install", release_name(case.chart)),
                *(str(CHARTS / case.chart), "--namespace", NAMESPACE),
                *("--dry-run=client", "--hide-secret", "--values", "-"),
            ],
            input=json.dumps(case.values),
            env={"HOME": home, "KUBECONFIG": "/dev/null"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("\nNOTES:\n")[2]


def release_name(chart: str) -> str:
    return "proa" if chart == "proa" else f"my-{chart}"


def kinds(found: list[Object], *names: str) -> list[Object]:
    return [item for item in found if item["kind"] in names]


def one(found: list[Object], kind: str, name: str) -> Object:
    """The object of this kind and name; there must be exactly one."""
    matching = [item for item in kinds(found, kind) if item["metadata"]["name"] == name]
    assert len(matching) == 1, f"{len(matching)} of {kind} {name}"
    return matching[0]


def pods(found: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Every pod's owner, and its metadata and spec."""
    for item in found:
        if item["kind"] == "Pod":
            yield item, item
        elif item["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield item, item["spec"]["template"]


def containers(pod: Object) -> list[Object]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
