"""Configuration files as data, and the service's metrics by name."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import yaml
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "docker/grafana/dashboards/manet.json").read_text())
RULES = yaml.safe_load((ROOT / "docker/prometheus/alerts.yml").read_text())


class ComposeLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Reads YAML with the tags of Compose's merging; ``!override`` changes no content."""


def _overridden(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    return loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else None


ComposeLoader.add_constructor("!override", _overridden)


def compose(name: str) -> Any:
    """Return a Compose file's content."""
    return yaml.load((ROOT / name).read_text(), Loader=ComposeLoader)


def alerts() -> list[dict[str, Any]]:
    """Return the alert rules."""
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels that show something."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[str]:
    """Yield every PromQL expression of the dashboard and the alerts, without Grafana's own variables."""
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "1m")
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["expr"]
    for rule in alerts():
        yield rule["expr"]


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """Return what an expression selects.

    Raises:
        ValueError: if it is no PromQL.
    """
    found: list[promql_parser.VectorSelector] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        elif isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def samples(exposition: str) -> dict[str, set[str]]:
    """Return the names of the samples in a text of metrics, each with its labels' names."""
    names: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            names.setdefault(sample.name, set()).update(sample.labels)
    return names
