"""Kubernetes: every manifest against the API's schema, and the promises that the schema cannot know."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.settings import Settings
from tests.docker.configuration import ROOT

FOLDER = ROOT / "docker/kubernetes"
VERSIONS = ("1.29", "1.37")
"""The oldest Kubernetes that the manifests are for, and the newest that the validator knows."""
DEFINED_ELSEWHERE = {"ServiceMonitor", "InferenceService", "Kustomization"}
"""Kinds that the cluster's own API does not have: the operators' and kustomize's."""


def _documents() -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(FOLDER.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if "kind" in document:
                yield path, document


MANIFESTS = {f"{path.parent.name}/{document['kind']}": document for path, document in _documents()}
DEPLOYMENT = MANIFESTS["base/Deployment"]


def _gpu_deployment() -> dict[str, Any]:
    """Return the base's Deployment as kustomize merges the patch for a GPU into it (strategic merge, lists by name)."""
    merged = copy.deepcopy(DEPLOYMENT)
    [container] = merged["spec"]["template"]["spec"]["containers"]
    [patch] = MANIFESTS["gpu/Deployment"]["spec"]["template"]["spec"]["containers"]
    assert patch.keys() == {"name", "env", "resources"}
    assert patch["name"] == container["name"]
    env = {variable["name"]: variable for variable in (*container["env"], *patch["env"])}
    resources = {kind: {**container["resources"][kind], **patch["resources"][kind]} for kind in patch["resources"]}
    container |= {"env": list(env.values()), "resources": resources}
    return merged


MANIFESTS["gpu/Deployment"] = _gpu_deployment()
OWN = sorted(name for name, document in MANIFESTS.items() if document["kind"] not in DEFINED_ELSEWHERE)
POD = DEPLOYMENT["spec"]["template"]["spec"]
PREDICTOR = MANIFESTS["kserve/InferenceService"]["spec"]["predictor"]
KSERVES_OWN = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "timeout"}
"""What a predictor may say beside a pod's fields, of KServe's ComponentExtensionSpec (v1beta1)."""
PODS = {
    "deployment": POD,
    "gpu": MANIFESTS["gpu/Deployment"]["spec"]["template"]["spec"],
    "kserve": {key: part for key, part in PREDICTOR.items() if key not in KSERVES_OWN},
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OWN)
def test_the_apis_schema_takes_it(name: str, version: str) -> None:
    kubernetes_validate.validate(MANIFESTS[name], version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_left_of_a_predictor_is_a_pod(version: str) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "manet"}, "spec": PODS["kserve"]}

    kubernetes_validate.validate(pod, version, strict=True)
    assert all(isinstance(PREDICTOR[key], int) for key in KSERVES_OWN - {"scaleMetric"})
    assert PREDICTOR["scaleMetric"] in {"cpu", "memory", "concurrency", "rps"}
    assert PODS["kserve"]["containers"][0]["name"] == "kserve-container"


def test_the_schema_would_notice_a_wrong_field() -> None:
    wrong = {**DEPLOYMENT, "spec": {**DEPLOYMENT["spec"], "strategie": {}}}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("folder", ["base", "monitoring", "kserve"])
def test_kustomize_applies_every_file_of_its_folder(folder: str) -> None:
    kustomization = MANIFESTS[f"{folder}/Kustomization"]
    with_kind = {path.name for path, document in _documents() if path.parent.name == folder}

    assert set(kustomization["resources"]) == with_kind - {"kustomization.yaml"}
    assert len(kustomization["resources"]) == len(set(kustomization["resources"]))


