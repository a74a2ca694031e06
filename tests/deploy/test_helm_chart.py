"""deploy/helm/mirrord: linted, rendered in both shapes, valid, restricted, and installable from mirrord itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from mirrord.commands import Sync
from mirrord.config.load import load_folder
from mirrord.model.run import Result
from mirrord.serve.remote import ControlClient
from mirrord.syncer.port import load_syncers
from mirrord.testing import require
from mirrord.testing.chart_repository import ChartRepository
from tests.support.chartprograms import helm
from tests.support.commands import Desk

HELM = "helm4"
CHART = Path(__file__).parents[2] / "deploy" / "helm" / "mirrord"
PLAIN = CHART.parents[1] / "kubernetes"
NEWEST = kubernetes_validate.latest_version()
ONE: Mapping[str, Any] = {
    "config": {
        "40-mirrors.yaml": "mirrors:\n"
        "  - {name: crane, kind: helm, from: https://gocrane.github.io/helm-charts, to: local, every: 6h}\n"
    }
}
MANY: Mapping[str, Any] = {
    **ONE,
    "replicas": 3,
    "record": {"url": "postgresql://mirrord@db.example/mirrord", "password": {"env": "RECORD_PASSWORD"}},
    "blobs": "s3://mirrord/production",
    "secrets": {"RECORD_PASSWORD": {"secret": "mirrord", "key": "record"}},
    "ingress": {"enabled": True, "host": "mirror.example", "tlsSecret": "mirror-tls"},
    "serviceMonitor": {"enabled": True},
    "webhook": {"enabled": True, "tlsSecret": "mirrord-webhook", "caBundle": "QQ=="},
    "tokensSecret": "mirrord-tokens",
    "networkPolicy": {"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}]},
}
SHAPES = pytest.mark.parametrize("values", [ONE, MANY], ids=["one", "many"])


async def run_helm(*words: str | Path, program: str = HELM) -> str:
    """Run helm in a home of its own, and return what it printed."""
    require(program)
    async with helm(program) as call:
        ran = await call(*words)
    assert ran.status == 0, ran.output
    return ran.output


async def render(folder: Path, values: Mapping[str, Any], chart: str | Path = CHART) -> list[dict[str, Any]]:
    (folder / "values.yaml").write_text(yaml.safe_dump(dict(values)))
    words = ("template", "mirrord", chart, "-f", folder / "values.yaml", "-n", "tools", "--kube-version", NEWEST)
    return [one for one in yaml.safe_load_all(await run_helm(*words)) if one]


def of(kind: str, documents: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the first document of a kind."""
    return next(one for one in documents if one["kind"] == kind)


