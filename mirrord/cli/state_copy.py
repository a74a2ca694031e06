"""`mirrord state copy`: take the record to a database, or back into the state directory."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from mirrord.cli.console import say
from mirrord.cli.folders import concluded, config_folder, configuration, state_folder
from mirrord.daemon.lock import RECORD, StateLock, used
from mirrord.errors import UsageError
from mirrord.record.copying import copy_record
from mirrord.syncer.port import load_syncers


def state_copy(*, to: str, config: Path | None, state: Path | None) -> int:
    """Run the command and return its exit code."""
    folder = config_folder(config)
    with concluded(folder, "nothing was copied"):
        read = configuration(folder, load_syncers())
        read.require((), "nothing was copied")
    if read.record is None:
        raise UsageError(f"{folder}: no settings.record; write there which database is meant")
    place = state_folder(state, config)
    if not used(place):
        raise UsageError(f"no state in {place}: nothing has run yet, or --state is wrong")
    file = place / RECORD
    source, target = (file, read.record) if to == "postgresql" else (read.record, file)
    with StateLock(place, "state copy"):
        count = copy_record(source, target, datetime.now(UTC))
    say(f"copied {count} rows from {source} to {target}")
    return 0
