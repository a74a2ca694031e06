"""deploy/kubernetes/webhook: valid, consistent with the program and the other manifests, and it keeps no Pod out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import kubernetes_validate
import pytest
import yaml

from mirrord.config.load import load_folder
from mirrord.pointing.admission.review import IGNORE, MARK
from mirrord.pointing.places import Places
from mirrord.serve.webhook import PATH
from mirrord.syncer.port import load_syncers

DEPLOY = Path(__file__).parents[2] / "deploy" / "kubernetes"
FOLDER = DEPLOY / "webhook"
OBJECTS = ("mutatingwebhookconfiguration.yaml", "networkpolicy.yaml", "service.yaml")
PATCHES = ("configuration.yaml", "deployment.yaml")


def load(path: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load(path.read_text()))


[HOOK] = load(FOLDER / "mutatingwebhookconfiguration.yaml")["webhooks"]


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("name", OBJECTS)
def test_schema(name: str, version: str) -> None:
    """Every object is valid, with no field that the API server would drop."""
    kubernetes_validate.validate(load(FOLDER / name), version, strict=True)


def test_component() -> None:
    """The component names every file, and its patches meet an object beside it."""
    component = load(FOLDER / "kustomization.yaml")
    assert (component["resources"], component["patches"]) == ([*OBJECTS], [{"path": name} for name in PATCHES])
    assert {path.name for path in FOLDER.iterdir()} == {*OBJECTS, *PATCHES, "kustomization.yaml"}
    for patch, name in (("configuration.yaml", "configmap.yaml"), ("deployment.yaml", "deployment.yaml")):
        ours, theirs = load(FOLDER / patch), load(DEPLOY / name)
        assert (ours["kind"], ours["apiVersion"]) == (theirs["kind"], theirs["apiVersion"])
        assert ours["metadata"]["name"] == theirs["metadata"]["name"]


def test_a_pod_is_never_kept_out() -> None:
    """Failures are ignored, soon, and mirrord's own namespace is not asked about (bad input 79)."""
    assert (HOOK["failurePolicy"], HOOK["sideEffects"], HOOK["reinvocationPolicy"]) == ("Ignore", "None", "IfNeeded")
    assert HOOK["timeoutSeconds"] <= 5
    namespaces, label = HOOK["namespaceSelector"]["matchExpressions"]
    assert namespaces["operator"] == "NotIn"
    assert {HOOK["clientConfig"]["service"]["namespace"], "kube-system"} <= {*namespaces["values"]}
    assert label == {"key": MARK, "operator": "NotIn", "values": [IGNORE]}
    assert HOOK["objectSelector"]["matchExpressions"] == [label]
    assert [(rule["operations"], rule["resources"]) for rule in HOOK["rules"]] == [
        (["CREATE"], ["pods"]),
        (["UPDATE"], ["pods/ephemeralcontainers"]),
    ]


def test_the_api_server_finds_it(tmp_path: Path) -> None:
    """Path, Service, port and the name in the certificate are those of the program with this configuration."""
    data = {**load(DEPLOY / "configmap.yaml")["data"], **load(FOLDER / "configuration.yaml")["data"]}
    for name, text in data.items():
        (tmp_path / name).write_text(text)
    read = load_folder(tmp_path, load_syncers(), {"DOCKERHUB_TOKEN": "x", "CODING_TOKEN": "x"})
    assert Places(read).to == ("coding",)
    assert read.webhook is not None
    called, service = HOOK["clientConfig"]["service"], load(FOLDER / "service.yaml")
    assert read.webhook.names == (f"{called['name']}.{called['namespace']}.svc",)
    assert (called["name"], called["path"]) == (service["metadata"]["name"], PATH)
    [port], [container] = (
        service["spec"]["ports"],
        load(FOLDER / "deployment.yaml")["spec"]["template"]["spec"]["containers"],
    )
    assert (port["port"], port["targetPort"]) == (called["port"], container["ports"][0]["name"])
    assert read.webhook.listen == f"0.0.0.0:{container['ports'][0]['containerPort']}"
    [theirs] = load(DEPLOY / "deployment.yaml")["spec"]["template"]["spec"]["containers"]
    assert container["name"] == theirs["name"]
    assert container["ports"][0]["name"] not in [one["name"] for one in theirs["ports"]]
    [rule] = load(FOLDER / "networkpolicy.yaml")["spec"]["ingress"]
    assert [one["port"] for one in rule["ports"]] == [port["targetPort"]]
