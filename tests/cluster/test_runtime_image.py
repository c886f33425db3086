"""A release with libraries of its own runs on a cluster in the image of its lock, nowhere else.

Real: the lock, the build, the image, the pod; the release was trained with scikit-learn 1.5.2 and
proves its selftest. The annotation and the image are set here, as the controller sets them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import pytest

from proa.release.image import write_context
from tests.cluster import images, seed
from tests.cluster.access import Cluster
from tests.cluster.installing import install
from tests.cluster.loading import Destination
from tests.cluster.report import Report
from tests.cluster.test_release_pods import (
    ended,
    set_release,
    store_and_key,
    values,
    wait_for,
)
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
    built = build(tmp_path / "older", "scikit-learn==1.5.2")
    asked = section("skops", "model/model.skops", ("carrier", "string"), ("wind", "double"))
    ref, manifest, store, answers = release(tmp_path / "made", built, "skops", asked, ROWS)
    version = names["predictor"].rpartition(":")[2]
    made = write_context(manifest, store, tmp_path / "image", release=ref.short, version=version)
    build_image(made.reference, tmp_path / "image", names)
    destination: Destination = request.getfixturevalue("_chosen")[1]
    destination.load(f"localhost/{made.reference}")

    cluster.apply(namespace, *store_and_key("predictor"))
    folder = tmp_path / "made" / "store"
    seed.fill_claim(cluster, namespace, "bundles", folder, image=names["predictor"])
    given = values(MODEL, platform={"monitor": "none"})
    install(cluster, 4, "predictor", MODEL, namespace, given)
    set_release(cluster, namespace, MODEL, str(ref))
    said = cluster.wait(
        lambda: ended(cluster, namespace, "containerStatuses"), 300, "the platform's own refuses it"
    )
    assert f"needs the runtime built from {made.lock}" in said

    repository, _, tag = made.reference.rpartition(":")
    given["image"] = {"repository": repository, "tag": tag}
    install(cluster, 4, "predictor", MODEL, namespace, given)
    with httpx.Client(base_url=cluster.address(namespace, MODEL, 8080), timeout=60) as told:
        wait_for(cluster, told, str(ref))
        body = told.post("/v1/predict", json={"rows": ROWS}).json()
        assert [row["probability"] for row in body["predictions"]] == answers
    size = images.size_of(f"localhost/{made.reference}")
    report.add("image of a release's own requirements: size", round(size / 1e6), "MB")


def build_image(reference: str, context: Path, names: Mapping[str, str]) -> None:
    """As the Dockerfile's own words ask, from images of this machine."""
    with images.secrets() as secrets:
        subprocess.run(
            [
                *("nice", "buildah", "bud", "-q", "--layers", "--isolation", "chroot"),
                *("--network", "host", "-t", f"localhost/{reference}"),
                *(f"--build-arg={part.upper()}=localhost/{names[part]}" for part in names),
                *(f"--secret={secret}" for secret in secrets),
                str(context),
            ],
            check=True,
        )
