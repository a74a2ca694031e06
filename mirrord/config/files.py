"""Lists the configuration files of a folder, and reads files without blocking on pipes and devices.

`*.yaml`, regular (or a link to a regular file, as a Kubernetes ConfigMap has), at most 1 MiB each, at most 1000.
Other files are skipped with a notice, `*.schema.json` without one. A `*.yaml` that is not such a file is a problem.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TypeVar

from mirrord.errors import ConfigError
from mirrord.files import open_regular

MAX_BYTES = 2**20
MAX_FILES = 1000
_MAX_NOTICES = 20
_Path = TypeVar("_Path", str, Path)


class AbsentError(ValueError):
    """Something that the configuration names is not on this machine, or not readable for this user.

    It may well be there on the machine, and for the user, that runs the mirrors.
    """


class UnreadableError(ValueError):
    """A file is not as it has to be; knows the line."""

    def __init__(self, line: int, what: str) -> None:
        """Say `what` is wrong, and what to do."""
        super().__init__(what)
        self.line = line


def absolute(path: _Path, called: str | None = None) -> _Path:
    """Return a path that begins at the root: what another one means depends on where mirrord was started.

    Raises:
        ValueError: it does not. It is quoted, or `called` something else: "" where the caller names it.
    """
    if not Path(path).is_absolute():
        name = repr(str(path)[:80]) if called is None else called
        raise ValueError(f"{name} is not absolute; write an absolute path".lstrip())
    return path


def list_folder(folder: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """List the configuration files of a folder in lexical order, and what was skipped, one sentence each.

    Raises:
        ConfigError: it is not a folder, cannot be read, or has no `*.yaml` file or more than 1000.
    """
    try:
        names = sorted(path.name for path in folder.iterdir())
    except NotADirectoryError as error:
        raise ConfigError(f"{folder}: is a file; give the folder that it is in, --config {folder.parent}") from error
    except FileNotFoundError as error:
        raise ConfigError(f"{folder}: does not exist; make it, or give another folder with --config") from error
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read ({error.strerror}); make it readable for this user") from error
    # Editors leave `.#x.yaml` and `.x.yaml.swp`, Kubernetes `..data`: a leading dot is never the operator's own file.
    files = [name for name in names if name.endswith(".yaml") and not name.startswith(".")]
    if not files:
        if other := next((name for name in names if name.endswith(".yml")), ""):
            raise ConfigError(f"{folder / other}: only *.yaml files are read; rename it to {other[:-3]}yaml")
        raise ConfigError(f"{folder}: contains no *.yaml file; write one, or give another folder with --config")
    if len(files) > MAX_FILES:
        raise ConfigError(f"{folder}: holds {len(files)} *.yaml files, more than {MAX_FILES}; join some of them")
    # `mirrord init` writes a schema for editors beside its file.
    others = [name for name in names if name not in set(files) and not name.startswith("..") and not _is_list(name)]
    others = [name for name in others if not name.endswith(".schema.json")]
    notices = [_skipped(folder, name) for name in others[:_MAX_NOTICES]]
    if len(others) > _MAX_NOTICES:
        notices.append(f"{folder}: {len(others) - _MAX_NOTICES} more files skipped")
    return tuple(folder / name for name in files), tuple(notices)


def _is_list(name: str) -> bool:
    """Whether a file may be a list of images, which is read by the mirror that names it."""
    return name.endswith(".txt") and not name.endswith((".yaml.txt", ".yml.txt"))


def _skipped(folder: Path, name: str) -> str:
    if name.startswith("."):
        return f"{folder / name}: skipped, files whose names begin with a dot are not read"
    better = f"; rename it to {name[:-3]}yaml" if name.endswith(".yml") else ""
    return f"{folder / name}: skipped, only *.yaml files are read{better}"


def read_file(path: Path, limit: int) -> tuple[bytes, int]:
    """Return the bytes and the permission bits of a small regular file; never waits for a pipe, never reads a device.

    Raises:
        AbsentError: it does not exist, or this user may not read it.
        ValueError: it is not a regular file, cannot be read, or is longer than `limit` bytes; says what to do.
    """
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            data, mode = file.read(limit + 1), os.fstat(file.fileno()).st_mode
    except FileNotFoundError as error:
        raise AbsentError("does not exist; make it, or correct the path") from error
    except PermissionError as error:
        raise AbsentError(f"cannot be read ({error.strerror}); make it readable for this user") from error
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror}); correct the path") from error
    if len(data) > limit:
        raise ValueError(f"is longer than {limit} bytes; split it, or give another file")
    return data, stat.S_IMODE(mode)


def text_of(data: bytes) -> str:
    """Return the text of a file, with its byte order mark.

    Raises:
        UnreadableError: it is not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnreadableError(line, f"is not UTF-8 (byte {error.start}); save it as UTF-8") from error
