"""deploy/kubernetes/monitoring: alerts and dashboard as objects of a cluster, with fields that the kinds have."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import kubernetes_validate
import pytest
import yaml

from mirrord.testing import require
from mirrord.testing.running import run
from tests.support.alerts import groups, prometheus_rule

DEPLOY = Path(__file__).parents[2] / "deploy"
FOLDER = DEPLOY / "kubernetes" / "monitoring"
# Fields of monitoring.coreos.com/v1 that we use; the kinds are no part of Kubernetes' own schema.
GROUP, RULE = {"name", "rules"}, {"alert", "expr", "for", "labels", "annotations"}
MONITOR, ENDPOINT = {"selector", "endpoints"}, {"port", "path", "interval", "scrapeTimeout"}


def load(path: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load(path.read_text()))


async def test_rules_are_the_same(tmp_path: Path) -> None:
    """The PrometheusRule has the groups of deploy/prometheus and nothing else; promtool takes its `spec`."""
    rule = load(FOLDER / "prometheusrule.yaml")
    assert (FOLDER / "prometheusrule.yaml").read_text() == prometheus_rule()
    assert (rule["apiVersion"], rule["kind"], set(rule["spec"])) == (
        "monitoring.coreos.com/v1",
        "PrometheusRule",
        {"groups"},
    )
    assert rule["spec"]["groups"] == groups()
    assert all(set(group) <= GROUP and set(one) <= RULE for group in groups() for one in group["rules"])
    require("promtool")
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(rule["spec"]))
    ran = await run("promtool", "check", "rules", tmp_path / "spec.yaml")
    assert ran.status == 0, ran.output


def test_monitor_meets_the_service() -> None:
    """The ServiceMonitor selects the Service by its labels, and scrapes a port that it has."""
    monitor, service = load(FOLDER / "servicemonitor.yaml"), load(DEPLOY / "kubernetes" / "service.yaml")
    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "ServiceMonitor")
    assert set(monitor["spec"]) == MONITOR
    [endpoint] = monitor["spec"]["endpoints"]
    assert set(endpoint) <= ENDPOINT
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    assert endpoint["path"] == "/metrics"


def test_component() -> None:
    """The component names every file beside it and the folder of the dashboard, and adds the sidecar's label."""
    component, dashboard = load(FOLDER / "kustomization.yaml"), load(DEPLOY / "grafana" / "kustomization.yaml")
    assert (component["apiVersion"], component["kind"]) == ("kustomize.config.k8s.io/v1alpha1", "Component")
    own = sorted(path.name for path in FOLDER.iterdir() if path.name != "kustomization.yaml")
    assert sorted(component["resources"]) == sorted([*own, "../../grafana"])
    assert (FOLDER / "../../grafana").resolve() == DEPLOY / "grafana"
    [made] = dashboard["configMapGenerator"]
    assert made["files"] == ["mirrord.json"]
    assert dashboard["generatorOptions"]["labels"]["grafana_dashboard"] == "1"


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
def test_the_config_map_fits(version: str) -> None:
    """The ConfigMap that kustomize makes is valid, and below the megabyte that one may have."""
    text = (DEPLOY / "grafana" / "mirrord.json").read_text()
    metadata = {
        "name": "mirrord-dashboard",
        "labels": load(DEPLOY / "grafana/kustomization.yaml")["generatorOptions"]["labels"],
    }
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"mirrord.json": text}}
    kubernetes_validate.validate(document, version, strict=True)
    assert len(text.encode()) < 1 << 20
