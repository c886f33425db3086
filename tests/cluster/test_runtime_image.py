"""A release with libraries of its own runs on a cluster in the image of its lock, nowhere else.

Real: the lock, the build, the image, the pod; the release was trained with scikit-learn 1.5.2 and
proves its selftest. The annotation and the image are set here, as the controller sets them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from proa.release.image import write_context
from tests.cluster import images, seed
from tests.cluster.access import Cluster
from tests.cluster.installing import install
from tests.cluster.loading import Destination
from tests.cluster.report import Report
from tests.cluster.test_release_pods import set_release, values, wait_for
from tests.services.predictor.test_predictor_runtimes import ROWS, build, release, section

MODEL = seed.CLASSIC


def test_a_release_with_requirements(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    images_of: Callable[..., dict[str, str]],
    namespace: str,
    tmp_path: Path,
    report: Report,
) -> None:
    names = images_of("predictor", "pipelines")
    version = names["predictor"].rpartition(":")[2]
    built = build(tmp_path / "older", "scikit-learn==1.5.2")
    asked = section("skops", "model/model.skops", ("carrier", "string"), ("wind", "double"))
    ref, manifest, store, answers = release(tmp_path / "made", built, "skops", asked, ROWS)
    made = write_context(manifest, store, tmp_path / "image", release=ref.short, version=version)
    with images.secrets() as secrets:
        subprocess.run(
            [
                *("nice", "buildah", "bud", "-q", "--layers", "--isolation", "chroot"),
                *("--network", "host", "-t", f"localhost/{made.reference}"),
                *(f"--build-arg={part.upper()}=localhost/{names[part]}" for part in names),
                *(f"--secret={secret}" for secret in secrets),
                str(tmp_path / "image"),
            ],
            check=True,
        )
    destination: Destination = request.getfixturevalue("_chosen")[1]
    destination.load(f"localhost/{made.reference}")

    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "bundles"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "64Mi"}},
        },
    }
    key = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "proa-predictor-key"},
        "stringData": {"predictor.key": "key-of-a-test"},
    }
    cluster.apply(namespace, claim, key)
    folder = tmp_path / "made" / "store"
    seed.fill_claim(cluster, namespace, "bundles", folder, image=names["predictor"])

    given = values(MODEL, platform={"monitor": "none"})
    install(cluster, 4, "predictor", MODEL, namespace, given)
    set_release(cluster, namespace, MODEL, str(ref))

    def refused() -> str:
        for pod in cluster.get(namespace, "pods", selector=f"proa.dev/model={MODEL}"):
            for status in pod["status"].get("containerStatuses", ()):
                state = {**status.get("lastState", {}), **status["state"]}
                if state.get("terminated", {}).get("exitCode") == 78:
                    return str(state["terminated"].get("message", ""))
        return ""

    said = cluster.wait(refused, 120, "the platform's own predictor refuses it")
    assert f"needs the runtime built from {made.lock}" in said

    repository, _, tag = made.reference.rpartition(":")
    install(
        *(cluster, 4, "predictor", MODEL, namespace),
        {**given, "image": {"repository": repository, "tag": tag}},
    )
    with httpx.Client(base_url=cluster.address(namespace, MODEL, 8080), timeout=60) as told:
        wait_for(cluster, told, str(ref))
        body = told.post("/v1/predict", json={"rows": ROWS}).json()
        assert [row["probability"] for row in body["predictions"]] == answers
    report.add(
        "image of a release's own requirements: size",
        round(images.size_of(f"localhost/{made.reference}") / 1e6),
        "MB",
    )
