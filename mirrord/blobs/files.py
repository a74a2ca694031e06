"""Durable files: old or new after a crash, never a mix (write, fsync, rename, fsync of the folder)."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from mirrord.errors import StorageError


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents, each name durable."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    sync_folder(folder.parent)


@contextlib.contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn what the operating system says into a StorageError that names `what`."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{what}: {error.strerror or error}") from error


def write_durably(path: Path, data: bytes, *, written: Callable[[], None], renamed: Callable[[], None]) -> None:
    """Replace `path` by `data` in one atomic step; `written` and `renamed` are called between the steps.

    Raises:
        StorageError: the disk said no; the old content is still there and nothing is left beside it.
    """
    fresh = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    with storage_errors(str(path)):
        make_folder(path.parent)
        try:
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            written()
            fresh.replace(path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        renamed()
        sync_folder(path.parent)
