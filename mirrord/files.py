"""Files, written so that what was said to be written is there after a power cut."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import BinaryIO, Final

_SMALL: Final = 1 << 16  # bytes of a nameless file that stay in memory


def nameless(data: bytes, folder: Path | None = None) -> BinaryIO:
    """Return a file that has no name and holds `data`, to be read from its beginning. Blocks.

    What is small must not need a disk, which may be full.

    Raises:
        OSError: there is no room for it.
    """
    file: BinaryIO = (
        os.fdopen(os.memfd_create("input"), "w+b") if len(data) <= _SMALL else tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the caller's
    )
    try:
        file.write(data)
        file.seek(0)
    except BaseException:
        with contextlib.suppress(OSError):  # what is left of it does not fit either
            file.close()
        raise
    return file
