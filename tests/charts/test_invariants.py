"""What must hold of every object that any chart renders, in every case."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest

from proa.embedded.engine import engine_identity
from tests.charts import render

CASES = render.cases()
EACH = pytest.mark.parametrize("case", CASES, ids=str)
# These speak to the Kubernetes API; nobody else gets a token.
TOKENS = {"gateway", "controller", "secrets", "prometheus"}
SECRET_NAME = re.compile(r"(?i)(password|passwd|secret|api_?key|credential|(^|_)token($|_))")
SECRET_TEXT = re.compile(r"(?i)(password|passwd|api[-_]?key|token)=|://[^/@\s]+:[^/@\s]+@")
# Names and paths of secrets, and the code that reads them, are no secrets.
HARMLESS = ("AWS_SHARED_CREDENTIALS_FILE", "HF_TOKEN_PATH", "POSTGRES_PASSWORD_FILE")


def where(owner: render.Object) -> str:
    return f"{owner['kind']} {owner['metadata']['name']}"


@EACH
def test_pods_are_restricted(case: render.Case) -> None:
    """Pod Security `restricted`, and what it only recommends."""
    seen = 0
    for owner, pod in render.pods(render.objects(case)):
        spec, at = pod["spec"], where(owner)
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, at
        assert security["runAsUser"] > 0, at
        assert security["runAsGroup"] > 0, at
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, at
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), at
        assert spec["enableServiceLinks"] is False, at
        allowed = {"name", "emptyDir", "secret", "configMap", "projected"}
        for volume in spec.get("volumes", []):
            assert set(volume) <= {*allowed, "persistentVolumeClaim", "image"}, at
        for container in render.containers(pod):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, at
            assert own["capabilities"] == {"drop": ["ALL"]}, at
            assert "privileged" not in own, at
            gpu = any("/" in name for name in container["resources"].get("limits", {}))
            assert own["readOnlyRootFilesystem"] is not gpu, f"{at}: only a GPU's hook writes there"
            seen += 1
    assert seen


@EACH
def test_tokens_only_where_the_api_is_asked(case: render.Case) -> None:
    found = render.objects(case)
    accounts = {item["metadata"]["name"] for item in render.kinds(found, "ServiceAccount")}
    for owner, pod in render.pods(found):
        spec = pod["spec"]
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        assert spec["automountServiceAccountToken"] is (component in TOKENS), where(owner)
        if component in TOKENS:
            assert spec["serviceAccountName"] in accounts
    for account in render.kinds(found, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


@EACH
def test_containers_ask_for_what_they_need(case: render.Case) -> None:
    for owner, pod in render.pods(render.objects(case)):
        for container in render.containers(pod):
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"]), where(owner)
            assert "memory" in resources["limits"], where(owner)


@EACH
def test_images_say_a_version(case: render.Case) -> None:
    for owner, pod in render.pods(render.objects(case)):
        for container in render.containers(pod):
            image, _, digest = container["image"].partition("@")
            tag = image.rpartition("/")[2].partition(":")[2]
            assert tag not in ("", "latest") or digest, f"{where(owner)}: {container['image']}"


@EACH
def test_nothing_goes_through_a_shell(case: render.Case) -> None:
    for owner, pod in render.pods(render.objects(case)):
        for container in render.containers(pod):
            hooks = container.get("lifecycle", {}).values()
            commands = [container.get("command", [])]
            commands += [hook["exec"]["command"] for hook in hooks if "exec" in hook]
            for command in commands:
                first = [word.rpartition("/")[2] for word in command]
                assert not {"sh", "bash", "ash"} & set(first), where(owner)
            for argument in container.get("args", []):
                assert isinstance(argument, str), where(owner)


def values_of(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for value in node.values():
            yield from values_of(value)
    elif isinstance(node, list):
        for value in node:
            yield from values_of(value)
    else:
        yield str(node)


@EACH
def test_no_secret_in_arguments_environment_or_maps(case: render.Case) -> None:
    found = render.objects(case)
    assert not render.kinds(found, "Secret"), "charts make no Secret: a render would change it"
    for owner, pod in render.pods(found):
        for container in render.containers(pod):
            for argument in container.get("args", []):
                script = argument.startswith('"""')
                assert script or not SECRET_TEXT.search(argument), f"{where(owner)}: {argument}"
            for variable in container.get("env", []):
                if SECRET_NAME.search(variable["name"]) and variable["name"] not in HARMLESS:
                    assert "secretKeyRef" in variable["valueFrom"], variable["name"]
                assert not SECRET_TEXT.search(str(variable.get("value", "")))
    for item in render.kinds(found, "ConfigMap"):
        for text in values_of(item.get("data")):
            assert "://" not in text or not SECRET_TEXT.search(text), item["metadata"]["name"]


