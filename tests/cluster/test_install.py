"""From nothing to one prediction and one completion, on the sample for a laptop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from proa.release.reference import ReleaseRef
from tests.cluster import seed
from tests.cluster.access import Cluster
from tests.cluster.platform import MODELS, NAMES, Platform
from tests.cluster.report import Report

GIB = 1024**3


@pytest.fixture(scope="module")
def platform(
    cluster: Cluster,
    images_of: Callable[..., dict[str, str]],
    report: Report,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Platform]:
    """The platform, installed and Ready, with both models' releases in its store and registry."""
    images = images_of(*NAMES, *MODELS)
    with cluster.namespace(prefix="proa") as namespace:
        made = Platform(cluster, namespace, images, tmp_path_factory.mktemp("platform"))
        begun = time.monotonic()
        made.install()
        made.ready()
        seconds = time.monotonic() - begun
        report.add("helm install of the whole platform until Ready", seconds, "s")
        yield made


@pytest.fixture(scope="module")
def releases(platform: Platform) -> dict[str, ReleaseRef]:
    """The first release of each model: registered, stored, judged; not promoted."""
    built = seed.classic(platform.home / "classic")
    llm = seed.llm(platform.home / "llm", identity=platform.engine_identity())
    seed.store_of(platform.home / "bundles", [built, llm])
    platform.carry()
    with pytest.MonkeyPatch.context() as patch, platform.fleet() as fleet:
        platform.mlflow_login(patch)
        refs = [
            fleet.create_from_folder(
                folder, made.manifest.model_dump(mode="json", exclude={"files"}), weights=weights
            )
            for made, folder, weights in (
                (built, platform.home / "classic/staging", None),
                (llm, platform.home / "llm/staged", llm.weights),
            )
        ]
    for ref in refs:
        platform.judge(ref)
    return {ref.name: ref for ref in refs}


def test_one_prediction_and_one_completion(
    platform: Platform, releases: dict[str, ReleaseRef], report: Report
) -> None:
    for ref in releases.values():
        platform.proa("promote", ref.short, "--reason", "first")
    key = platform.secret("proa-admin-key", "admin.key").strip()
    row = seed.classic(platform.home / "rows").rows(1)
    predicted = platform.ask("/v1/models/flight-delay/predict", {"rows": row}, key)
    assert predicted.status_code == 200, predicted.text
    assert predicted.headers["x-proa-release"] == str(releases["flight-delay"])
    assert 0 <= predicted.json()["predictions"][0]["probability"] <= 1
    question = {"role": "user", "content": "Is a tuple immutable?"}
    body = {"model": "python-help", "messages": [question]}
    answered = platform.ask("/v1/chat/completions", body, key)
    assert answered.status_code == 200, answered.text
    assert answered.headers["x-proa-release"] == str(releases["python-help"])
    assert "immutable" in answered.json()["choices"][0]["message"]["content"]
    # The namespace, and what Platform.install said.
    commands = 1 + len(platform.commands)
    told = report.at_most("commands until everything is Ready", commands, 5)
    assert told.ok


def test_kubectl_proa_finds_the_platform(
    platform: Platform, releases: dict[str, ReleaseRef]
) -> None:
    """The leader and every gateway, at the routes' newest generation."""
    told = json.loads(platform.proa("status", "--json"))
    pods = platform.cluster.get(platform.namespace, "pods")
    assert told["platform"]["leader"] in {pod["metadata"]["name"] for pod in pods}
    assert {model["model"] for model in told["models"]} == set(releases)


@pytest.mark.parametrize("helm", [3, 4])
def test_helm_test_is_green(
    platform: Platform, releases: dict[str, ReleaseRef], helm: int, report: Report
) -> None:
    for release in ("proa", "smollm2", "flight-delay", "python-help"):
        done = platform.cluster.helm(helm, "test", release, "-n", platform.namespace, "--logs")
        assert done.returncode == 0, f"{release}: {done.stdout}\n{done.stderr}"
    report.add(f"helm test with Helm {helm}", "green", bar="green")


def test_idle_platform_is_small(platform: Platform, report: Report) -> None:
    """Everything but the engine: what it holds, and what it burns over half a minute."""
    _, before = platform.usage()
    begun = time.monotonic()

    def window() -> tuple[float, float] | None:
        # kubelet measures every few seconds: a window ends when it has something new.
        memory, seconds = platform.usage()
        over = time.monotonic() - begun
        return (memory, (seconds - before) / over) if over > 30 and seconds > before else None

    memory, cores = platform.cluster.wait(window, 90, "kubelet's figures")
    small = report.at_most("memory of the idle platform, without engine", memory / GIB, 3, "GiB")
    calm = report.at_most("processor of the idle platform, without engine", cores, 1, "cores")
    print(json.dumps({"GiB": memory / GIB, "cores": cores}))
    assert small.ok
    assert calm.ok
