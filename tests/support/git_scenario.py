"""The world in which the contract suite drives the Git syncer."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.git.syncer import SYNCER
from mirrord.testing.contract import Scenario
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from tests.support.opening import open_services

NAME = "app.git"
SHOWN = ("refs/heads/", "refs/tags/")


class GitScenario:
    """A repository with two branches and a tag, mirrored to two hosts and the local store."""

    def __init__(self, services: Services, source: GitHost, hosts: Mapping[str, GitHost]) -> None:
        """Use hosts that are running."""
        self.syncer = SYNCER
        self.services = services
        self._hosts = hosts
        self._upstream = Upstream(source.create(NAME))
        self._upstream.commit("main", {"README.md": b"one\n"})
        self._upstream.commit("feature/x", {"x": b"x\n"})
        self._upstream.tag("v1", "main", annotated=True)
        places = {name: host.url(NAME) for name, host in hosts.items()} | {LOCAL: LOCAL}
        for host in hosts.values():
            host.create(NAME)
        spec = self.syncer.spec.model_validate({"from": source.url(NAME)})
        made = tuple(Target(name, "git", to, self.syncer.target_spec()) for name, to in places.items())
        self.mirror = Mirror("app", "git", spec, made)

    async def change(self) -> None:
        """Add a commit and a branch; delete one."""
        self._upstream.commit("main", {"README.md": b"two\n"})
        self._upstream.commit("other", {"o": b"o\n"})
        self._upstream.delete("refs/heads/feature/x")

    def wanted(self) -> Mapping[str, str]:
        """Return upstream's branches and tags."""
        return _shown(self._upstream)

    def found(self, target: str) -> Mapping[str, str]:
        """Return the branches and tags of a target."""
        path = self._path(target)
        return _shown(Upstream(path)) if (path / "HEAD").exists() else {}

    def flaws(self, target: str) -> Sequence[str]:
        """Name what `git fsck` finds wrong, and leftovers."""
        path = self._path(target)
        if not (path / "HEAD").exists():
            return []
        command = ["git", "-C", str(path), "fsck", "--connectivity-only", "--no-dangling"]
        checked = subprocess.run(command, capture_output=True, text=True, check=False)
        strays = [stray.name for stray in (path / "objects").rglob("tmp_*")] if target == LOCAL else []
        return [checked.stderr, *strays] if checked.returncode else strays

    def _path(self, target: str) -> Path:
        if target != LOCAL:
            return self._hosts[target].path(NAME)
        assert self.services.keep is not None
        return self.services.keep / "git" / "app.git"

    @contextlib.asynccontextmanager
    async def broken(self) -> AsyncIterator[None]:
        """Let the first host refuse everything."""
        self._first.faults.on("*", "", times=None).status(403, b"no")
        try:
            yield
        finally:
            self._first.faults.clear()

    @contextlib.asynccontextmanager
    async def blocked(self) -> AsyncIterator[asyncio.Event]:
        """Let pushes to the first host hang."""
        fault = self._first.faults.on("POST", "git-receive-pack", times=None).hold()
        try:
            yield fault.reached
        finally:
            self._first.faults.clear()

    @property
    def _first(self) -> GitHost:
        return next(iter(self._hosts.values()))


def _shown(repository: Upstream) -> Mapping[str, str]:
    return {name: oid for name, oid in repository.refs().items() if name.startswith(SHOWN)}


@contextlib.asynccontextmanager
async def git_scenario(folder: Path) -> AsyncIterator[Scenario]:
    """Open the world of the Git syncer."""
    async with (
        GitHost(folder / "source") as source,
        GitHost(folder / "one") as one,
        GitHost(folder / "two") as two,
        open_services(folder / "state") as services,
    ):
        yield GitScenario(services, source, {"one": one, "two": two})
