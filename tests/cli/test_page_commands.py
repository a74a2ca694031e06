"""The commands that the page of a mirror shows do what they say, run as they are by the real programs."""

from __future__ import annotations

import html
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from mirrord.testing import DockerRegistry, Registry, build_image, push
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.running import Ran, run
from mirrord.testing.servers import require
from tests.support.chartprograms import HELMS, helms
from tests.support.commands import Desk

COMMAND = re.compile(r'<div class="command"><code[^>]*>(.*?)</code>')
VFS = '--root "$HOME/root" --runroot "$HOME/run" --storage-driver vfs --cgroup-manager cgroupfs --events-backend file'


class Shell:
    """A shell in a folder of its own, in which podman is docker too, as Debian's podman-docker makes it."""

    def __init__(self, folder: Path, *insecure: str) -> None:
        """Take plain HTTP from the registries in `insecure`, as docker does from this machine."""
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir(parents=True)
        for name in ("docker", "podman"):
            script = programs / name
            script.write_text(f'#!/bin/sh\nexec /usr/bin/podman {VFS} "$@"\n')
            script.chmod(0o755)
        for name in helms()[-1:]:
            (programs / "helm").symlink_to(str(shutil.which(name)))
        registries = "".join(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n' for host in insecure)
        (folder / ".config/containers").mkdir(parents=True)
        (folder / ".config/containers/registries.conf").write_text(registries)
        self._environ = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(folder),
            "GIT_CONFIG_NOSYSTEM": "1",
        }

    async def run(self, command: str) -> Ran:
        """Run one line."""
        return await run("sh", "-c", f"cd {self.folder} && {command}", env=self._environ)

    async def all_good(self, commands: list[str]) -> None:
        """Run lines, of which none may fail."""
        for command in commands:
            ran = await self.run(command)
            assert ran.status == 0, f"{command}\n{ran.output}"


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path, which podman wants."""
    with tempfile.TemporaryDirectory(prefix="p", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


async def shown(address: str, path: str) -> list[str]:
    """Return the commands of a page, in its order."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}{path}") as answer:
        assert answer.status == 200
        return [html.unescape(command) for command in COMMAND.findall(await answer.text())]


async def test_images(desk: Desk, short: Path) -> None:
    """An image is pulled by the commands for a real registry and for mirrord itself; skopeo lists the tags of both."""
    require("podman", "skopeo", "docker-registry")
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(Registry())
        registry = await stack.enter_async_context(DockerRegistry())
        await push(build_image(layer_size=1000), source, "team/app", ["v1", "main"])
        desk.configure(
            f"targets: {{hub: {{kind: image, to: {registry.host}/mirror}}}}\n"
            f"mirrors: [{{name: app, kind: image, to: [hub, local], from: "
            f"{{repository: {source.host}/team/app, tags: ['v*', main]}}}}]\n"
        )
        assert (await desk.run("sync")).status == 0
        served = await stack.enter_async_context(desk.serving("--listen", "127.0.0.1:0"))
        commands = await shown(served.address, "/mirrors/app?item=v1")
        assert commands == [
            f"docker pull {served.address}/app:v1",
            f"podman pull --tls-verify=false {served.address}/app:v1",
            f"docker pull {served.address}/app:main",
            f"podman pull --tls-verify=false {served.address}/app:main",
            f"skopeo list-tags --tls-verify=false docker://{served.address}/app",
            f"docker pull {registry.host}/mirror/app:v1",
            f"podman pull --tls-verify=false {registry.host}/mirror/app:v1",
            f"docker pull {registry.host}/mirror/app:main",
            f"podman pull --tls-verify=false {registry.host}/mirror/app:main",
            f"skopeo list-tags --tls-verify=false docker://{registry.host}/mirror/app",
        ]
        shell = Shell(short, registry.host, served.address)
        await shell.all_good(commands)
        listed = await shell.run("podman images --format '{{.Repository}}:{{.Tag}}'")
        places = (f"{served.address}/app", f"{registry.host}/mirror/app")
        assert {*listed.output.split()} == {f"{place}:{tag}" for place in places for tag in ("v1", "main")}


