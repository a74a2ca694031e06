"""Which replica has a mirror, and how far its run is."""

from __future__ import annotations

from mirrord.model.remote import RunElsewhere
from mirrord.record.fleet_database import SharedDatabase
from mirrord.record.fleet_statements import HOLDER


async def run_elsewhere(database: SharedDatabase, mirror: str) -> RunElsewhere | None:
    """Return who has a mirror; None where nobody has it. StorageError as `SharedDatabase.do`."""
    for row in await database.do(HOLDER, {"mirror": mirror}):
        run = row["run"] or {}
        return RunElsewhere(mirror, row["replica"], run.get("steps"), run.get("done", 0), run.get("sent", 0))
    return None
