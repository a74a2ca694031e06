"""Carries Git LFS objects through a cache: from the upstream's LFS server to a destination's, before the refs.

A host that knows LFS refuses refs whose objects it lacks (GitHub's GH008), and a host that does not would
publish pointers to nothing. The work is done by `git lfs`, whose LFS server is given on each call: otherwise
a `.lfsconfig` in the mirrored repository could send our requests, and the credentials with them, elsewhere.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mirrord.errors import UnsupportedError
from mirrord.wire.git.address import Address
from mirrord.wire.git.command import Git

FEW = 50  # tips named one by one: each costs a walk over its history
_LIMIT = 64 << 20


async def tracking(git: Git, folder: Path, tips: Collection[str]) -> frozenset[str]:
    """Return those tips whose `.gitattributes` at the top of the tree hands files to LFS.

    Raises:
        MirrordError: the cache cannot be read.
    """
    asked = sorted(tips)
    if not asked:
        return frozenset()
    lines = "".join(f"{tip}:.gitattributes\n" for tip in asked).encode()
    output = await git.run(["cat-file", "--batch-check"], folder=folder, stdin=lines, limit=_LIMIT)
    found = {tip: _blob(line) for tip, line in zip(asked, output.out.decode().splitlines(), strict=True)}
    blobs = sorted(set(filter(None, found.values())))
    using = await _using(git, folder, blobs)
    return frozenset(tip for tip, blob in found.items() if blob in using)


def _blob(line: str) -> str:
    """Read `<oid> blob <size>`; everything else (`… missing`, a folder) is no attributes file."""
    words = line.split(" ")
    return words[0] if len(words) == 3 and words[1] == "blob" else ""


async def _using(git: Git, folder: Path, blobs: Sequence[str]) -> frozenset[str]:
    """Return those of some `.gitattributes` that say `filter=lfs`."""
    if not blobs:
        return frozenset()
    stdin = "".join(f"{blob}\n" for blob in blobs).encode()
    rest = (await git.run(["cat-file", "--batch"], folder=folder, stdin=stdin, limit=_LIMIT)).out
    using = set()
    for blob in blobs:
        header, _, rest = rest.partition(b"\n")
        size = int(header.rpartition(b" ")[2])
        if any(_says_lfs(line) for line in rest[:size].splitlines()):
            using.add(blob)
        rest = rest[size + 1 :]
    return frozenset(using)


def _says_lfs(line: bytes) -> bool:
    return b"filter=lfs" in line.split()[1:] and not line.lstrip().startswith(b"#")


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
    await git.run(args, folder=folder, remote=address, config=lfs_config(address))


def installed() -> bool:
    """Whether `git lfs` is there."""
    return shutil.which("git-lfs") is not None


def lfs_config(address: Address) -> Mapping[str, str]:
    """Return the settings that tie `git lfs` to one server (git-lfs-config(5))."""
    url = address.url.rstrip("/")
    server = url if url.endswith(".git") else f"{url}.git"
    return {"lfs.url": f"{server}/info/lfs" if address.scheme != "ssh" else server, "lfs.locksverify": "false"}
