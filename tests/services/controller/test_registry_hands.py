"""Hands in a real MLflow during real rollouts: aliases, deleted models, edited tags, overwritten
manifests, MLflow away; and bundles changed by one byte.

Faked: the releases are processes of tests/standins/release_server.py. Every step of a rollout
meets these hands in test_hands.py, over a registry in memory.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from proa.embedded.workloads import WorkloadFiles, read_workload
from proa.errors import Refused
from proa.release.blobs import FolderBlobs
from proa.release.bundle import BundleStore, list_files
from proa.release.manifest import check_manifest
from proa.release.reference import ReleaseRef
from proa.release.registry import CHALLENGER, CHAMPION
from tests.processes import wait_until
from tests.services.controller.platform import SmallPlatform, manifest_of
from tests.services.controller.test_killed import policy
from tests.services.controller.test_rollout import Users, actions


@pytest.fixture(scope="module", autouse=True)
def _mlflow(small: SmallPlatform) -> None:
    small.start_mlflow()


@pytest.fixture
def client(small: SmallPlatform) -> MlflowClient:
    assert small.fleet.registry.versions("nobody") == []  # sets MLflow's patience
    url = small.fleet.endpoints.mlflow
    return MlflowClient(url, url)


def served(small: SmallPlatform, name: str, *numbers: int) -> list[ReleaseRef]:
    """Releases made as people make them; the first is champion, the others have passed."""
    refs = []
    for number in numbers:
        ref = small.create(name, number)
        small.gate(ref)
        refs.append(ref)
        if len(refs) == 1:
            small.promote(ref)
            small.fleet.settle(name, seconds=60)
    wait_until(lambda: small.fleet.registry.alias(name, CHAMPION) == refs[0], deadline=30)
    return refs


def codes(small: SmallPlatform, name: str) -> list[str]:
    history = small.fleet.history(name)
    return [line["details"]["code"] for line in history if line["action"] == "refused"]


def says(small: SmallPlatform, name: str, words: str) -> None:
    """The model's status tells what is wrong in the registry."""
    wait_until(
        lambda: words in (small.fleet.status(name)["registry"] or ""),
        deadline=60,
        what=f"{words!r} in the status of {name}",
    )


@pytest.mark.parametrize("alias", [CHALLENGER, CHAMPION])
def test_aliases_moved_in_the_middle_of_a_canary(small: SmallPlatform, alias: str) -> None:
    name = f"{alias}-moved"
    one, two = served(small, name, 1, 2)
    three = small.create(name, 3)
    registry = small.fleet.registry
    small.promote(two, **policy(steps=[50]))
    wait_until(lambda: small.fleet.status(name)["phase"] == "canary", deadline=30)
    registry.set_alias(three, alias)  # never judged
    with Users(small, name, count=1):
        small.fleet.settle(name, seconds=120)
    wait_until(lambda: registry.alias(name, CHAMPION) == two, deadline=30)
    wait_until(lambda: codes(small, name) == ["GateMissing"], deadline=30)
    registry.set_alias(one, alias)
    wait_until(lambda: len(codes(small, name)) == 2, deadline=30)
    assert codes(small, name)[1] == "GateStale"
    assert small.fleet.status(name)["champion"] == str(two)


def test_a_rollback_is_not_taken_back_by_the_alias_of_what_was_promoted(
    small: SmallPlatform,
) -> None:
    name = "taken-back"
    one, two = served(small, name, 1, 2)
    small.fleet.promote(two, policy=policy(steps=[], warm_seconds=0))
    registry = small.fleet.registry
    wait_until(lambda: registry.alias(name, CHAMPION) == two, deadline=30)
    assert registry.alias(name, CHALLENGER) == two
    small.fleet.rollback(name, reason="it is not good")
    wait_until(lambda: registry.alias(name, CHAMPION) == one, deadline=30)
    three = small.create(name, 3)
    registry.set_alias(three, CHALLENGER)  # answered: so the look after the rollback is over
    wait_until(lambda: "refused" in actions(small, name), deadline=30)
    assert small.fleet.status(name)["champion"] == str(one)
    assert actions(small, name).count("promoted") == 2


