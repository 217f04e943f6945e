"""The operations page: its settings are the service's, its figures those of the result files."""

import json
import re
import runpy

import pytest
import yaml

from manet.vision.formats import BYTES_A_PIXEL
from service.ray_app import ClusterSettings
from testing.documents import Document
from tests.docker.configuration import ROOT, alerts, compose

PAGE = Document("docs/operations.md").text
SCRIPT = runpy.run_path(str(ROOT / "docs/settings_table.py"))
IMAGE = json.loads((ROOT / "bench/results/image.json").read_text())


def test_the_settings_are_those_of_the_service() -> None:
    assert SCRIPT["written"](PAGE) == PAGE, "run python docs/settings_table.py"
    for name in ClusterSettings.model_fields:
        assert re.search(rf"^- `MANET_{name.upper()}: .+ = .+`: .+\.$", PAGE, flags=re.MULTILINE)


def test_a_page_without_the_marks_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected"):
        SCRIPT["written"]("# Operations\n")


def test_every_variable_that_it_names_is_a_setting() -> None:
    known = {f"MANET_{name.upper()}" for name in ClusterSettings.model_fields}
    composes = set(re.findall(r"\$\{(MANET_\w+)", (ROOT / "docker-compose.yml").read_text()))

    assert set(re.findall(r"MANET_[A-Z_]+", PAGE)) <= known | composes


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_every_alert_is_explained_as_it_is(rule: dict[str, object]) -> None:
    labels, annotations = rule["labels"], rule["annotations"]
    assert isinstance(labels, dict)
    assert isinstance(annotations, dict)
    [row] = [line for line in PAGE.splitlines() if line.startswith(f"| `{rule['alert']}` ")]
    anchor = annotations["runbook"].partition("#")[2]

    assert f"| {labels['severity']} |" in row
    assert f"(#{anchor})" in row


def test_the_figures_of_the_image_are_those_of_the_result_file() -> None:
    sizes, base = IMAGE["megabytes"], "opt/manet"

    assert f"{sizes['all']:,.0f} MB unpacked" in PAGE
    for part in (sizes["all"] - sizes[base], sizes[base]):
        assert f"({part:.0f})" in PAGE
    assert f"{IMAGE['resident_mb']:.0f} MB resident" in PAGE
    assert f"{round(max(IMAGE['seconds_to_ready']))} s to ready" in PAGE
    assert f"{1000 * IMAGE['health_check_cpu_seconds']:.0f} ms of CPU" in PAGE
    assert f"built in {IMAGE['seconds_to_build']} s" in PAGE


def test_so_are_those_of_the_readme() -> None:
    text = Document("README.md").text

    assert f"an image of {IMAGE['megabytes']['all']:,.0f} MB" in text
    assert f"ready {round(max(IMAGE['seconds_to_ready']))} s after its start" in text
    assert f"takes {IMAGE['resident_mb']:.0f} MB of memory" in text


def test_the_figures_of_large_images_are_those_of_the_result_file() -> None:
    found = json.loads((ROOT / "bench/results/large_images.json").read_text())

    assert not found["killed"]
    assert f"{found['after_mb']['container_peak']:,.0f} MB at most" in PAGE
    assert f"{found['after_mb']['resident']:.0f} MB afterwards" in PAGE


def test_the_memory_limits_hold_what_the_page_adds_up() -> None:
    settings, cpus = ClusterSettings(), 2
    [under_load] = map(float, re.findall(r"under load up to (\d+) MB", PAGE))
    most = under_load * 1e6 + settings.max_bytes_in_flight + BYTES_A_PIXEL * settings.decoded_pixels_each
    pods = yaml.safe_load((ROOT / "docker/kubernetes/base/deployment.yaml").read_text())["spec"]["template"]["spec"]
    resources = compose("docker-compose.yml")["services"]["manet"]["deploy"]["resources"]

    assert IMAGE["resident_mb"] <= under_load <= settings.replica_memory / 1e6
    assert pods["containers"][0]["resources"] == {
        "requests": {"cpu": str(cpus), "memory": "1Gi"},
        "limits": {"cpu": str(cpus), "memory": "2Gi"},
    }
    assert resources["limits"]["memory"] == "${MANET_MEMORY:-2g}"
    assert resources["reservations"] == {"memory": "1g"}
    assert under_load * 1e6 < 2**30 < most < 2**31


def test_the_plan_for_a_million_images_is_that_of_the_result_file() -> None:
    a_billion = json.loads((ROOT / "bench/results/offline.json").read_text())["a_billion_images_in_core_hours"]

    assert f"Plan {a_billion / 1000:.0f} core-hours for a million images" in PAGE
