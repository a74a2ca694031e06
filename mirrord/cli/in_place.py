"""Replacing a file of the user by what was made of it."""

from __future__ import annotations

import stat
from pathlib import Path

from mirrord.errors import ConflictError
from mirrord.files import storage_errors, write_durably


def replace_file(file: Path, before: str, after: str) -> None:
    """Replace a file that still has the text `before`; its mode stays, and a link stays a link.

    Raises:
        ConflictError: somebody else has changed it, and nothing was written.
        StorageError: the disk said no.
    """
    place = file.resolve()
    with storage_errors(place):
        mode = stat.S_IMODE(place.stat().st_mode)

    def check() -> None:
        with storage_errors(place):
            now = place.read_bytes()
        if now != before.encode():
            raise ConflictError(
                f"{file}: was changed while it was read; nothing was written to it; run the command again"
            )

    write_durably(place, after.encode(), mode=mode, written=check)
