"""Builds what syncers may use."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from mirrord.blobs.disk import DiskStore
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.reserve import room
from mirrord.config.load import Configuration
from mirrord.daemon.lock import close_to_others
from mirrord.events import Events
from mirrord.files import storage_errors
from mirrord.syncer.values import Services
from mirrord.wire.dockerconfig import DockerKeyring
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http


@asynccontextmanager
async def build_services(configuration: Configuration, state: Path, events: Events) -> AsyncIterator[Services]:
    """Build the services over `state`, which the caller has locked.

    What an earlier process left half done is swept before anything is used.

    Raises:
        StorageError: the state cannot be written to.
    """
    async with AsyncExitStack() as stack:
        root = await asyncio.to_thread(_prepare, state)
        spools = SpoolPool(root / "spool", configuration.settings.spool.budget, events, room=partial(room, root))
        stack.push_async_callback(spools.aclose)
        await asyncio.to_thread(spools.cache.sweep)
        blobs, repositories = DiskStore(root / "blobs"), DiskRepositories(root / "repositories")
        await asyncio.to_thread(repositories.sweep)
        await asyncio.to_thread(blobs.sweep, await repositories.linked())
        http = open_http(configuration.book, events)
        stack.push_async_callback(http.aclose)
        yield Services(http, spools, events, root / "scratch", blobs, repositories, root)


def open_http(book: HostBook, events: Events) -> Http:
    """Make the way out, with docker's own configuration behind the operator's."""
    return Http(replace(book, keyring=DockerKeyring()), events)


def _prepare(state: Path) -> Path:
    root = state.absolute()  # other programs work on it too, and in folders of their own
    with storage_errors(str(root)):
        scratch = root / "scratch"
        if scratch.is_symlink() or scratch.is_file():
            scratch.unlink()
        elif scratch.exists():
            shutil.rmtree(scratch)
        for folder in (scratch, root / "spool"):
            folder.mkdir(mode=0o700, exist_ok=True)
        for entry in root.iterdir():  # what an earlier version, or another program, made in its own way
            if not entry.is_symlink():
                close_to_others(entry)
    return root
