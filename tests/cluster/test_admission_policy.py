"""The optional admission policy: a release may be replaced by anybody, lost through nobody.

On a real API server, with the chart predictor's Deployment and the rendered policy. No pod runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.charts import render
from tests.cluster.access import Cluster
from tests.cluster.installing import apply_everywhere

MODEL = "flight-delay"
RELEASE = f"{MODEL}/7@sha256:{'1' * 64}"
NEXT = f"{MODEL}/8@sha256:{'2' * 64}"


@dataclass(frozen=True)
class Guarded:
    """A namespace under the policy, with one model's Deployment that serves RELEASE."""

    cluster: Cluster
    home: str
    models: str

    def patch(self, annotation: str | None, *more: str) -> tuple[int, str]:
        """Set the template's annotation (None strips it); exit code and what was said."""
        template = {"metadata": {"annotations": {"proa.dev/release": annotation}}}
        done = self.cluster.run(
            *("patch", "deployment", MODEL, "-n", self.models, "--type=merge"),
            *("-p", json.dumps({"spec": {"template": template}}), *more),
        )
        return done.returncode, done.stdout + done.stderr

    def release(self) -> str | None:
        found = self.cluster.get(self.models, "deployment", MODEL)
        annotations = found["spec"]["template"]["metadata"].get("annotations", {})
        return annotations.get("proa.dev/release")

    @property
    def controller(self) -> str:
        return f"--as=system:serviceaccount:{self.home}:proa-controller"


@pytest.fixture
def guarded(cluster: Cluster, namespaces: Callable[[str], str]) -> Iterator[Guarded]:
    home, models = namespaces("home"), namespaces("models")
    values = {"namespaces": {"models": [models]}, "admissionPolicy": {"enabled": True}}
    case = render.Case("proa", "policy", render.over(render.least("proa"), values), namespace=home)
    found = render.objects(case)
    policy = [item for item in found if item["kind"].startswith("ValidatingAdmission")]
    assert len(policy) == 2
    rights = [
        item
        for item in found
        if item["kind"] in ("Role", "RoleBinding", "ServiceAccount")
        and item["metadata"]["name"] == "proa-controller"
    ]
    model = render.Case("predictor", "policy", render.least("predictor"), namespace=models)
    deployment = render.one(render.objects(model), "Deployment", MODEL)
    apply_everywhere(cluster, [*rights, deployment])
    there = Guarded(cluster, home, models)
    assert there.patch(RELEASE)[0] == 0
    cluster.apply("default", *policy)
    try:
        # A policy is compiled and loaded a moment after it is stored.
        cluster.wait(lambda: there.patch(None, "--dry-run=server")[0] != 0, 60, "the policy")
        yield there
    finally:
        for item in policy:
            cluster.run("delete", item["kind"], item["metadata"]["name"])


def test_stripping_the_release_is_refused(guarded: Guarded) -> None:
    for release in (None, ""):
        code, said = guarded.patch(release)
        assert code != 0
        assert f"proa.dev/release was {RELEASE} and must not be stripped" in said
        assert f"proa undo {MODEL}" in said
    assert guarded.release() == RELEASE


def test_an_apply_and_an_undo_that_would_lose_it_are_refused(guarded: Guarded) -> None:
    """As `kubectl replace` of what the chart renders, and an undo to the first revision, would."""
    found = guarded.cluster.get(guarded.models, "deployment", MODEL)
    del found["spec"]["template"]["metadata"]["annotations"]
    del found["metadata"]["resourceVersion"]
    done = guarded.cluster.run("replace", "-f", "-", given=json.dumps(found))
    assert done.returncode != 0
    assert "must not be stripped" in done.stderr
    assert guarded.release() == RELEASE


def test_changing_it_and_everything_else_is_allowed(guarded: Guarded) -> None:
    code, said = guarded.patch(NEXT)
    assert code == 0, said
    assert guarded.release() == NEXT
    guarded.cluster.kubectl("scale", "deployment", MODEL, "-n", guarded.models, "--replicas=3")
    guarded.cluster.kubectl("rollout", "restart", f"deployment/{MODEL}", "-n", guarded.models)
    assert guarded.release() == NEXT


def test_the_controller_may(guarded: Guarded) -> None:
    code, said = guarded.patch(None, guarded.controller)
    assert code == 0, said
    assert guarded.release() is None
    code, said = guarded.patch(RELEASE, guarded.controller)
    assert code == 0, said
    assert guarded.patch(None)[0] != 0, "and nobody else after it"


def test_another_namespace_is_not_touched(
    guarded: Guarded, namespaces: Callable[[str], str]
) -> None:
    other = namespaces("other")
    case = render.Case("predictor", "other", render.least("predictor"), namespace=other)
    guarded.cluster.apply(other, render.one(render.objects(case), "Deployment", MODEL))
    elsewhere = Guarded(guarded.cluster, guarded.home, other)
    assert elsewhere.patch(RELEASE)[0] == 0
    assert elsewhere.patch(None)[0] == 0
