"""Real services over a folder, for tests that drive a syncer without a daemon."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from mirrord.blobs.disk import DiskStore
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.pool import SpoolPool
from mirrord.events import Events
from mirrord.syncer.values import Services
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from tests.support.store import FileFacts

SPOOL = 64 << 20


@contextlib.asynccontextmanager
async def open_services(
    folder: Path, book: HostBook | None = None, events: Events | None = None
) -> AsyncIterator[Services]:
    """Build real services with their state below `folder`."""
    heard = events or Events()
    for name in ("spool", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    async with Http(book or HostBook(), heard) as http:
        spools = SpoolPool(folder / "spool", SPOOL, heard)
        store, links = DiskStore(folder / "blobs"), DiskRepositories(folder / "links")
        try:
            facts = FileFacts(folder / "facts")
            yield Services(http, spools, heard, folder / "scratch", store, links, folder, facts=facts)
        finally:
            await spools.aclose()