@EACH
def test_the_release_is_never_rendered(case: render.Case) -> None:
    """Only the controller writes it: what a chart renders, `helm upgrade` would put back."""
    for item in render.objects(case):
        template = item.get("spec", {}).get("template", {}).get("metadata", {})
        for metadata in (item["metadata"], template):
            assert "proa.dev/release" not in (metadata.get("annotations") or {})
            assert "proa.dev/version" not in (metadata.get("labels") or {})


@EACH
def test_one_budget_to_start(case: render.Case) -> None:
    """Nothing restarts a container within its budget, and a rollout waits longer than that."""
    for owner in render.kinds(render.objects(case), "Deployment", "StatefulSet"):
        values = render.settings(case)
        part = values.get(owner["metadata"]["labels"]["app.kubernetes.io/component"], {})
        wanted = values.get("startup", part.get("startup", {})).get("timeoutSeconds", 120)
        for container in owner["spec"]["template"]["spec"]["containers"]:
            probe = container["startupProbe"]
            budget = probe["periodSeconds"] * probe["failureThreshold"]
            assert wanted <= budget < wanted + probe["periodSeconds"], where(owner)
            if owner["kind"] == "Deployment":
                assert owner["spec"]["progressDeadlineSeconds"] >= budget + 60
            assert "initialDelaySeconds" not in container["livenessProbe"]


@EACH
def test_one_budget_to_end(case: render.Case) -> None:
    """Linger, drain and the process's own timeout fit into the grace, with a margin."""
    for owner, pod in render.pods(render.objects(case)):
        if owner["kind"] not in ("Deployment", "StatefulSet"):
            continue
        grace = pod["spec"]["terminationGracePeriodSeconds"]
        for container in pod["spec"]["containers"]:
            args = container.get("args", [])
            hook = container.get("lifecycle", {}).get("preStop", {})
            before = hook.get("sleep", {}).get("seconds", 0)
            if "exec" in hook:
                before = sum(seconds(hook["exec"]["command"], "--linger", "--timeout"))
            lingers = seconds(args, "--linger-seconds")
            assert not (lingers and hook), "one of the two lingers"
            after = sum([*lingers, *seconds(args, "--drain-seconds", "--shutdown-timeout")])
            assert grace >= before + after + 10, where(owner)


def seconds(arguments: list[str], *names: str) -> list[int]:
    found = [argument for argument in arguments if argument.startswith(names)]
    return [int(argument.rpartition("=")[2]) for argument in found]


@EACH
def test_probes_and_services_name_ports_that_exist(case: render.Case) -> None:
    found = render.objects(case)
    for owner, pod in render.pods(found):
        for container in pod["spec"]["containers"]:
            ports = {port["name"] for port in container.get("ports", [])}
            for name in ("startupProbe", "livenessProbe", "readinessProbe"):
                if "httpGet" in container.get(name, {}):
                    assert container[name]["httpGet"]["port"] in ports, where(owner)
    for service in render.kinds(found, "Service"):
        matching = [pod for _, pod in render.pods(found) if selects(service["spec"], pod)]
        assert matching, where(service)
        for port in service["spec"]["ports"]:
            for pod in matching:
                ports = {p["name"] for p in pod["spec"]["containers"][0].get("ports", [])}
                assert port["targetPort"] in ports, where(service)


def selects(spec: render.Object, pod: render.Object) -> bool:
    selector = spec.get("selector") or spec.get("podSelector") or {}
    wanted = selector.get("matchLabels", selector)
    return bool(wanted.items() <= pod["metadata"]["labels"].items())


