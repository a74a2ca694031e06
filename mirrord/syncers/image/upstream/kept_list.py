"""The last good allow list of `front.image`, in the state directory: in use after a start while the file is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from mirrord.errors import MissingError, UsageError
from mirrord.files import read_content, write_durably
from mirrord.names.allows import AllowEntry, parse_allow
from mirrord.names.lists import ListLine

_MOST: Final = 1 << 28  # bytes; a list of the longest names takes less


class KeptList(NamedTuple):
    """A list that was in use.

    Attributes:
        file: where its lines were; None for the configuration.
        entries: its lines, in names to which aliases were applied.
    """

    file: Path | None
    entries: Sequence[AllowEntry]


def keep_list(place: Path, kept: KeptList) -> None:
    """Write a list, unless this very list is there already. Blocks.

    Raises:
        StorageError: the disk refuses it; the list before it is still there.
    """
    lines = [[entry.line, entry.text] for entry in kept.entries]
    data = json.dumps({"file": str(kept.file or ""), "lines": lines}, indent=0).encode()
    try:
        if read_content(place, _MOST) == data:
            return
    except MissingError:
        pass
    write_durably(place, data)


def kept_list(place: Path) -> KeptList | None:
    """Return the list that was kept, or None where there is none. Blocks.

    Raises:
        ValueError: the file says nothing.
        MirrordError: it cannot be read.
    """
    try:
        found = json.loads(read_content(place, _MOST))
        entries = [parse_allow(ListLine(int(number), str(text), "")) for number, text in found["lines"]]
        return KeptList(Path(found["file"]) if found["file"] else None, entries)
    except MissingError:
        return None
    except (LookupError, TypeError, ValueError, UsageError) as error:
        raise ValueError(f"{place}: is damaged") from error
