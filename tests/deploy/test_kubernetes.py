"""The Kubernetes manifests: valid, restricted, consistent among themselves and with the program."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import kubernetes_validate
import pytest
import yaml

from mirrord.config.load import load_folder
from mirrord.serve.status import StatusPages, View
from mirrord.syncer.port import load_syncers

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
VERSIONS = ("1.30", kubernetes_validate.latest_version())


def _load(name: str) -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load((FOLDER / name).read_text()))


POD = _load("deployment.yaml")["spec"]["template"]["spec"]
[CONTAINER] = POD["containers"]
MOUNTS = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
VOLUMES = {volume["name"]: volume for volume in POD["volumes"]}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_schema(path: Path, version: str) -> None:
    """Every manifest is valid, with no field that the API server would drop."""
    [document] = yaml.safe_load_all(path.read_text())
    kubernetes_validate.validate(document, version, strict=True)


def test_kustomization_names_every_file() -> None:
    """`kubectl apply -k` takes all files, and renames the image that the Deployment uses."""
    kustomization = _load("kustomization.yaml")
    assert set(kustomization) == {"apiVersion", "kind", "resources", "images"}
    assert sorted(kustomization["resources"]) == [path.name for path in FILES]
    assert [image["name"] for image in kustomization["images"]] == [CONTAINER["image"]]


def test_probes_meet_routes() -> None:
    """Each probe asks a route that the program has, at the port where it listens, on the Pod's address."""
    view = cast("View", SimpleNamespace(edition=int, metrics=bytes))  # routes are only listed
    routes = set(StatusPages(view).pages())
    probes = {name: CONTAINER[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert [probe["path"] for probe in probes.values()] == ["/startupz", "/livez", "/readyz"]
    assert {probe["path"] for probe in probes.values()} <= routes
    [port] = CONTAINER["ports"]
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    environment = {entry["name"]: entry.get("value") for entry in CONTAINER["env"]}
    assert environment["MIRRORD_LISTEN"] == f"0.0.0.0:{port['containerPort']}"
    assert all("host" not in probe for probe in probes.values())


def test_service_meets_pod() -> None:
    """The Service and the scrape annotations point to the Pod's one port."""
    service, deployment = _load("service.yaml"), _load("deployment.yaml")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    assert [port["targetPort"] for port in service["spec"]["ports"]] == [CONTAINER["ports"][0]["name"]]
    assert deployment["template"]["metadata"]["annotations"]["prometheus.io/port"] == "8080"


def test_one_owner_of_the_state() -> None:
    """One replica, replaced rather than rolled, with its state on the claim."""
    deployment = _load("deployment.yaml")["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert VOLUMES["state"]["persistentVolumeClaim"]["claimName"] == _load("volumeclaim.yaml")["metadata"]["name"]
    assert CONTAINER["args"][-2:] == ["--state", MOUNTS["state"]["mountPath"]]


def test_restricted() -> None:
    """The Pod keeps to the `restricted` Pod Security Standard, and its root file system is read-only."""
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["runAsUser"] == 65532
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {next(iter(volume.keys() - {"name"})) for volume in VOLUMES.values()} <= {
        "configMap",
        "emptyDir",
        "persistentVolumeClaim",
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & POD.keys()
    assert (POD["automountServiceAccountToken"], POD["enableServiceLinks"]) == (False, False)
    assert CONTAINER["resources"]["requests"].keys() == {"cpu", "memory"}


def test_configuration_loads(tmp_path: Path) -> None:
    """The ConfigMap, mounted as Kubernetes does it (links through `..data`), is a configuration without a problem."""
    config = _load("configmap.yaml")
    assert config["metadata"]["name"] == VOLUMES["conf"]["configMap"]["name"]
    assert MOUNTS["conf"]["mountPath"] in CONTAINER["args"]
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..data").symlink_to("..2026")
    for name, text in config["data"].items():
        (tmp_path / "..2026" / name).write_text(text)
        (tmp_path / name).symlink_to(f"..data/{name}")
    environ = {entry["name"]: entry.get("value", "from-the-secret") for entry in CONTAINER["env"]}
    configuration = load_folder(tmp_path, load_syncers(), environ)
    assert [mirror.name for mirror in configuration.mirrors] == ["craned"]
    assert len(configuration.files) == len(config["data"])
    assert configuration.settings.listen == environ["MIRRORD_LISTEN"]


def test_every_secret_is_used() -> None:
    """Each variable from the Secret is read by the configuration, and the other way round."""
    from_secret = {entry["name"] for entry in CONTAINER["env"] if "valueFrom" in entry}
    text = "".join(_load("configmap.yaml")["data"].values())
    assert from_secret == {name for name in from_secret if f"{{env: {name}}}" in text}
    assert text.count("{env: ") == len(from_secret)


def test_spool_fits_the_volume() -> None:
    """The budget of the spool leaves most of the claim to what is kept."""
    settings = yaml.safe_load(_load("configmap.yaml")["data"]["10-settings.yaml"])["settings"]
    claim = _load("volumeclaim.yaml")["spec"]["resources"]["requests"]["storage"]
    assert int(settings["spool"]["budget"].removesuffix("GiB")) * 2 < int(claim.removesuffix("Gi"))
