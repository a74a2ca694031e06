"""deploy/kubernetes/webhook: valid, consistent with the program and the other manifests, and it keeps no Pod out."""

from __future__ import annotations

import asyncio
import json
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
from mirrord.testing import require
from tests.support.judges import admission_judge
from tests.support.pods import pod, review

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


def _in(namespace: str, target: dict[str, Any], **request: Any) -> dict[str, Any]:
    return review(target, namespace=namespace, **request)


UPDATED = {"operation": "UPDATE", "oldObject": pod("nginx")}
ASKED: list[tuple[bool, dict[str, Any]]] = [
    (True, _in("shop", pod("nginx"))),
    (True, _in("shop", pod("nginx", annotations={}))),
    (True, _in("shop", pod("nginx", annotations={MARK: "no", "a/b": IGNORE}, labels={MARK: "no"}))),
    (True, _in("shop", pod("nginx"), subResource="ephemeralcontainers", **UPDATED)),
    (False, _in("shop", pod("nginx"), **UPDATED)),
    (False, _in("shop", pod("nginx"), subResource="resize", **UPDATED)),
    (False, _in("shop", pod("nginx"), operation="DELETE")),
    (False, _in("shop", pod("nginx"), resource={"group": "", "version": "v1", "resource": "podtemplates"})),
    (False, _in("shop", pod("nginx", annotations={MARK: IGNORE}))),
    (False, _in("shop", pod("nginx", labels={MARK: IGNORE}))),
    (False, _in("shop", pod("nginx", annotations={MARK: IGNORE}), subResource="ephemeralcontainers", **UPDATED)),
    (False, _in("shop", pod("nginx", annotations={"kubernetes.io/config.mirror": "hash"}))),
    *((False, _in(name, pod("nginx"))) for name in ("mirrord", "kube-system", "kube-node-lease", "quiet")),
]


async def judged(hook: dict[str, Any], folder: Path) -> list[str]:
    """Let the selectors, rules and conditions of an API server say of each review whether it asks."""
    require(admission_judge())
    file = folder / "hook.json"
    file.write_text(json.dumps({"metadata": {"name": "x"}, "webhooks": [hook]}))
    labels: dict[str, dict[str, str]] = {"mirrord": {}, "kube-system": {}, "kube-node-lease": {}}
    labels |= {"quiet": {MARK: IGNORE}, "shop": {MARK: "no"}}
    namespaces = [
        {"kind": "Namespace", "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name, **more}}}
        for name, more in labels.items()
    ]
    reviews = ({**one, "request": {**one["request"], "options": None}} for _, one in ASKED)
    text = "".join(f"{json.dumps(one)}\n" for one in (*namespaces, *reviews))
    process = await asyncio.create_subprocess_exec(
        *(admission_judge(), "match", file), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(text.encode())
    assert process.returncode == 0
    return out.decode().splitlines()


async def test_which_pods_the_api_server_asks_about(tmp_path: Path) -> None:
    """Its own code reads the selectors and evaluates the conditions, which are no error for any Pod."""
    assert await judged(HOOK, tmp_path) == [str(asked).lower() for asked, _ in ASKED]


@pytest.mark.parametrize("expression", ["has(object.metadata.name) ||", "object.metadata.anotations == null"])
async def test_conditions_that_are_wrong(expression: str, tmp_path: Path) -> None:
    """The judge says so, whether it is seen at once or with a Pod: a mistake in one of ours would not be hidden."""
    told = await judged({**HOOK, "matchConditions": [{"name": "wrong", "expression": expression}]}, tmp_path)
    assert [line for line in told if line not in ("true", "false")]
