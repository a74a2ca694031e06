"""Files of certificates and keys that a configuration names, looked at when it is read."""

from __future__ import annotations

from pathlib import Path

from mirrord.config.files import AbsentError, read_file
from mirrord.config.lines import Problems, Trail

_MAX_PEM = 4 * 2**20


def readable(path: str, trail: Trail, problems: Problems) -> bool:
    """Return whether a file can be read; else the problem is added, or noted when only this machine lacks the file."""
    if not Path(path).is_absolute():
        problems.add(trail, f"{path} is not absolute; write an absolute path")
        return False
    try:
        read_file(Path(path), _MAX_PEM)
    except ValueError as error:
        note = problems.lack if isinstance(error, AbsentError) else problems.add
        note(trail, f"{path} {error}")
        return False
    return True
