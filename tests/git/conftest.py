"""The world in which Git mirrors are tested."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.gitworld import GitWorld, open_git_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[GitWorld]:
    async with open_git_world(tmp_path) as made:
        yield made
