"""Two real registries for all crashes, and no failpoint that outlives its test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from mirrord import failpoints
from mirrord.testing import DockerRegistry, require
from tests.support.commands import Desk


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def registries() -> AsyncIterator[tuple[DockerRegistry, DockerRegistry]]:
    require("docker-registry")
    async with DockerRegistry(access_log=True) as one, DockerRegistry(access_log=True) as two:
        yield one, two


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()
