"""A cache on its own, with a real upstream behind a real server, and every git process that it starts remembered.

async with open_scene(tmp_path) as scene:
    scene.upstream.commit("main", {"README.md": b"hello"})
    await scene.turn()
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirrord import failpoints
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.git.address import Address
from mirrord.wire.git.cache.repository import GitCache
from mirrord.wire.git.command import Git, Output
from mirrord.wire.host import HostBook

NAME = "app.git"
STAMP = "20240517T120000Z"


class LoggedGit(Git):
    """Remembers what it was told to run."""

    def __init__(self, home: Path) -> None:
        """Start nothing yet."""
        super().__init__(home, HostBook())
        self.ran: list[tuple[str, ...]] = []

    async def run(self, args: Sequence[str], **options: Any) -> Output:
        """Run it, and remember."""
        self.ran.append(tuple(args))
        return await super().run(args, **options)


@dataclass(slots=True)
class CacheScene:
    """What a test of the cache needs.

    Attributes:
        host: serves the upstream.
        upstream: to change.
        git: starts git, and remembers.
        cache: of that upstream.
    """

    host: GitHost
    upstream: Upstream
    git: LoggedGit
    cache: GitCache

    @property
    def address(self) -> Address:
        """Where upstream is."""
        return Address.parse(self.host.url(NAME))

    @property
    def there(self) -> Upstream:
        """The cache as a repository that a test looks into, or harms."""
        return Upstream(self.cache.folder)

    def renewed(self) -> CacheScene:
        """Return it as the next process sees it."""
        folder = self.cache.folder.parents[1]
        git = LoggedGit(folder / "home")
        return CacheScene(self.host, self.upstream, git, cache_in(folder, git))

    async def fetch(self) -> int:
        """Do what a run does when upstream changed."""
        await self.cache.prepare()
        return await self.cache.fetch(self.address)

    async def turn(self, backups: Mapping[str, str] | None = None, stamp: str = STAMP) -> None:
        """Fetch, and adopt all of it."""
        await self.fetch()
        await self.cache.adopt((await self.cache.incoming()).refs, "refs/heads/main", (backups or {}).items(), stamp)

    def fill(self) -> None:
        """Give upstream two branches, a tag and an annotated tag."""
        first = self.upstream.commit("main", {"README.md": b"one\n"})
        self.upstream.commit("main", {"README.md": b"two\n"})
        self.upstream.commit("dev", {"dev.txt": b"dev\n"}, parent=first)
        self.upstream.tag("v1", first)
        self.upstream.tag("v2", "main", annotated=True)

    def whole(self) -> bool:
        """Whether git itself finds nothing wrong with the cache."""
        fsck = ["git", "-C", str(self.cache.folder), "fsck", "--full", "--strict"]
        return subprocess.run(fsck, capture_output=True, check=False).returncode == 0


@contextlib.asynccontextmanager
async def open_scene(folder: Path) -> AsyncIterator[CacheScene]:
    """Start a host with one empty repository, and a cache that does not exist yet, below `folder`."""
    async with GitHost(folder / "source") as host:
        git = LoggedGit(folder / "home")
        yield CacheScene(host, Upstream(host.create(NAME)), git, cache_in(folder, git))


def cache_in(folder: Path, git: Git) -> GitCache:
    """Return the cache of a scene."""
    return GitCache(git, folder / "git" / NAME)


async def turn_until(folder: Path, url: str, stop: str, ref: str, oid: str) -> None:
    """Fetch and adopt in this process, which ends at the failpoint `stop` as by kill -9; `ref` is backed up."""
    failpoints.arm(stop, failpoints.crash)
    cache = cache_in(folder, LoggedGit(folder / "home"))
    await cache.prepare()
    await cache.fetch(Address.parse(url))
    await cache.adopt((await cache.incoming()).refs, "refs/heads/main", [(ref, oid)], STAMP)


if __name__ == "__main__":
    asyncio.run(turn_until(Path(sys.argv[1]), *sys.argv[2:]))
