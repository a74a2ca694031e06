"""Carries Git LFS objects through a cache: from the upstream's LFS server to a destination's, before the refs.

A host that knows LFS refuses refs whose objects it lacks (GitHub's GH008), and a host that does not would
publish pointers to nothing. The work is done by `git lfs`, whose LFS server is given on each call: otherwise
a `.lfsconfig` in the mirrored repository could send our requests, and the credentials with them, elsewhere.

When an LFS server fails (status 500 and above), `git lfs` writes a report into `lfs/logs` that holds its whole `GIT_*`
environment, our credential among it. A file where it wants that folder keeps the report off the disk: it is then said
on the error stream, and left out there (`failures`).
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from mirrord.errors import UnsupportedError
from mirrord.wire.git.address import Address
from mirrord.wire.git.command import Git
from mirrord.wire.git.repair import disk

FEW = 50  # tips named one by one: each costs a walk over its history


async def fetch_objects(git: Git, folder: Path, source: Address, tips: Collection[str]) -> None:
    """Bring the objects that the history of `tips` refers to into the cache.

    Raises:
        UnsupportedError: `git lfs` is not installed.
        MirrordError: the LFS server does not give them.
    """
    await _lfs("fetch", git, folder, source, tips)


async def push_objects(git: Git, folder: Path, destination: Address, tips: Collection[str]) -> None:
    """Bring the objects that the history of `tips` refers to from the cache to a destination.

    Raises:
        UnsupportedError: `git lfs` is not installed.
        MirrordError: the LFS server does not take them.
    """
    await _lfs("push", git, folder, destination, tips)


async def _lfs(verb: str, git: Git, folder: Path, address: Address, tips: Collection[str]) -> None:
    if not await asyncio.to_thread(installed):
        message = f"{address}: its files are in Git LFS; install git-lfs, or set `lfs: false` to mirror pointers only"
        raise UnsupportedError(message)
    named = sorted(tips) if len(tips) <= FEW else []
    everything = ["--all"] if verb == "fetch" or not named else []
    args = ["lfs", verb, *everything, "--", address.url, *named]
    await asyncio.to_thread(bar_reports, folder)
    await git.run(args, folder=folder, remote=address, config=lfs_config(address))


def bar_reports(folder: Path) -> None:
    """Keep `git lfs` from writing reports into a repository; what it wrote before goes.

    Raises:
        StorageError: the disk refuses.
    """
    place = folder / "lfs" / "logs"
    with disk(folder):
        if place.is_dir():
            shutil.rmtree(place)
        place.parent.mkdir(exist_ok=True)
        place.touch()


def installed() -> bool:
    """Whether `git lfs` is there."""
    return shutil.which("git-lfs") is not None


def lfs_config(address: Address) -> Mapping[str, str]:
    """Return the settings that tie `git lfs` to one server (git-lfs-config(5))."""
    url = address.url.rstrip("/")
    server = url if url.endswith(".git") else f"{url}.git"
    return {"lfs.url": f"{server}/info/lfs" if address.scheme != "ssh" else server, "lfs.locksverify": "false"}
