"""Monitoring: Prometheus's and Grafana's configuration, by their own tools and against the service's own metrics."""

import re
import shutil
import subprocess

import promql_parser
import pytest

from service.admission import REASONS
from service.settings import Settings
from testing.documents import Document
from tests.docker.configuration import DASHBOARD, ROOT, alerts, compose, expressions, panels, selectors

OPERATIONS = Document("docs/operations.md")
OWN_LABELS = {"job", "instance"}
"""What Prometheus itself adds to each series."""

pytestmark = pytest.mark.anyio


def _promtool(*arguments: str) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed here (Debian: apt-get install prometheus)")
    done = subprocess.run([tool, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["prometheus", "prometheus.public"])
def test_promtool_takes_the_configuration_and_the_rules(name: str) -> None:
    _promtool("check", "config", "--syntax-only", f"docker/prometheus/{name}.yml")
    _promtool("check", "rules", "docker/prometheus/alerts.yml")


def test_each_alert_is_silent_on_health_and_speaks_on_its_own_trouble() -> None:
    _promtool("test", "rules", "docker/prometheus/alerts_test.yml")


def test_every_alert_has_such_a_test() -> None:
    tested = (ROOT / "docker/prometheus/alerts_test.yml").read_text()

    for rule in alerts():
        assert re.search(rf"alertname: {rule['alert']}\n +exp_alerts:", tested), rule["alert"]


async def test_every_expression_asks_for_a_metric_that_the_service_has(exposed: dict[str, set[str]]) -> None:
    for expression in expressions():
        for selector in selectors(expression):
            if selector.name == "up":
                continue
            assert selector.name in exposed, expression
            asked = {matcher.name for matcher in selector.matchers.matchers}
            assert asked <= exposed[selector.name] | OWN_LABELS, expression
            assert "job" in asked, expression


def test_latency_batches_queue_and_refusals_are_on_the_dashboard() -> None:
    shown = {selector.name for expression in expressions() for selector in selectors(expression)}

    assert shown >= {
        "manet_request_seconds_bucket",
        "manet_queue_seconds_bucket",
        "manet_batch_seconds_bucket",
        "manet_batch_size_bucket",
        "manet_queue_depth",
        "manet_shed_total",
    }


async def test_every_metric_of_the_service_is_explained(exposed: dict[str, set[str]]) -> None:
    known = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in exposed}
    explained = set(re.findall(r"^\| `(manet_\w+)` ", OPERATIONS.text, flags=re.MULTILINE))

    assert {name for name in known if name not in explained and f"{name}_total" not in explained} == set()


def test_the_reasons_requested_are_reasons() -> None:
    for expression in expressions():
        for selector in selectors(expression):
            for matcher in selector.matchers.matchers:
                if matcher.name == "reason":
                    assert set(matcher.value.split("|")) <= set(REASONS)


def test_thresholds_belong_to_the_default_settings() -> None:
    limits = {
        rule["alert"]: float(re.findall(r"> ([\d.]+)\s*$", rule["expr"])[0]) for rule in alerts() if ">" in rule["expr"]
    }

    assert limits["ManetSlow"] == Settings().deadline / 2
    assert limits["ManetQueueLong"] == Settings().max_queued_faces / 2


def test_every_alert_says_how_urgent_it_is_and_where_to_read_on() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert page == OPERATIONS.path
        assert anchor in OPERATIONS.anchors
        assert f"`{rule['alert']}`" in OPERATIONS.text


def test_every_panel_says_what_it_shows_and_in_which_unit() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels():
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in {"short", "s", "reqps", "ops", "percentunit"}
        assert panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_what_the_dashboard_names_is_defined_in_it() -> None:
    defined = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", " ".join(target["expr"] for panel in panels() for target in panel["targets"])))

    assert used - {"__rate_interval"} <= defined


def test_grafana_finds_its_data_source_and_its_dashboard() -> None:
    [source] = compose("docker/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    [provider] = compose("docker/grafana/provisioning/dashboards/manet.yml")["providers"]
    services = compose("docker-compose.yml")["services"]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert source["url"] == "http://prometheus:9090"
    [chosen] = [v["current"]["value"] for v in DASHBOARD["templating"]["list"] if v["type"] == "datasource"]
    assert chosen == source["uid"]
    assert mounts["./docker/grafana/dashboards"] == provider["options"]["path"]
    assert home == f"{provider['options']['path']}/manet.json"


def test_prometheus_asks_the_services_that_compose_starts() -> None:
    [job] = compose("docker/prometheus/prometheus.yml")["scrape_configs"]
    services = compose("docker-compose.yml")["services"]

    assert job["job_name"] == "manet"
    [discovery] = job["dns_sd_configs"]
    for name in discovery["names"]:
        assert set(services[name]["networks"]) & set(services["prometheus"]["networks"])
    assert discovery["port"] == Settings().port


def test_the_expressions_are_promql() -> None:
    assert len([promql_parser.parse(expression) for expression in expressions()]) > 20
