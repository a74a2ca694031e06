"""Both files of `deploy/compose`, run by docker-compose and an engine as they are delivered."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mirrord.testing import build_image
from mirrord.testing.running import started
from mirrord.testing.servers import require
from tests.support.composed import TOOLS, Engine, engine
from tests.support.container import ContainerImage
from tests.support.layouts import write_layout

pytestmark = pytest.mark.timeout(900)  # the first build gets its base
COMPOSE = Path(__file__).parents[2] / "deploy" / "compose"
REPLICAS = {"one": 8081, "two": 8082, "three": 8083}


@pytest.fixture
async def host(image: ContainerImage, tmp_path: Path) -> AsyncIterator[Engine]:
    require(*TOOLS)
    assert image.root.exists()
    async with engine(tmp_path) as one:
        yield one


def configured(folder: Path, text: str) -> None:
    """Write a file of configuration, which user 65532 can read."""
    folder.mkdir(mode=0o755, exist_ok=True)
    (folder / "mirrors.yaml").write_text(text)


@asynccontextmanager
async def upstream(host: Engine, folder: Path, network: str) -> AsyncIterator[str]:
    """Run a registry where containers of a network reach it; gives the configuration that mirrors its image."""
    [shown] = json.loads(await host.run("podman", "network", "inspect", network))
    address = f"{shown['subnets'][0]['gateway']}:5000"
    storage = f"storage: {{filesystem: {{rootdirectory: {folder}/registry}}}}"
    (folder / "registry.yaml").write_text(f"version: 0.1\n{storage}\nhttp: {{addr: '{address}'}}\n")
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    write_layout(build_image(), folder / "layout", "v1")
    async with started(*host.command("docker-registry", "serve", folder / "registry.yaml"), **quiet):
        curl = ("curl", "--silent", "--retry", "20", "--retry-connrefused", "--retry-delay", "1")
        await host.run(*curl, f"http://{address}/v2/")
        copy = ("skopeo", "copy", "--insecure-policy", "--all", "--dest-tls-verify=false")
        await host.run(*copy, f"oci:{folder}/layout:v1", f"docker://{address}/team/app:v1")
        source = f"from: {{repository: '{address}/team/app', tags: [v1]}}"
        hosts = f"hosts: {{'{address}': {{insecure: true, allow_private: true}}}}"
        yield f"{hosts}\nmirrors: [{{name: app, kind: image, {source}, to: local, every: 1h}}]\n"


async def pulled(host: Engine, port: int) -> str:
    """Return the digest of what a client gets from a published port."""
    words = ("--format={{.Digest}}", "--tls-verify=false", f"docker://127.0.0.1:{port}/app:v1")
    return (await host.run("skopeo", "inspect", *words)).strip()


def confined(container: Mapping[str, Any]) -> None:
    """The engine took what the file says of rights and limits."""
    said = container["HostConfig"]
    assert (said["ReadonlyRootfs"], said["PidsLimit"], said["Memory"]) == (True, 4096, 2 << 30)
    assert "no-new-privileges" in said["SecurityOpt"]
    assert container["EffectiveCaps"] in (None, [])


async def test_one_machine(host: Engine, tmp_path: Path) -> None:
    """As it is delivered it is healthy with a configuration, mirrors, serves at its port, and ends in good order."""
    folder = tmp_path / "mirror"
    shutil.copytree(COMPOSE, folder, ignore=shutil.ignore_patterns("replicas"))
    configured(folder / "conf.d", "mirrors: []\n")
    await host.compose(folder, "up", "--detach")
    await host.healthy("mirrord")
    confined((await host.containers())["mirrord"])
    async with upstream(host, tmp_path, "mirror_default") as configuration:
        configured(folder / "conf.d", configuration)
        await host.compose(folder, "exec", "-T", "mirrord", "mirrord", "reload")
        await host.compose(folder, "exec", "-T", "mirrord", "mirrord", "sync", "app")
    assert await pulled(host, 8080) == str(build_image().digest)
    await host.compose(folder, "stop")
    assert (await host.containers())["mirrord"]["State"]["ExitCode"] == 0
    await host.compose(folder, "down", "--volumes")
    assert await host.containers() == {}


async def test_replicas(host: Engine, tmp_path: Path) -> None:
    """As delivered: three replicas join, serve what one copied, one that was killed joins again, all end with 0."""
    folder = tmp_path / "replicas"
    shutil.copytree(COMPOSE / "replicas", folder)
    (folder / "tokens").mkdir(mode=0o755)
    (folder / ".env").write_text("RECORD_PASSWORD=of-the-record\nS3_ACCESS_KEY=of-us\nS3_SECRET_KEY=of-the-bucket\n")
    await host.compose(folder, "up", "--detach")
    await host.healthy("database", *REPLICAS)
    for name in REPLICAS:
        confined((await host.containers())[name])
    async with upstream(host, tmp_path, "replicas_default") as configuration:
        configured(folder / "conf.d", configuration)
        for name in REPLICAS:
            await host.compose(folder, "exec", "-T", name, "mirrord", "reload")
        await host.compose(folder, "exec", "-T", "two", "mirrord", "sync", "app")
    assert {await pulled(host, port) for port in REPLICAS.values()} == {str(build_image().digest)}
    joined = await replicas(host, 8083)
    assert len(joined) == 3
    await host.run("kill", "-KILL", str((await host.containers())["two"]["State"]["Pid"]))
    async with asyncio.timeout(60):
        while (await host.containers())["two"]["State"]["Running"]:  # noqa: ASYNC110 - nothing else says when
            await asyncio.sleep(0.2)
    await host.compose(folder, "up", "--detach")
    await host.healthy("two")
    assert await replicas(host, 8083) == joined  # under its name
    await host.compose(folder, "stop", *REPLICAS)
    ended = await host.containers()
    assert [ended[name]["State"]["ExitCode"] for name in REPLICAS] == [0, 0, 0]
    await host.compose(folder, "down", "--volumes")
    assert await host.containers() == {}


async def replicas(host: Engine, port: int) -> set[str]:
    """Return the names of the replicas that one of them shows."""
    said = json.loads(await host.run("curl", "--silent", "--fail", f"http://127.0.0.1:{port}/status"))
    return {one["name"] for one in said["replicas"]}
