"""A container engine of a test's own: podman as docker-compose sees it, on a network that nothing else is on.

    async with engine(tmp_path) as one:
        up = await one.compose(folder, "up", "--detach")

Images are those of this machine (tests/support/container.py). Beside the image of this repository there are a
PostgreSQL and an S3 server under the names that `deploy/compose` uses, built here, since no registry is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mirrord.testing.running import Ran, run, started
from tests.support.container import APART, BASE, built, cached
from tests.support.processes import children_of

TOOLS: Final = ("podman", "docker-compose", "/usr/lib/podman/netavark", "/usr/lib/podman/aardvark-dns", "versitygw")
_IMAGES: Final = Path(__file__).parent / "services"
_SERVICES: Final = {"database": "docker.io/library/postgres:17", "bucket": "docker.io/versity/versitygw:v1.8.0"}
_SOCKET: Final = "unix:///run/podman.sock"
# Two kinds of cgroups at once, as some machines have them, are too many for crun.
_BEGIN: Final = f"""umount /sys/fs/cgroup/unified 2>/dev/null
ip link set lo up && exec podman system service --time=0 {_SOCKET}
"""
_STORAGE: Final = """[storage]
driver = "overlay"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
[storage.options]
additionalimagestores = ["{images}"]
"""
_CONTAINERS: Final = """[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that runs; its network is reached by programs that it runs."""

    process: int
    environment: dict[str, str]

    def command(self, *words: str | Path) -> tuple[str | Path, ...]:
        """Return the command that runs a program of this machine where the engine is."""
        inside = ("nsenter", f"--target={self.process}", "--mount", "--net", "--pid", "--root", "--wd=/")
        return (*inside, "env", *(f"{name}={value}" for name, value in self.environment.items()), *words)

    async def run(self, *words: str | Path, seconds: float = 120) -> str:
        """Run a program to its end, and return what it wrote.

        Raises:
            RuntimeError: it failed; has its output.
        """
        ran = await self.tried(*words, seconds=seconds)
        if ran.status:
            raise RuntimeError(f"{' '.join(map(str, words))}: {ran.status}: {ran.output[-3000:]}")
        return ran.output

    async def tried(self, *words: str | Path, seconds: float = 120) -> Ran:
        """Run a program to its end, however that is."""
        return await run(*self.command(*words), seconds=seconds)

    async def compose(self, folder: Path, *words: str) -> str:
        """Run docker-compose on the `compose.yaml` of a folder, as somebody who stands there."""
        file = ("--project-directory", folder, "--file", folder / "compose.yaml")
        return await self.run("docker-compose", *file, *words, seconds=300)

    async def containers(self) -> dict[str, dict[str, Any]]:
        """Return the containers by their service, as `podman inspect` shows them."""
        names = (await self.run("podman", "ps", "--all", "--quiet")).split()
        shown = json.loads(await self.run("podman", "inspect", *names)) if names else []
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in shown}

    async def watch(self) -> None:
        """Check the health of what is not healthy yet, for ever: without systemd podman has no clock for that."""
        while True:
            shown = await self.tried("podman", "ps", "--format={{.Names}} {{.Status}}")
            for name in re.findall(r"^(\S+) .*\((?:starting|unhealthy)\)$", shown.output, re.MULTILINE):
                await self.tried("podman", "healthcheck", "run", name)
            await asyncio.sleep(0.5)

    async def healthy(self, *services: str) -> None:
        """Wait until the services are healthy."""
        async with asyncio.timeout(240):
            while True:
                found = await self.containers()
                if all(found[name]["State"]["Health"]["Status"] == "healthy" for name in services):
                    return
                await asyncio.sleep(0.5)


@asynccontextmanager
async def engine(folder: Path) -> AsyncIterator[Engine]:
    """Run an engine whose containers are gone when the context ends; `folder` is for what they write."""
    _built_services(folder)
    settings = {
        "storage.conf": _STORAGE.format(folder=folder / "engine", images=cached() / "graph"),
        "containers.conf": _CONTAINERS.format(folder=folder / "engine"),
    }
    for name, text in settings.items():
        (folder / name).write_text(text)
    environment = {
        "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf",
        "CONTAINERS_CONF": f"{folder}/containers.conf",
        "DOCKER_HOST": _SOCKET,
    }
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    settled = (*(word for pair in environment.items() for word in ("--setenv", *pair)), "sh", "-c", _BEGIN)
    async with started(*APART, "--unshare-pid", "--unshare-net", "--die-with-parent", *settled, **quiet) as process:
        async with asyncio.timeout(30):
            while not (inside := children_of(process.pid)) or not (service := children_of(inside[0])):  # noqa: ASYNC110 - nothing else says when
                await asyncio.sleep(0.05)
        one = Engine(service[0], environment)
        async with asyncio.timeout(60):
            while (await one.tried("test", "-S", _SOCKET.removeprefix("unix://"))).status:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.05)
        watching = asyncio.create_task(one.watch())
        try:
            yield one
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            await one.run("podman", "rm", "--all", "--force", "--time=0", "--volumes")


def _built_services(folder: Path) -> None:
    """Build the images of the services, each from programs of this machine or of its packages."""
    context = folder / "services"
    shutil.copytree(_IMAGES, context)
    program = shutil.which("versitygw")
    assert program is not None
    shutil.copy(program, context / "versitygw")
    for target, name in _SERVICES.items():
        built(context, "--build-arg", f"BASE={BASE}", "--target", target, tag=name)