@EACH
def test_selectors_choose_their_own_pods_alone(case: render.Case) -> None:
    found = render.objects(case)
    every = list(render.pods(found))
    for owner in render.kinds(found, "Deployment", "StatefulSet"):
        chosen = [other for other, pod in every if selects(owner["spec"], pod)]
        assert chosen == [owner]
    for budget in render.kinds(found, "PodDisruptionBudget"):
        component = budget["metadata"]["labels"]["app.kubernetes.io/component"]
        if component in ("predictor", "assistant"):
            # A challenger's pods outlive their Deployment for a moment, and would stop evictions.
            assert budget["spec"]["selector"]["matchLabels"]["proa.dev/track"] == "champion"
        assert len([1 for _, pod in every if selects(budget["spec"], pod)]) == 1


@EACH
def test_replicas_have_one_owner(case: render.Case) -> None:
    found = render.objects(case)
    scalers = render.kinds(found, "HorizontalPodAutoscaler", "ScaledObject")
    scaled = {
        (s["spec"]["scaleTargetRef"]["kind"], s["spec"]["scaleTargetRef"]["name"]) for s in scalers
    }
    assert len(scaled) == len(scalers)
    for owner in render.kinds(found, "Deployment", "StatefulSet"):
        mine = (owner["kind"], owner["metadata"]["name"]) in scaled
        assert ("replicas" in owner["spec"]) is not mine, where(owner)
        scaled.discard((owner["kind"], owner["metadata"]["name"]))
    assert not scaled, "an autoscaler of nothing"


@EACH
def test_every_pod_has_a_policy_for_both_directions(case: render.Case) -> None:
    found = render.objects(case)
    policies = render.kinds(found, "NetworkPolicy")
    if case.values.get("networkPolicy", {}).get("enabled") is False:
        assert not policies
        return
    for owner, pod in render.pods(found):
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "test":
            continue
        mine = [policy for policy in policies if selects(policy["spec"], pod)]
        assert mine, f"{where(owner)} has no policy"
        for policy in mine:
            assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
            component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
            for rule in policy["spec"]["ingress"]:
                if component != "gateway":
                    assert rule.get("from"), f"{where(policy)} lets everybody in"
                assert rule.get("ports"), f"{where(policy)} opens every port"
                if not rule.get("from"):
                    assert [port["port"] for port in rule["ports"]] == ["http"], (
                        "only the user door"
                    )
            for rule in policy["spec"]["egress"]:
                assert rule.get("ports") or rule.get("to"), f"{where(policy)} lets out everything"


@EACH
def test_mounts_have_volumes_and_volumes_are_mounted(case: render.Case) -> None:
    for owner, pod in render.pods(render.objects(case)):
        volumes = [volume["name"] for volume in pod["spec"].get("volumes", [])]
        claims = owner.get("spec", {}).get("volumeClaimTemplates", [])
        volumes += [claim["metadata"]["name"] for claim in claims]
        assert len(volumes) == len(set(volumes)), where(owner)
        used = set()
        for container in render.containers(pod):
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            assert len(paths) == len(set(paths)), where(owner)
            used |= {mount["name"] for mount in container.get("volumeMounts", [])}
        assert used == set(volumes), where(owner)


@EACH
def test_names_and_labels_fit(case: render.Case) -> None:
    for item in render.objects(case):
        assert len(item["metadata"]["name"]) <= 63, where(item)
        for value in (item["metadata"].get("labels") or {}).values():
            assert re.fullmatch(r"([A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?)?", value), value
            assert len(value) <= 63