def test_a_model_deleted_and_created_again_is_not_what_serves(
    small: SmallPlatform, client: MlflowClient
) -> None:
    name = "again"
    (one,) = served(small, name, 1)
    client.delete_registered_model(name)
    says(small, name, "has no such release")
    assert small.predict(name).headers["x-proa-release"] == str(one)
    new = small.create(name, 2)
    assert new.version == one.version == 1
    assert new.digest != one.digest
    says(small, name, f"is {new.digest}")
    assert small.fleet.registry.alias(name, CHAMPION) is None
    assert small.fleet.status(name)["champion"] == str(one)
    with pytest.raises(Refused, match="has not been judged"):
        small.promote(new)
    small.gate(new)
    small.promote(new, **policy(steps=[], warm_seconds=0))
    small.fleet.settle(name, seconds=60)
    wait_until(lambda: small.fleet.registry.alias(name, CHAMPION) == new, deadline=30)
    assert small.predict(name).headers["x-proa-release"] == str(new)
    small.fleet.rollback(name, reason="to the other number one")
    assert small.predict(name).headers["x-proa-release"] == str(one)
    wait_until(lambda: small.fleet.registry.alias(name, CHAMPION) is None, deadline=30)


def test_tags_edited_and_a_manifest_overwritten_change_nothing(
    small: SmallPlatform, client: MlflowClient
) -> None:
    name = "edited"
    one, two = served(small, name, 1, 2)
    three = small.create(name, 3)
    version = client.get_model_version(name, "3")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.json"
        path.write_text('{"name": "edited", "kind": "llm"}')
        folder_in_run = version.source.rstrip("/").rpartition("/")[2]
        client.log_artifact(version.run_id, str(path), folder_in_run)
    assert small.fleet.manifest(three).kind == "classic"
    client.set_model_version_tag(name, "3", "proa.digest", two.digest)
    lie = small.fleet.release(f"{name}/3")
    assert lie == ReleaseRef(name, 3, two.digest)
    small.fleet.registry.set_alias(lie, CHALLENGER)
    wait_until(lambda: codes(small, name) == ["ReleaseUnknown"], deadline=30)
    with pytest.raises(Refused) as caught:
        small.promote(lie)
    assert caught.value.code == "ReleaseUnknown"
    client.delete_model_version_tag(name, "1", "proa.digest")
    says(small, name, "has no such release")
    assert small.fleet.status(name)["champion"] == str(one)
    assert small.predict(name).headers["x-proa-release"] == str(one)


@pytest.fixture
def impatient(small: SmallPlatform) -> Iterator[None]:
    """A controller that waits 3 s for MLflow instead of 20."""
    before = read_workload(small.home, "controller")
    assert before is not None
    env = {**before.template.env, "MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}
    files = WorkloadFiles(small.home)
    files.apply(replace(before, template=replace(before.template, env=env)))
    wait_until(lambda: small.complete("controller"), deadline=60)
    yield
    files.apply(before)
    wait_until(lambda: small.complete("controller"), deadline=60)


@pytest.mark.usefixtures("impatient")
def test_mlflow_is_away_for_a_whole_promotion_and_rollback(small: SmallPlatform) -> None:
    name = "without"
    one, two = served(small, name, 1, 2)
    three = small.create(name, 3)
    workload = WorkloadFiles(small.home)
    pid = small.pid("mlflow")
    os.kill(pid, signal.SIGSTOP)
    try:
        with Users(small, name, count=1) as users:
            small.promote(two, **policy(steps=[50]))
            assert small.fleet.settle(name, seconds=120)["champion"] == str(two)
            back = small.fleet.rollback(name, reason="it is not good")
            assert back["champion"] == str(one)
            small.gate(three)
            small.promote(three, **policy(steps=[], warm_seconds=0))
            small.fleet.settle(name, seconds=120)
        says(small, name, "did not answer")
        assert not users.faults
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: small.fleet.registry.alias(name, CHAMPION) == three, deadline=60)
    wait_until(lambda: small.fleet.status(name)["registry"] is None, deadline=30)
    assert workload.status("mlflow").pid == pid


