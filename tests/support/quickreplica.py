"""mirrord as a replica that counts as dead after two seconds, or `STALE`: `-m tests.support.quickreplica serve`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

from mirrord.cli import main
from mirrord.record.fleet import Fleet, Pace
from tests.support.commands import Desk, Served
from tests.support.fleets import QUICK
from tests.support.postgres import PASSWORD, Postgres

ROOT = Path(__file__).parents[2]


def shared_record(folder: Path, server: Postgres) -> str:
    """Return `settings.record` for the record of a server; its password goes into a file of the folder."""
    word = folder / "word"
    word.write_text(PASSWORD)
    word.chmod(0o400)
    return f"{{url: 'postgresql://mirrord@127.0.0.1:{server.port}/mirrord', password: {{file: {word}}}}}"


@asynccontextmanager
async def replica(
    folder: Path, server: Postgres, configuration: str, settings: str = "", *, pace: Pace = QUICK
) -> AsyncIterator[Served]:
    """Start one over `folder` that shares the record of a server, and wait until it is ready; `settings` are more."""
    folder.mkdir()
    desk = Desk(folder, PYTHONPATH=str(ROOT), STALE=str(pace.stale))
    record = shared_record(folder, server)
    desk.configure(f"settings: {{listen: '127.0.0.1:0', record: {record}, {settings}}}\n{configuration}")
    async with desk.serving(module="tests.support.quickreplica") as served:
        yield served


if __name__ == "__main__":
    pace = replace(QUICK, stale=float(os.environ.get("STALE", QUICK.stale)))
    with (
        patch("mirrord.daemon.replica.Fleet", partial(Fleet, pace=pace)),
        patch("mirrord.daemon.denied_elsewhere.EVERY", 0.2),
    ):
        main()