def environment(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the variables of the one container."""
    [container] = of("StatefulSet", documents)["spec"]["template"]["spec"]["containers"]
    found: list[dict[str, Any]] = container["env"]
    return found


@pytest.mark.parametrize("program", ["helm3", HELM])
async def test_lint(program: str) -> None:
    """Both versions of helm have no objection."""
    await run_helm("lint", "--strict", CHART, program=program)


@SHAPES
async def test_schema(tmp_path: Path, values: Mapping[str, Any]) -> None:
    """Every object has the fields of its kind and no others; selectors and ports meet."""
    documents = await render(tmp_path, values)
    for document in documents:
        if not document["apiVersion"].startswith("monitoring.coreos.com/"):
            kubernetes_validate.validate(document, NEWEST, strict=True)
    template = of("StatefulSet", documents)["spec"]["template"]
    labels = template["metadata"]["labels"]
    ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    for service in (one for one in documents if one["kind"] == "Service"):
        assert service["spec"]["selector"].items() <= labels.items()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    assert of("StatefulSet", documents)["spec"]["serviceName"] in {
        one["metadata"]["name"] for one in documents if one["kind"] == "Service"
    }
    more = {"Ingress", "PodDisruptionBudget", "ServiceMonitor", "MutatingWebhookConfiguration"}
    assert more & {one["kind"] for one in documents} == (more if values["config"] and "replicas" in values else set())


@SHAPES
async def test_pods_are_those_of_the_plain_manifests(tmp_path: Path, values: Mapping[str, Any]) -> None:
    """Probes, security and the time to stop are the same as in deploy/kubernetes, whose reasons its tests say."""
    pod = of("StatefulSet", await render(tmp_path, values))["spec"]["template"]["spec"]
    plain = yaml.safe_load((PLAIN / "deployment.yaml").read_text())["spec"]["template"]["spec"]
    for key in ("securityContext", "terminationGracePeriodSeconds", "enableServiceLinks"):
        assert pod[key] == plain[key]
    [container], [expected] = pod["containers"], plain["containers"]
    for key in ("args", "startupProbe", "livenessProbe", "readinessProbe", "securityContext", "resources"):
        assert container[key] == expected[key]


async def test_webhook_is_that_of_the_plain_manifests(tmp_path: Path) -> None:
    """Rules, conditions and what happens while it is away are the same as in deploy/kubernetes/webhook."""
    [webhook] = of("MutatingWebhookConfiguration", await render(tmp_path, MANY))["webhooks"]
    [plain] = yaml.safe_load((PLAIN / "webhook" / "mutatingwebhookconfiguration.yaml").read_text())["webhooks"]
    left = ("clientConfig", "namespaceSelector")
    assert {key: one for key, one in webhook.items() if key not in left} == {
        key: one for key, one in plain.items() if key not in left
    }
    [names, _] = webhook["namespaceSelector"]["matchExpressions"]
    assert set(names["values"]) == {"tools", "kube-system", "kube-node-lease"}


@SHAPES
async def test_configuration_loads(tmp_path: Path, values: Mapping[str, Any]) -> None:
    """What the ConfigMap has is a configuration; with several replicas it names what they share."""
    documents = await render(tmp_path, {**values, "webhook": {"enabled": False}})
    config = of("ConfigMap", documents)["data"]
    folder = tmp_path / "conf.d"
    folder.mkdir()
    for name, text in config.items():
        (folder / name).write_text(text)
    environ = {entry["name"]: entry.get("value", "secret") for entry in environment(documents)}
    configuration = load_folder(folder, load_syncers(), environ)
    assert (configuration.record is not None, configuration.settings.blobs is not None) == ("replicas" in values,) * 2
    assert [mirror.name for mirror in configuration.mirrors] == ["crane"]
    [container] = of("StatefulSet", documents)["spec"]["template"]["spec"]["containers"]
    mounted = {one["mountPath"] for one in container["volumeMounts"] if one["name"] == "tokens"}
    assert mounted == {configuration.settings.tokens} - {None}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replicas": 2}, "replicas: more than one need `record`"),
        ({"replicas": 2, "record": "postgresql://db/m"}, "replicas: more than one need `record`"),
        ({**MANY, "webhook": {"enabled": True}}, "webhook.tlsSecret: more than one replica need one certificate"),
        ({"ingress": {"enabled": True}}, "ingress.host: the name"),
    ],
)
async def test_what_cannot_work_is_refused(tmp_path: Path, values: Mapping[str, Any], said: str) -> None:
    """A shape that would lose something is no release, and says what is missing."""
    require(HELM)
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(dict(values)))
    words = ("template", "mirrord", CHART, "-f", tmp_path / "values.yaml", "--kube-version", NEWEST)
    async with helm(HELM) as call:
        ran = await call(*words)
    assert ran.status
    assert said in ran.output


async def test_from_the_mirror(tmp_path: Path) -> None:
    """The chart is mirrored by what it installs, and helm renders from the mirror what it renders from the folder."""
    charts = tmp_path / "charts"
    await run_helm("package", CHART, "-d", charts)
    await run_helm("repo", "index", charts)
    desk, words = Desk(tmp_path), ("template", "mirrord", "-n", "tools", "--kube-version", NEWEST)
    async with ChartRepository() as source:
        source.files = {file.name: file.read_bytes() for file in charts.iterdir()}
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\nmirrors:\n"
            f"  - {{name: own, kind: helm, from: '{source.url}', to: local}}\n"
        )
        async with desk.serving() as daemon:
            [ran] = await ControlClient(desk.folder / "state").carry_out(Sync())
            assert ran.result is Result.SUCCESS
            url = f"http://{daemon.address}/helm/own"
            served = await run_helm(*words, "mirrord", "--repo", url)
    assert served == await run_helm(*words, CHART)
