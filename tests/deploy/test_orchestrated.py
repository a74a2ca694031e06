"""The image run as the files for Kubernetes say: their command, user, environment, mounts and probes; Compose read."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from mirrord.config.load import load_folder
from mirrord.daemon.main import LONGEST_STOP
from mirrord.syncer.port import load_syncers
from mirrord.testing import Registry, build_image, push
from mirrord.testing.ports import free_port
from mirrord.testing.running import run
from mirrord.testing.servers import require
from tests.support.container import ContainerImage

pytestmark = pytest.mark.timeout(900)  # the first build gets its base
DEPLOY = Path(__file__).parents[2] / "deploy"


def manifest(name: str) -> Any:
    return yaml.safe_load((DEPLOY / "kubernetes" / name).read_text())


def config_map(folder: Path, files: Mapping[str, str], name: str = "..first") -> Path:
    """Write a ConfigMap as Kubernetes mounts it, and as it replaces the one before it when `name` is another one."""
    (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    for file, text in files.items():
        (folder / name / file).write_text(text)
        if not (folder / file).is_symlink():
            (folder / file).symlink_to(f"..data/{file}")
    (folder / "..new").symlink_to(name)
    (folder / "..new").rename(folder / "..data")
    return folder


def claim(folder: Path, group: int) -> Path:
    """Make a volume as `fsGroup` leaves it: root's, and the group may write."""
    folder.mkdir()
    os.chown(folder, 0, group)
    folder.chmod(0o2775)
    return folder