@EACH
def test_roles_are_of_a_namespace_and_name_what_they_touch(case: render.Case) -> None:
    found = render.objects(case)
    assert not render.kinds(found, "ClusterRole", "ClusterRoleBinding")
    for role in render.kinds(found, "Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]], where(role)
            if "secrets" in rule["resources"]:
                assert rule["verbs"] == ["create"] or (
                    rule["verbs"] == ["get"] and rule["resourceNames"]
                ), where(role)


@EACH
def test_hooks_and_claims_outlive_what_they_must(case: render.Case) -> None:
    for claim in render.kinds(render.objects(case), "PersistentVolumeClaim"):
        assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_two_releases_of_a_chart_share_no_pod() -> None:
    one = render.objects(render.Case("predictor", "one", render.least("predictor")))
    other_values = render.over(render.least("predictor"), {"model": {"name": "other"}})
    other = render.objects(render.Case("predictor", "other", other_values))
    names = {(item["kind"], item["metadata"]["name"]) for item in one}
    assert not names & {(item["kind"], item["metadata"]["name"]) for item in other}
    for owner, pod in render.pods(other):
        for item in render.kinds(one, "Deployment", "Service", "NetworkPolicy"):
            assert not selects(item["spec"], pod), f"{where(item)} selects {where(owner)}"


@pytest.mark.parametrize("chart", ["predictor", "assistant"])
def test_a_challenger_is_nobody_elses_pod(chart: str) -> None:
    """The controller clones the champion's template and changes the track alone."""
    found = render.objects(render.Case(chart, "least", render.least(chart)))
    (champion,) = render.kinds(found, "Deployment")
    pod = copy.deepcopy(champion["spec"]["template"])
    assert selects(champion["spec"], pod)
    pod["metadata"]["labels"]["proa.dev/track"] = "challenger"
    assert not selects(champion["spec"], pod)
    (service,) = render.kinds(found, "Service")
    assert not selects(service["spec"], pod), "the gateway sends each track its share"
    (policy,) = render.kinds(found, "NetworkPolicy")
    assert selects(policy["spec"], pod), "and shuts everybody else out of both"


@EACH
def test_everything_says_whose_it_is(case: render.Case) -> None:
    release = render.release_name(case.chart)
    for item in render.objects(case):
        assert item["metadata"]["labels"]["app.kubernetes.io/instance"] == release, where(item)
        assert item["metadata"]["labels"]["app.kubernetes.io/part-of"] == "proa", where(item)
    for owner in render.kinds(render.objects(case), "Deployment", "StatefulSet"):
        selector = owner["spec"]["selector"]["matchLabels"]
        assert selector["app.kubernetes.io/instance"] == release, where(owner)


def test_a_new_chart_does_not_replace_pods() -> None:
    """Versions of chart and platform stand on objects, never in a pod's template."""
    for case in CASES:
        for _, pod in render.pods(render.objects(case)):
            labels = pod["metadata"]["labels"]
            if "helm.sh/hook" not in pod["metadata"].get("annotations", {}):
                assert "helm.sh/chart" not in labels
                assert "app.kubernetes.io/version" not in labels


# ---- the engine -------------------------------------------------------------------------------

ENGINES = [case for case in CASES if case.chart == "vllm"]


def engine(case: render.Case) -> tuple[render.Object, list[str]]:
    found = render.objects(case)
    deployment = render.one(found, "Deployment", case.values["model"]["name"])
    return deployment, deployment["spec"]["template"]["spec"]["containers"][0]["args"]


@pytest.mark.parametrize("case", ENGINES, ids=str)
def test_identity_is_the_platforms(case: render.Case) -> None:
    """The chart computes what `proa.embedded.engine.engine_identity` does, adapters too."""
    deployment, args = engine(case)
    config = render.one(render.objects(case), "ConfigMap", f"{case.values['model']['name']}-engine")
    known = json.loads(config["data"]["engines.json"])
    served = [a.removeprefix("--served-model-name=") for a in args if "served-model-name" in a]
    modules = [json.loads(a)["name"] for a in args if a.startswith("{")]
    assert sorted(known) == sorted([*served, *modules])
    for identity, entry in known.items():
        assert identity == engine_identity(
            entry["runtime"],
            entry["base_model"],
            entry["revision"],
            adapter=entry.get("adapter"),
            arguments=entry["arguments"],
        )
        assert set(entry["arguments"]) <= set(args)
    assert deployment["metadata"]["labels"]["proa.dev/engine"] == served[0]
    assert deployment["spec"]["template"]["metadata"]["labels"]["proa.dev/engine"] == served[0]


def test_what_has_an_effect_on_the_text_changes_the_identity() -> None:
    def identity(more: dict[str, Any]) -> str:
        values = render.over(render.least("vllm"), more)
        return next(a for a in engine(render.Case("vllm", "x", values))[1] if "served-model" in a)

    base = identity({})
    for more in (
        {"engine": {"maxModelLen": 4096}},
        {"engine": {"dtype": "float16"}},
        {"engine": {"seed": 1}},
        {"engine": {"enforceEager": True}},
        {"model": {"revision": "0" * 40}},
        {"image": {"tag": "v0.31.0"}},
        {"extraArgs": ["--quantization=fp8"]},
    ):
        assert identity(more) != base, more
    for same in (
        {"replicas": 2},
        {"engine": {"maxNumSeqs": 1}},
        {"queue": {"maxRequests": 1}},
        {"image": {"registry": "mirror.example.org"}},
        {"extraEnv": [{"name": "A", "value": "b"}]},
    ):
        assert identity(same) == base, same


@pytest.mark.parametrize("case", ENGINES, ids=str)
def test_auto_asks_for_no_gpu_that_may_not_be_there(case: render.Case) -> None:
    deployment, _ = engine(case)
    strategy = deployment["spec"]["strategy"]["rollingUpdate"]
    assert sorted((strategy["maxSurge"], strategy["maxUnavailable"])) == [0, 1]
    rollout = case.values.get("rollout", {})
    needs_gpu = case.values.get("device", "gpu") == "gpu"
    if rollout.get("strategy", "auto") == "auto" and needs_gpu and not rollout.get("spareGpu"):
        assert strategy == {"maxSurge": 0, "maxUnavailable": 1}
        pods = case.values.get("replicas", 1)
        pods = case.values.get("autoscaling", {}).get("minReplicas", pods)
        said = deployment["metadata"]["annotations"].get("proa.dev/downtime", "")
        assert bool(said) is (pods < 2)
        assert ("Downtime:" in render.notes(case)) is bool(said)


@pytest.mark.parametrize("case", ENGINES, ids=str)
def test_the_engines_container(case: render.Case) -> None:
    deployment, args = engine(case)
    spec = deployment["spec"]["template"]["spec"]
    container = spec["containers"][0]
    env = {variable["name"]: variable for variable in container["env"]}
    assert env["VLLM_API_KEY"]["valueFrom"]["secretKeyRef"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"/dev/shm", "/cache", "/tmp"} <= mounts
    for name in ("HF_HOME", "VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "XDG_CACHE_HOME"):
        assert env[name]["value"].startswith("/cache/")
    prefix = case.values.get("engine", {}).get("prefixCaching", True)
    assert ("--enable-prefix-caching" in args) is prefix
    assert any(a.startswith("--max-num-queued-reqs=") for a in args)
    live = container["livenessProbe"]
    assert live["exec"]["command"][3] == "live", "/health answers 200 while an engine hangs"
    stall = seconds(live["exec"]["command"], "--stall-seconds")[0]
    worst = (live["periodSeconds"] + live["timeoutSeconds"]) * live["failureThreshold"]
    assert worst + live["terminationGracePeriodSeconds"] <= stall + 60
    gpu = case.values.get("gpu", {}).get("count", 1)
    if case.values.get("device") == "cpu":
        assert "VLLM_CPU_KVCACHE_SPACE" in env
        assert not spec.get("tolerations")
    else:
        assert container["resources"]["limits"]["nvidia.com/gpu"] == gpu
        assert ("--tensor-parallel-size=2" in args) is (gpu == 2)
        assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"
    if case.values["model"]["source"].get("hub"):
        assert "--revision=" + case.values["model"]["revision"] in args
    else:
        assert env["HF_HUB_OFFLINE"]["value"] == "1"
    assert math.isclose(float(stall), case.values.get("health", {}).get("stallSeconds", 180))


@EACH
def test_libraries_that_count_their_users_are_told_not_to(case: render.Case) -> None:
    counting = r"proa-(monitor|mlflow)|vllm"  # a test of Helm loads no such library
    for owner, pod in render.pods(render.objects(case)):
        for container in render.containers(pod):
            if owner["kind"] != "Pod" and re.search(counting, container["image"]):
                quiet = {item["name"]: item.get("value") for item in container.get("env", [])}
                assert quiet.get("DO_NOT_TRACK") in ("1", "true"), where(owner)