def test_with_a_gpu_it_is_the_base_with_one_front_end_for_each_core_but_one() -> None:
    kustomization = MANIFESTS["gpu/Kustomization"]
    [container] = PODS["gpu"]["containers"]
    settings = {variable["name"]: variable["value"] for variable in container["env"]}

    assert kustomization["resources"] == ["../base"]
    assert kustomization["patches"] == [{"path": "deployment.yaml"}]
    assert kustomization["images"] == [{"name": "manet", "newName": "manet", "newTag": "cuda"}]
    assert (settings["MANET_DEVICE"], settings["MANET_FRONT_ENDS"]) == ("cuda", "auto")
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_everything_selects_the_pods_of_the_deployment() -> None:
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    monitor = MANIFESTS["monitoring/ServiceMonitor"]
    service = MANIFESTS["base/Service"]

    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == labels
    assert MANIFESTS["base/PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert MANIFESTS["base/NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert monitor["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]
    target = MANIFESTS["base/HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", DEPLOYMENT["metadata"]["name"])
    assert "replicas" not in DEPLOYMENT["spec"]  # the autoscaler's


def test_the_service_monitor_is_what_its_operator_takes() -> None:
    monitor = MANIFESTS["monitoring/ServiceMonitor"]
    [endpoint] = monitor["spec"]["endpoints"]

    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert set(monitor["spec"]) == {"selector", "endpoints"}
    assert set(endpoint) == {"port", "path", "interval", "scrapeTimeout", "authorization"}
    [keys] = [volume["secret"] for volume in POD["volumes"] if "secret" in volume]
    assert endpoint["authorization"] == {
        "type": "Bearer",
        "credentials": {"name": keys["secretName"], "key": "metrics_key"},
    }
    assert endpoint["path"] == "/metrics"
    assert endpoint["port"] in {port["name"] for port in MANIFESTS["base/Service"]["spec"]["ports"]}
    assert int(endpoint["scrapeTimeout"].removesuffix("s")) < int(endpoint["interval"].removesuffix("s"))
    assert MANIFESTS["base/Service"]["metadata"]["name"] == "manet"  # becomes the label job of the alerts


@pytest.mark.parametrize("name", PODS)
def test_a_pod_can_do_no_more_than_it_must(name: str) -> None:
    pod = PODS[name]
    [container] = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["cpu"] == container["resources"]["requests"]["cpu"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("name", PODS)
def test_the_clusters_own_variables_are_not_taken_for_settings(name: str) -> None:
    # For a Service called manet, Kubernetes would set MANET_PORT=tcp://10.0.0.1:80 in each pod.
    assert PODS[name]["enableServiceLinks"] is False


@pytest.mark.parametrize("name", PODS)
def test_a_pod_outlives_what_it_admitted(name: str) -> None:
    pod = PODS[name]
    [container] = pod["containers"]
    settings = {variable["name"]: variable["value"] for variable in container["env"]}
    pause = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    shutdown, deadline = float(settings["MANET_SHUTDOWN_TIMEOUT"]), float(settings["MANET_DEADLINE"])

    assert (shutdown, deadline) == (Settings().shutdown_timeout, Settings().deadline)
    assert pod["terminationGracePeriodSeconds"] > pause + shutdown + deadline
    # Before the pause is over the endpoint must be gone, or callers would meet a closed door.
    assert pause >= container["readinessProbe"]["timeoutSeconds"]


@pytest.mark.parametrize("name", PODS)
def test_our_variables_are_settings(name: str) -> None:
    [container] = PODS[name]["containers"]

    assert {variable["name"] for variable in container["env"]} <= {
        *(f"MANET_{setting.upper()}" for setting in Settings.model_fields),
    }


@pytest.mark.parametrize("name", PODS)
def test_the_keys_are_mounted_where_the_setting_says(name: str) -> None:
    [container] = PODS[name]["containers"]
    [path] = [v["value"] for v in container["env"] if v["name"] == "MANET_API_KEYS_FILE"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}

    assert str(Path(path).parent) in mounts


@pytest.mark.anyio
async def test_the_autoscaler_follows_a_gauge_that_the_service_has(exposed: dict[str, set[str]]) -> None:
    metrics = MANIFESTS["base/HorizontalPodAutoscaler"]["spec"]["metrics"]
    [gauge] = [metric["pods"]["metric"]["name"] for metric in metrics if metric["type"] == "Pods"]
    adapter = yaml.safe_load((FOLDER / "monitoring/prometheus-adapter.yaml").read_text())
    [rule] = adapter["rules"]["custom"]

    assert gauge in exposed
    assert rule["name"]["as"] == gauge
    assert rule["seriesQuery"].startswith(f"{gauge}{{")


@pytest.mark.parametrize(("name", "routes"), [("deployment", "/health"), ("kserve", "/v2/health")])
def test_the_probes_ask_what_they_should(name: str, routes: str) -> None:
    [container] = PODS[name]["containers"]
    asked = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}

    assert asked == {"startup": f"{routes}/ready", "readiness": f"{routes}/ready", "liveness": f"{routes}/live"}