def pod(folder: Path, files: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the container of the Deployment, and how it is run with these files as its ConfigMap."""
    spec = manifest("deployment.yaml")["spec"]["template"]["spec"]
    [container], security = spec["containers"], spec["securityContext"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    binds, read_only, tmpfs = dict[str, Path](), dict[str, Path](), list[str]()
    for mount in container["volumeMounts"]:
        place, volume = mount["mountPath"], volumes[mount["name"]]
        if "configMap" in volume:
            read_only[place] = config_map(folder / "conf", files)
        elif "persistentVolumeClaim" in volume:
            binds[place] = claim(folder / "state", security["fsGroup"])
        else:
            assert "emptyDir" in volume
            tmpfs.append(place)
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert spec["terminationGracePeriodSeconds"] > LONGEST_STOP
    env = {entry["name"]: entry.get("value", "from-the-secret") for entry in container["env"]}
    user = f"{security['runAsUser']}:{security['runAsGroup']}"
    return container, {"user": user, "env": env, "binds": binds, "read_only": read_only, "tmpfs": tmpfs}


async def test_the_pod_runs(image: ContainerImage, tmp_path: Path) -> None:
    """With no registry in reach the Pod starts, all of its probes succeed, and it ends in time when it is told to."""
    container, options = pod(tmp_path, manifest("configmap.yaml")["data"])
    [port] = [entry["containerPort"] for entry in container["ports"] if entry["name"] == "http"]
    async with image.running(container["args"], network=False, **options) as running:
        await running.logged('"event": "run.finished"')
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = container[name]
            assert probe["httpGet"]["port"] == "http"
            assert await running.get(probe["httpGet"]["path"], port, seconds=probe.get("timeoutSeconds", 1) + 5) == 200
        told = await running.run("mirrord", "status", seconds=60)  # as with `kubectl exec`
        assert told.status == 1
        assert "craned: registry-1.docker.io: the name cannot be resolved" in told.output
        assert await running.stop() == 0
    assert "from-the-secret" not in running.output


async def test_the_pod_has_a_front(image: ContainerImage, tmp_path: Path) -> None:
    """The cache is on the claim, clients are those whom the listed proxy names, a list comes from the ConfigMap."""
    port = free_port()
    async with Registry() as upstream:
        built = build_image(["linux/amd64"])
        for name in ("app", "late"):
            await push(built, upstream, f"team/{name}", ["v1"])
        names, host = f"names: {{aliases: {{up.example: '{upstream.host}'}}}}", upstream.host
        allow, limits = "allow: /etc/mirrord/conf.d/allows.txt", "limits: {pulls_a_minute: 1}"
        front = f"settings: {{proxies: [127.0.0.2]}}\n{names}\nmirrors: []\n"
        front += f"front: {{image: {{upstreams: ['{host}'], {allow}, {limits}}}}}\n"
        files = {"10-front.yaml": front, "allows.txt": f"{host}/team/app\n"}
        container, options = pod(tmp_path, files)
        options["env"]["MIRRORD_LISTEN"] = f"0.0.0.0:{port}"  # the network is that of this machine

        async def ask(name: str, client: str, through: str = "127.0.0.2") -> str:
            url = f"http://127.0.0.1:{port}/v2/up.example/team/{name}/manifests/v1"
            words = ("--interface", through, "--header", f"X-Forwarded-For: {client}", "--write-out", "%{http_code}")
            return (await run("curl", "--silent", "--output", "/dev/null", *words, url)).output

        async with image.running(container["args"], **options) as running:
            await running.logged('"event": "daemon.ready"')
            assert [await ask("app", f"203.0.113.{number}") for number in (1, 2)] == ["200", "200"]
            assert await ask("late", "203.0.113.1") == "403"
            config_map(tmp_path / "conf", files | {"allows.txt": f"{host}/team/*\n"}, "..second")
            async with asyncio.timeout(30):
                while await ask("late", "203.0.113.3") == "403":  # noqa: ASYNC110 - nothing else says when
                    await asyncio.sleep(0.2)
            assert await ask("late", "203.0.113.1") == "429"
            assert [await ask(name, "203.0.113.4", "127.0.0.1") for name in ("app", "late")] == ["200", "429"]
            assert await ask("late", "203.0.113.5", "127.0.0.1") == "429"  # not listed: its own address counts
            assert await running.stop() == 0
    digest = built.digest.partition(":")[2]
    assert (tmp_path / "state/cache/image/blobs/sha256" / digest[:2] / digest).read_bytes() == built.body


def test_busy_is_not_dead() -> None:
    """The liveness probe gives up after two minutes; the event loop counts as hanging after 30 seconds."""
    [container] = manifest("deployment.yaml")["spec"]["template"]["spec"]["containers"]
    probe = container["livenessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 120
    assert probe["timeoutSeconds"] < probe["periodSeconds"]


def test_the_network_policy_meets_the_pod() -> None:
    """It selects the Pod, opens its port, and lets it reach name servers and all but link-local addresses."""
    policy, template = manifest("networkpolicy.yaml")["spec"], manifest("deployment.yaml")["spec"]["template"]
    assert policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    [port] = template["spec"]["containers"][0]["ports"]
    assert [entry["port"] for rule in policy["ingress"] for entry in rule["ports"]] == [port["name"]]
    names, others = policy["egress"]
    assert {(entry["protocol"], entry["port"]) for entry in names["ports"]} == {("UDP", 53), ("TCP", 53)}
    assert {"namespaceSelector": {}} in others["to"]  # for some plugins Pods are in no block
    assert [block["ipBlock"]["except"] for block in others["to"] if "ipBlock" in block] == [
        ["169.254.0.0/16"],
        ["fe80::/10"],
    ]


async def test_compose_of_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    """What docker-compose reads: replicas are alike, each with a state of its own; a stop has its time."""
    require("docker-compose")
    folder = DEPLOY / "compose" / "replicas"
    for name in ("RECORD_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"):
        monkeypatch.setenv(name, "secret")
    read = await run("docker-compose", "--file", folder / "compose.yaml", "config")
    assert read.status == 0, read.output
    services = yaml.safe_load(read.output)["services"]
    replicas = [services.pop(name) for name in ("one", "two", "three")]
    assert set(services) == {"database", "bucket"}
    own = [(replica.pop("ports"), replica.pop("volumes")) for replica in replicas]
    assert replicas[0] == replicas[1] == replicas[2]
    assert len({str(one) for one in own}) == 3
    [conf, tokens, state] = own[0][1]
    assert conf.startswith(f"{folder / 'conf.d'}:/etc/mirrord/conf.d:")
    assert state.startswith("one:/var/lib/mirrord")
    configuration = load_folder(folder / "conf.d", load_syncers(), replicas[0]["environment"])
    assert configuration.record is not None
    assert (configuration.record.user, configuration.record.name) == ("mirrord", "mirrord")
    assert configuration.settings.blobs is not None
    assert tokens.startswith(f"{folder / 'tokens'}:{configuration.settings.tokens}:")
    alone = await run("docker-compose", "--file", DEPLOY / "compose" / "compose.yaml", "config")
    plain = yaml.safe_load(alone.output)["services"]["mirrord"]
    for key in ("read_only", "cap_drop", "security_opt", "healthcheck", "tmpfs", "image"):
        assert replicas[0][key] == plain[key]
    for service in (plain, replicas[0]):
        assert int(service["stop_grace_period"].removesuffix("m")) * 60 > LONGEST_STOP
