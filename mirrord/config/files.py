"""Which files of a folder are configuration, and reading files without hanging on what is none.

`*.yaml`, regular (or a link to a regular file, as a Kubernetes ConfigMap has), at most 1 MiB each, at most 1000.
Everything else is passed over with a notice; what is named `*.yaml` and cannot be one is a problem.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mirrord.errors import ConfigError
from mirrord.files import open_regular

MAX_BYTES = 2**20
MAX_FILES = 1000
_MAX_NOTICES = 20


def list_folder(folder: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """List the configuration files of a folder in lexical order, and what was passed over, one sentence each.

    Raises:
        ConfigError: it is no folder, cannot be read, has no `*.yaml` file or more than 1000.
    """
    try:
        names = sorted(path.name for path in folder.iterdir())
    except NotADirectoryError as error:
        raise ConfigError(f"{folder}: is a file; give the folder it is in") from error
    except FileNotFoundError as error:
        raise ConfigError(f"{folder}: does not exist; make it, or give another folder with -c") from error
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read ({error.strerror}); make it readable for this user") from error
    # Editors leave `.#x.yaml` and `.x.yaml.swp`, Kubernetes `..data`: a leading dot is never the operator's own file.
    files = [name for name in names if name.endswith(".yaml") and not name.startswith(".")]
    if not files:
        raise ConfigError(f"{folder}: holds no *.yaml file; write one, or give another folder with -c")
    if len(files) > MAX_FILES:
        raise ConfigError(f"{folder}: holds {len(files)} *.yaml files, more than {MAX_FILES}; join some of them")
    others = [name for name in names if name not in set(files) and not name.startswith("..")]
    notices = [f"{folder / name}: skipped, only *.yaml files are read" for name in others[:_MAX_NOTICES]]
    if len(others) > _MAX_NOTICES:
        notices.append(f"{folder}: {len(others) - _MAX_NOTICES} more files skipped")
    return tuple(folder / name for name in files), tuple(notices)


def read_file(path: Path, limit: int) -> tuple[bytes, int]:
    """Return the bytes and the permission bits of a small regular file; never waits for a pipe, never reads a device.

    Raises:
        ValueError: no regular file, cannot be read, longer than `limit` bytes; says what to do.
    """
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            data, mode = file.read(limit + 1), os.fstat(file.fileno()).st_mode
    except FileNotFoundError as error:
        raise ValueError("does not exist; make it, or correct the path") from error
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror}); make it readable for this user") from error
    if len(data) > limit:
        raise ValueError(f"is longer than {limit} bytes; split it, or give another file")
    return data, stat.S_IMODE(mode)