async def test_charts(desk: Desk, short: Path) -> None:
    """A chart comes by helm and by curl from mirrord, and by helm from a registry, with the same bytes."""
    require("docker-registry", "curl", *(helms()[-1:] or HELMS))
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(ChartRepository())
        registry = await stack.enter_async_context(DockerRegistry())
        chart = build_chart("cert-manager", "1.2.3")
        source.add(chart)
        source.publish()
        desk.configure(
            f"targets: {{oci: {{kind: helm, to: 'oci://{registry.host}/charts'}}}}\n"
            f"mirrors: [{{name: charts, kind: helm, to: [oci, local], from: '{source.url}'}}]\n"
        )
        assert (await desk.run("sync")).status == 0
        served = await stack.enter_async_context(desk.serving("--listen", "127.0.0.1:0"))
        commands = await shown(served.address, "/mirrors/charts?item=cert-manager-1.2.3")
        url = f"http://{served.address}/helm/charts"
        assert commands == [
            f"helm pull cert-manager --repo {url} --version 1.2.3",
            f"curl -fLO {url}/charts/cert-manager-1.2.3.tgz",
            f"helm repo add charts {url}",
            f"helm pull --plain-http oci://{registry.host}/charts/cert-manager --version 1.2.3",
        ]
        shell = Shell(short)
        for command in commands:
            await shell.all_good([command])
            if " add " not in command:
                file = shell.folder / "cert-manager-1.2.3.tgz"
                assert file.read_bytes() == chart.data
                file.unlink()


async def test_repositories(desk: Desk, short: Path, tmp_path: Path) -> None:
    """A repository is cloned from mirrord and from a host, whole and by branch; a file comes by its raw URL.

    The page lists all branches and tags, of which the record has only some.
    """
    require("git", "curl")
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(GitHost(tmp_path / "source"))
        there = await stack.enter_async_context(GitHost(tmp_path / "there"))
        upstream = Upstream(source.create("crane.git"))
        commit = upstream.commit("main", {"README.md": b"# crane\n"})
        upstream.commit("feature/x", {"a": b"x"}, parent=commit)
        upstream.tag("v1", commit)
        there.create("crane.git")
        desk.configure(
            f"targets: {{there: {{kind: git, to: '{there.url('crane.git')}'}}}}\n"
            f"mirrors: [{{name: crane, kind: git, to: [there, local], from: '{source.url('crane.git')}'}}]\n"
        )
        assert (await desk.run("sync")).status == 0
        served = await stack.enter_async_context(desk.serving("--listen", "127.0.0.1:0"))
        async with aiohttp.ClientSession() as session:
            text = await (await session.get(f"http://{served.address}/mirrors/crane")).text()
        listed = ["refs/heads/feature/x", "refs/heads/main", "refs/tags/v1"]
        assert re.findall(r'<th scope="row"><a [^>]*>(.*?)</a>', text) == listed
        commands = await shown(served.address, "/mirrors/crane?item=refs/heads/feature/x")
        here = f"http://{served.address}"
        assert commands == [
            f"git clone --branch feature/x {here}/git/crane.git",
            f"curl -fL {here}/raw/crane/refs/heads/feature/x/README.md",
            f"git clone {here}/git/crane.git",
            f"curl -fL {here}/raw/crane/HEAD/README.md",
            f"git clone --branch feature/x {there.url('crane.git')}",
            f"git clone {there.url('crane.git')}",
        ]
        shell = Shell(short)
        for command in commands:
            ran = await shell.run(f"rm -rf crane && {command}")
            assert ran.status == 0, ran.output
            if "curl" in command:
                assert "# crane" in ran.output
            else:
                branch = await shell.run("git -C crane branch --show-current")
                assert branch.output.strip() == ("feature/x" if "--branch" in command else "main")


@pytest.mark.parametrize("url", ["", "https://mirror.example.org"])
async def test_the_address_of_this_server(desk: Desk, url: str) -> None:
    """Commands for `local` use `settings.url`, and without it the address where the server really listens."""
    async with Registry() as source:
        await push(build_image(layer_size=1000), source, "team/app", ["v1"])
        origin = f"{{repository: {source.host}/team/app, tags: [v1]}}"
        desk.configure(
            f"settings: {{{f'url: {url}' if url else ''}}}\n"
            f"mirrors: [{{name: app, kind: image, to: local, from: {origin}}}]\n"
        )
        assert (await desk.run("sync")).status == 0
        async with desk.serving("--listen", "127.0.0.1:0") as served:
            place = url.removeprefix("https://") or served.address
            assert (await shown(served.address, "/mirrors/app"))[0] == f"docker pull {place}/app:v1"
