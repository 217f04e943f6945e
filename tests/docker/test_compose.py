"""Compose: both files against the specification's schema, and the promises that the schema cannot know."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from tests.docker.configuration import ROOT, compose

BASE, PUBLIC = compose("docker-compose.yml"), compose("docker/compose.public.yml")
SERVICES: dict[str, dict[str, Any]] = BASE["services"]
OURS = ("manet", "gpu")


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker/compose.public.yml"])
def test_the_specifications_schema_takes_it(name: str, tmp_path: Path) -> None:
    document = tmp_path / "compose.json"
    document.write_text(json.dumps(compose(name)))  # the checker does not know Compose's tags
    tool = Path(sys.executable).with_name("check-jsonschema")
    command: list[str | Path] = [tool, "--builtin-schema", "vendor.compose-spec", document]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_one_word_starts_the_service_and_nothing_else() -> None:
    assert [name for name, service in SERVICES.items() if "profiles" not in service] == ["manet"]
    assert SERVICES["manet"]["ports"] == ["127.0.0.1:${MANET_PUBLISHED_PORT:-8000}:8000"]
    assert {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service} == {
        "gpu": ["gpu"],
        "prometheus": ["monitoring"],
        "grafana": ["monitoring"],
    }


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened_bounded_and_watched(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    for needed in service.get("depends_on", {}).values():
        assert needed == {"condition": "service_healthy"}


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_names_is_there(name: str) -> None:
    service = SERVICES[name]

    assert set(service["networks"]) <= set(BASE["networks"])
    assert set(service.get("secrets", [])) <= set(BASE["secrets"])
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert (ROOT / source).exists() if source.startswith("./") else source in BASE["volumes"]
    if "build" in service:
        assert f"FROM runtime AS {service['build']['target']}" in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("name", OURS)
def test_our_variables_are_settings(name: str) -> None:
    environment = {**SERVICES[name]["environment"], **PUBLIC["services"][name]["environment"]}
    known = {f"MANET_{setting.upper()}" for setting in Settings.model_fields}

    assert {variable for variable in environment if variable.startswith("MANET_")} <= known


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_killed_only_after_it_had_time_to_drain(name: str) -> None:
    grace = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    shutdown = int(SERVICES[name]["environment"]["MANET_SHUTDOWN_TIMEOUT"])

    assert grace >= shutdown + Settings().deadline


@pytest.mark.parametrize("name", OURS)
def test_a_service_for_other_machines_needs_keys(name: str) -> None:
    opened = PUBLIC["services"][name]
    [port] = opened["ports"]

    assert not port.startswith("127.0.0.1")
    assert opened["environment"]["MANET_API_KEYS_FILE"] == f"/run/secrets/{opened['secrets'][0]}"
    assert opened["environment"]["MANET_ALLOW_ANONYMOUS"] == "false"
    assert set(opened["secrets"]) <= set(PUBLIC["secrets"])
    assert "ports: !override" in (ROOT / "docker/compose.public.yml").read_text()


def test_prometheus_has_a_key_where_the_service_asks_for_one() -> None:
    opened = PUBLIC["services"]["prometheus"]
    base, public = (compose(f"docker/prometheus/{name}.yml") for name in ("prometheus", "prometheus.public"))
    [job] = public["scrape_configs"]

    assert opened["command"][0] == "--config.file=/etc/prometheus/prometheus.public.yml"
    assert opened["command"][1:] == SERVICES["prometheus"]["command"][1:]
    assert job.pop("authorization")["credentials_file"] == f"/run/secrets/{opened['secrets'][0]}"
    assert public == base


def test_secrets_come_from_files_that_git_does_not_keep() -> None:
    for document in (BASE, PUBLIC):
        for secret in document["secrets"].values():
            assert re.fullmatch(r"\$\{\w+:-\./docker/secrets/\w+\}", secret["file"])
