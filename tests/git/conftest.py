"""The world in which Git mirrors are tested."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mirrord.syncers.git import names
from tests.support.gitworld import GitWorld, open_git_world


@pytest.fixture(autouse=True)
def _hosts_of_one_test() -> Iterator[None]:
    """What kind of host listens on a port of this machine is another matter in the next test."""
    yield
    names._parsed.cache_clear()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[GitWorld]:
    async with open_git_world(tmp_path) as made:
        yield made
