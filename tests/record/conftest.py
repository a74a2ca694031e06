"""The stores that keep the same promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirrord.record.store import Store, open_store
from tests.support.postgres import Postgres
from tests.support.store import MemoryStore

T0 = datetime(2026, 11, 21, 1, 2, 3, 456789, tzinfo=UTC)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store
    if request.param == "memory":
        made = MemoryStore()
    elif request.param == "sqlite":
        made = await open_store(tmp_path / "mirrord.db", T0)
    else:
        server: Postgres = request.getfixturevalue("postgres")
        server.empty()
        made = await open_store(server.socket, T0)
    yield made
    await made.close()
