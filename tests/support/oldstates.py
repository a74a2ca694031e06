"""The world in which the state directories of earlier versions were made: the same servers, ports and content.

`tests/record/states/<commit>.tar.xz` holds each state; `python -m tests.support.oldstates PYTHON FILE PORT` makes one
with the mirrord that is installed for PYTHON.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final, Self

from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.images import build_image
from mirrord.testing.pushing import push
from mirrord.testing.registry import Registry
from mirrord.testing.servers import DockerRegistry
from tests.support.layouts import write_layout

PORTS: Final = {"15a5d20": 28410, "6dd72f4": 28420}
"""Where the servers were with which a version made its state: neither the system nor `free_port` gives these."""
STATES: Final = Path(__file__).parent.parent / "record" / "states"
COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"
FLEETING: Final = ("lock", "control.sock", "spool", "scratch", "reserve", "mirrord.db-wal", "mirrord.db-shm")

CONFIGURATION: Final = """\
settings: {{listen: "127.0.0.1:0"}}
targets:
  registry: {{kind: image, to: "{registry}/mirror"}}
  forge: {{kind: git, to: "{forge}/{{name}}.git"}}
mirrors:
  - {{name: app, kind: image, from: {{repository: "{source}/team/app", tags: ["*"]}}, to: [registry, local]}}
  - {{name: built, kind: image, from: {{layout: build, names: [dev-7654321, dev]}}, to: [registry, local]}}
  - {{name: charts, kind: helm, from: "{charts}", to: local}}
  - {{name: code, kind: git, from: "{upstream}/code.git", to: [forge, local]}}
"""


class OldWorld:
    """Servers on five ports in a row from `port` on, over `folder`; an async context manager."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.source, self.charts, self.registry = Registry(), ChartRepository(path="/stable"), DockerRegistry()
        self.upstream, self.forge = GitHost(folder / "upstream"), GitHost(folder / "forge")
        hosts = (f"127.0.0.1:{number}" for number in range(port, port + 5))
        self.source.host, self.charts.host, self.registry.host, self.upstream.host, self.forge.host = hosts
        self._servers = (self.source, self.charts, self.registry, self.upstream, self.forge)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start all, with what they had before the first run."""
        self.registry.folder = self.folder / "registry"
        for server in self._servers:
            await self._stack.enter_async_context(server)
        for tag in ("main", "v1"):
            await push(build_image(layer_size=500, layers=1, seed=tag), self.source, "team/app", [tag])
        write_layout(build_image(layer_size=500, layers=1, seed="built"), self.folder / "build")
        self.charts.add(build_chart("app", "1.0.0"))
        self.repository = Upstream(self.upstream.create("code.git"))
        self.forge.create("code.git")
        self.repository.commit("main", {"README.md": b"hello\n"})
        for branch in ("dev", "old", "next"):
            self.repository.commit(branch, {branch: b"work\n"}, parent=self.repository.refs()["refs/heads/main"])
        self.repository.tag("v1.0.0", "main", annotated=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop all."""
        await self._stack.aclose()

    async def change(self) -> None:
        """Let the sources move on: a tag moves, a chart comes, a branch is rewritten and another one deleted."""
        await push(build_image(layer_size=500, layers=1, seed="moved"), self.source, "team/app", ["main"])
        self.charts.add(build_chart("app", "1.1.0"))
        self.repository.rewrite("dev")
        self.repository.delete("refs/heads/old")

    def configure(self) -> Path:
        """Write the configuration; return its folder."""
        folder = self.folder / "conf.d"
        folder.mkdir(exist_ok=True)
        places = {"charts": self.charts.url, "upstream": self.upstream.base, "forge": self.forge.base}
        text = CONFIGURATION.format(source=self.source.host, registry=self.registry.host, **places)
        (folder / "a.yaml").write_text(text)
        return folder


def unpack(version: str, state: Path) -> None:
    """Put the state that was made with a version to `state`."""
    with tarfile.open(STATES / f"{version}.tar.xz") as archive:
        # Debian's Python 3.11 has neither filters nor a default that 3.14 would not warn of.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda entry, _: entry)
        archive.extractall(state)


async def make(python: str, file: Path, port: int) -> None:
    """Make a state with the mirrord that is installed for `python`, by commands, and pack it into `file`."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        environ = {"PATH": os.environ["PATH"], "HOME": temporary, "LANG": "C.UTF-8"}

        async def mirrord(*words: str) -> None:
            program = (python, "-m", "mirrord", *words)
            process = await asyncio.create_subprocess_exec(*program, cwd=folder, env=environ)
            print(words[0], "ended with", await process.wait())  # noqa: T201 - a program of its own

        async with OldWorld(folder, port) as world:
            world.configure()
            await mirrord("sync")
            await world.change()
            await mirrord("sync")
            await mirrord("sync", "code", "--allow")
            await mirrord("publish", "built", "--layout", "build", "--branch", "main", "--commit", COMMIT)
            await mirrord("sync")
        for name in FLEETING:
            stray = folder / "state" / name
            shutil.rmtree(stray) if stray.is_dir() else stray.unlink(missing_ok=True)
        file.parent.mkdir(exist_ok=True)
        with tarfile.open(file, "w:xz") as archive:
            archive.add(folder / "state", ".", filter=_anonymous)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    asyncio.run(make(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
