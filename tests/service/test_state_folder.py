"""The page on the state directory names what is there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mirrord.testing.running import run
from mirrord.testing.servers import require
from mirrord.testing.stage import open_stage

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "state.md"


async def test_the_page_names_every_entry_of_a_real_state_directory() -> None:
    """After runs of images, charts and a repository, while the daemon runs: each entry has a row, each row an entry."""
    require("git")
    rows = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(), re.MULTILINE)
    async with open_stage() as stage:
        words = ("-m", "mirrord", "sync", "-c", stage.folder / "conf.d", "--state", stage.state)
        ran = await run(sys.executable, *words, seconds=120)
        assert ran.status == 0, ran.output
        found = {f"{entry.name}{'/' if entry.is_dir() else ''}" for entry in stage.state.iterdir()}
    beside = {"mirrord.db-wal", "mirrord.db-shm"}  # told with their database
    assert found - beside == set(rows)
