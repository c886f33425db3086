"""What a Deployment's objects mean for a rollout: properties over every mixture of them."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proa.release.reference import ReleaseRef
from proa_controller.deployed import (
    Parts,
    base_of,
    chart_container,
    deployed,
    generation_of,
    has_lost_own,
    release_in,
)
from proa_controller.deployments import ReleaseTemplate, _with_release, _without_release, clone

RELEASES = [None, *(ReleaseRef("m", n, "sha256:" + f"{n:064x}") for n in (1, 2, 3))]
OWNS: list[Any] = [
    None,
    {"image": "own:1"},
    {"image": "own:2", "command": ["run"], "args": None, "workingDir": "/x"},
]
releases = st.sampled_from(RELEASES)


def champion(release: ReleaseRef | None = None, **labels: str) -> dict[str, Any]:
    container = {"name": "predictor", "image": "chart:1", "args": ["--port=8080"]}
    annotations = {} if release is None else {"proa.dev/release": str(release)}
    return {
        "metadata": {"name": "m", "namespace": "n", "uid": "u", "generation": 1, "labels": labels},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "m", "proa.dev/track": "champion"}},
            "template": {
                "metadata": {"labels": {"app": "m"}, "annotations": annotations},
                "spec": {"containers": [container], "volumes": []},
            },
        },
    }


def merged(present: Any, patch: Any) -> Any:
    """A strategic merge patch, as far as ours go: containers merge by name, None deletes."""
    if isinstance(patch, dict):
        found = dict(present or {})
        for key, value in patch.items():
            if value is None:
                found.pop(key, None)
            elif key == "containers":
                found[key] = [merged(found[key][0], value[0]), *found[key][1:]]
            else:
                found[key] = merged(found.get(key), value)
        return found
    return patch


@given(st.lists(st.tuples(releases, st.sampled_from(OWNS)), max_size=6), st.booleans())
def test_whatever_releases_came_the_charts_settings_come_back(
    steps: list[tuple[ReleaseRef | None, Any]], upgraded: bool
) -> None:
    first = present = champion()
    for release, own in steps:
        patch = (
            _without_release(present)
            if release is None
            else _with_release(present, ReleaseTemplate(release, own), "why")
        )
        present = merged(present, patch)
        template = present["spec"]["template"]
        assert release_in(template) == release
        assert base_of(present) == base_of(first), "a release is no setting"
        assert not has_lost_own(template)
        container = template["spec"]["containers"][0]
        wanted = {**champion()["spec"]["template"]["spec"]["containers"][0]}
        if release is not None:
            wanted |= own or {}
        assert container == {key: value for key, value in wanted.items() if value is not None}
        if upgraded:  # Helm writes its image over whatever is there
            container["image"] = "chart:2"
            first = copy.deepcopy(first)
            first["spec"]["template"]["spec"]["containers"][0]["image"] = "chart:2"
            assert has_lost_own(template) == (release is not None and own is not None)
            assert chart_container(template)["image"] == "chart:2"
            return
    emptied = merged(present, _without_release(present))
    assert emptied["spec"] == champion()["spec"]


@given(releases, releases, st.integers(0, 3), st.integers(0, 3), st.integers(0, 9))
def test_a_generation_is_of_the_release_and_of_our_writes_alone(
    one: ReleaseRef | None, other: ReleaseRef | None, writes: int, more: int, replicas: int
) -> None:
    before = champion(one, **{"proa.dev/writes": str(writes)})
    after = champion(other, **{"proa.dev/writes": str(more)})
    after["spec"]["replicas"] = replicas
    after["metadata"]["generation"] = 7
    after["spec"]["template"]["spec"]["volumes"] = [{"name": "new"}]
    same = (one, writes) == (other, more)
    assert (generation_of(before) == generation_of(after)) == same
    assert generation_of(before) > 0


@given(releases, st.sampled_from(OWNS), st.integers(1, 5))
def test_a_challenger_has_the_champions_settings(
    running: ReleaseRef | None, own: Any, replicas: int
) -> None:
    of = champion(running)
    release = RELEASES[2]
    assert release is not None
    found = clone(of, "m-challenger", ReleaseTemplate(release, own), replicas, "why")
    assert release_in(found["spec"]["template"]) == release
    assert found["metadata"]["annotations"]["proa.dev/champion-settings"] == base_of(of)
    spec = found["spec"]
    assert spec["replicas"] == replicas
    wanted = spec["selector"]["matchLabels"].items()
    assert wanted <= spec["template"]["metadata"]["labels"].items(), "it selects its own pods"
    assert not wanted <= of["spec"]["template"]["metadata"]["labels"].items()
    assert champion(running) == of, "the champion itself is left alone"


sets = st.lists(st.tuples(releases, st.integers(0, 2)), max_size=4)


@given(releases, sets, st.booleans(), st.integers(0, 3), st.integers(0, 3))
def test_who_answers(
    wanted: ReleaseRef | None,
    old: list[tuple[ReleaseRef | None, int]],
    observed: bool,
    updated: int,
    total: int,
) -> None:
    of = champion(wanted)
    status = {"updatedReplicas": updated, "replicas": total, "readyReplicas": min(updated, total)}
    of["status"] = {**status, "observedGeneration": int(observed)}
    replicasets = [
        {
            "metadata": {
                "uid": f"{number}",
                "annotations": {"deployment.kubernetes.io/revision": str(number)},
            },
            "spec": {"template": champion(release)["spec"]["template"]},
            "status": {"readyReplicas": ready},
        }
        for number, (release, ready) in enumerate(old)
    ]
    found = deployed(Parts(of, replicasets, []), "http://m")
    complete = observed and updated >= 2 and updated == total
    ready: dict[ReleaseRef | None, int] = {}
    for release, count in old:
        ready[release] = ready.get(release, 0) + count
    others = [release for release, count in ready.items() if count and release != wanted]
    assert found.template_release == wanted
    if complete:
        assert found.ready == (wanted is not None), "older news of ReplicaSets change nothing"
        assert found.capacity == 2 or total > 2
    else:
        assert found.ready == (found.release is not None and ready.get(found.release, 0) > 0)
    assert (found.url is None) == (found.release is None)
    if others and not complete:
        assert found.release in others, "as long as an old pod answers, the old release does"
    else:
        assert found.release == wanted