# ---- bundles ------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    """Change one byte of a read-only file, in a copy of its own: blobs are hard links."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)


def with_file(small: SmallPlatform, name: str) -> ReleaseRef:
    """A release with a file in its bundle."""
    small.versions += 1
    value = manifest_of(name, small.versions).model_dump(mode="json")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.bin").write_text(f"weights {small.versions}" * 10)
        files = [file.model_dump(mode="json") for file in list_files(Path(folder))]
        manifest = check_manifest({**value, "files": files})
        digest = BundleStore(small.home.bundles).put(manifest, Path(folder))
    ref = ReleaseRef(name, small.versions, digest)
    small.ask("POST", f"/v1/models/{name}/releases", {"release": str(ref), "reason": "test"})
    return ref


def blob(small: SmallPlatform, digest: str) -> Path:
    return FolderBlobs(small.home.bundles).place(digest)


def refused_everywhere(small: SmallPlatform, ref: ReleaseRef, champion: ReleaseRef) -> Any:
    """The gate refuses it by name, and the champion goes on."""
    with pytest.raises(Refused) as caught:
        small.gate(ref)
    assert small.predict(ref.name).headers["x-proa-release"] == str(champion)
    assert small.fleet.status(ref.name)["phase"] == "idle"
    return caught.value


def test_a_manifest_with_another_byte_is_refused_by_its_digest(small: SmallPlatform) -> None:
    name = "byte-manifest"
    champion, new = small.champion(name), with_file(small, name)
    small.gate(new)
    flip(blob(small, new.digest))
    error = refused_everywhere(small, new, champion)
    assert error.code == "BundleBroken"
    assert new.digest in error.message
    with pytest.raises(Refused, match="digest"):
        small.promote(new)
    assert codes(small, name) == ["BundleBroken"]


def test_a_file_with_another_byte_in_the_store_is_refused(small: SmallPlatform) -> None:
    name = "byte-store"
    champion, new = small.champion(name), with_file(small, name)
    file = BundleStore(small.home.bundles).manifest(new.digest).files[0]
    flip(blob(small, file.sha256))
    error = refused_everywhere(small, new, champion)
    assert "model.bin does not have digest" in error.message


def test_a_laid_out_file_with_another_byte_stops_its_canary(small: SmallPlatform) -> None:
    """It changed after the exam: the rollout ends, named, and the champion goes on."""
    name = "byte-folder"
    champion, new = small.champion(name), with_file(small, name)
    small.gate(new)
    wait_until(lambda: WorkloadFiles(small.home).status(f"{name}-challenger") is None, deadline=30)
    flip(small.home.releases / new.digest.removeprefix("sha256:") / "model.bin")
    small.promote(new, **policy())
    status = small.fleet.settle(name, seconds=60)
    assert status["champion"] == str(champion)
    assert "model.bin does not have digest" in status["message"]
    assert actions(small, name)[-1] == "aborted"
    assert small.predict(name).headers["x-proa-release"] == str(champion)


def test_a_champion_whose_bundle_broke_serves_on_and_keeps_its_routes(
    small: SmallPlatform,
) -> None:
    name = "byte-champion"
    champion = small.champion(name)
    flip(blob(small, champion.digest))
    pid = small.pid("controller")
    os.kill(pid, signal.SIGKILL)  # what it had read of the bundle is forgotten
    wait_until(lambda: small.complete("controller") and small.pid("controller") != pid, deadline=60)
    other = small.champion("byte-other")  # routes are still written, for it and for others
    assert small.predict(name).headers["x-proa-release"] == str(champion)
    assert small.predict("byte-other").headers["x-proa-release"] == str(other)
