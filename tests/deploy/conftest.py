"""The image of this repository, built once for the tests of a process, and a booted machine for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.testing.servers import require
from tests.support.booted import Machine, booted, unbootable
from tests.support.container import TOOLS, ContainerImage, built_image, unbuildable


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> ContainerImage:
    require(*TOOLS)
    if reason := unbuildable():
        pytest.skip(reason)
    return built_image(tmp_path_factory.mktemp("image"))


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    require("systemd-nspawn")
    if reason := unbootable():
        pytest.skip(reason)
    async with booted(tmp_path) as one:
        yield one
