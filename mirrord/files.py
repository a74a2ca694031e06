"""Files that are old or new after a crash, never a mix: their bytes reach the disk, then their name, then the folder.

Everything here blocks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Final

from mirrord.errors import ContentError, DigestError, MirrordError, MissingError, StorageError, TooLargeError

STEP: Final = 1 << 20  # bytes of a local file that are read at once
_SMALL: Final = 1 << 16  # bytes of a nameless file that stay in memory
_NAMED: Final = 200  # bytes of a name; file systems take 255
_NO_LINKS: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP})
_ADVICE: Final = {
    errno.EACCES: "; give the user of mirrord access, or name another place",
    errno.ENOSPC: "; free some space",
    errno.ENOTDIR: "; a file stands where a folder is needed: name another place",
    errno.EROFS: "; make it writable, or name another place",
}


@contextlib.contextmanager
def storage_errors(what: object, advice: str = "", *, missing: bool = False) -> Iterator[None]:
    """Turn what the operating system says into a StorageError that names `what`, and says what to do.

    Without `advice` that depends on the error. With `missing`, what is not there becomes a MissingError.
    """
    try:
        yield
    except OSError as error:
        if missing and isinstance(error, FileNotFoundError | NotADirectoryError):
            raise MissingError(f"{what}: no such file; correct the path") from error
        advice = advice or _ADVICE.get(error.errno or 0, "")
        raise StorageError(f"{what}: {error.strerror or error}{advice}") from error


def sync(path: Path) -> None:
    """Make a file's bytes durable, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents, each name durable; nobody else may look into what is new."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    sync(folder.parent)


def beside(place: Path) -> Path:
    """Return a name that nobody has, for what will take a place; sweeps know it by `.*.tmp`."""
    name = os.fsdecode(os.fsencode(place.name)[:_NAMED])
    return place.with_name(f".{name}.{secrets.token_hex(4)}.tmp")


def nothing() -> None:
    """Do nothing: for who need not hear of it, and for who cannot be asked to stop."""


def settle(
    file: IO[bytes],
    fresh: Path,
    place: Path,
    *,
    written: Callable[[], None] = nothing,
    named: Callable[[], None] = nothing,
) -> None:
    """Give an open file that was written as `fresh` its place, durably; the callbacks hear of the steps between."""
    file.flush()
    os.fsync(file.fileno())
    written()
    fresh.replace(place)
    named()
    sync(place.parent)


def write_durably(
    place: Path,
    data: bytes,
    *,
    mode: int = 0o600,
    written: Callable[[], None] = nothing,
    named: Callable[[], None] = nothing,
) -> None:
    """Replace a file by `data` in one atomic step, see `settle`; `mode` has its permission bits.

    Raises:
        StorageError: the disk said no; the old content is still there and nothing is left beside it.
    """
    fresh = beside(place)
    with storage_errors(place):
        make_folder(place.parent)
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), mode)
                settle(file, fresh, place, written=written, named=named)
        except (OSError, MirrordError):  # the latter of `written`
            fresh.unlink(missing_ok=True)
            raise


def append_durably(place: Path, length: int, data: bytes, *, written: Callable[[], None] = nothing) -> None:
    """Write `data` behind the first `length` bytes of a file of ours, and nothing else behind them.

    A crash leaves some of `data`, or all of it: who reads must know an end that is none.

    Raises:
        StorageError: the disk said no; what was written is taken back.
    """
    with storage_errors(place), place.open("r+b", buffering=0) as file:
        try:
            file.truncate(length)
            file.seek(length)
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            written()
            os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                file.truncate(length)
            raise


def link_durably(file: Path, place: Path, *, named: Callable[[], None] = nothing) -> None:
    """Give a finished file a second name, or copy it where the file system has no hard links.

    Raises:
        OSError: the disk said no; nothing is left behind.
    """
    make_folder(place.parent)
    sync(file)
    try:
        os.link(file, place)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        fresh = beside(place)
        try:
            with file.open("rb") as source, fresh.open("xb") as target:
                shutil.copymode(file, fresh)  # before there is anything to read
                shutil.copyfileobj(source, target, 1 << 20)
                settle(target, fresh, place)
        finally:
            fresh.unlink(missing_ok=True)
    named()
    sync(place.parent)


def open_regular(path: Path) -> int:
    """Open a regular file for reading and return its descriptor; never waits for a pipe, never opens a device.

    Raises:
        IrregularError: it is something else.
        OSError: it cannot be opened.
    """
    _check_regular(path.stat())  # before opening as well, because opening a device may already do something
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        _check_regular(os.fstat(handle))
    except IrregularError:
        os.close(handle)
        raise
    return handle


class IrregularError(ValueError):
    """Something is no regular file; says what it is."""


def _check_regular(found: os.stat_result) -> None:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    if not stat.S_ISREG(found.st_mode):
        raise IrregularError(f"is {kinds.get(stat.S_IFMT(found.st_mode), 'a device')}; only regular files can be read")


def open_content(path: Path) -> int:
    """Open a regular file of somebody else's, as `open_regular` does.

    Raises:
        MissingError: there is none.
        ContentError: it is a folder, a device or a pipe.
        StorageError: it cannot be opened.
    """
    try:
        with storage_errors(path, missing=True):
            return open_regular(path)
    except IrregularError as error:
        raise ContentError(f"{path}: not a regular file") from error


def read_content(path: Path, cap: int) -> bytes:
    """Return a regular file of somebody else's as it is at one moment, although another may take its place.

    Raises as `open_content`; TooLargeError says that there are more than `cap` bytes.
    """
    with storage_errors(path), os.fdopen(open_content(path), "rb") as file:
        data = file.read(cap + 1)
    if len(data) > cap:
        raise TooLargeError(f"{path}: more than {cap} bytes, which is the limit")
    return data


@dataclass(frozen=True, slots=True)
class LocalFile:
    """Content in a file of this machine: `size` bytes from `offset`; a blob of a layout folder, a member of a tar."""

    path: Path
    offset: int
    size: int

    @classmethod
    def whole(cls, path: Path) -> LocalFile | None:
        """Return all of the regular file at `path`, or None when there is none; StorageError: nobody knows."""
        with storage_errors(str(path)), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found = path.stat()
            return cls(path, 0, found.st_size) if stat.S_ISREG(found.st_mode) else None
        return None

    @classmethod
    def of(cls, path: Path) -> LocalFile:
        """Return all of the regular file at `path`, which shall be there. Raises as `open_content`."""
        handle = open_content(path)
        try:
            return cls(path, 0, os.fstat(handle).st_size)
        finally:
            os.close(handle)

    def load(self, cap: int) -> bytes:
        """Read everything into memory; TooLargeError says that there are more than `cap` bytes. Raises as `pieces`."""
        if self.size > cap:
            raise TooLargeError(f"{self.path}: {self.size} bytes, more than the limit of {cap}")
        return b"".join(self.pieces())

    def pieces(self, alive: Callable[[], None] = nothing) -> Iterator[bytes]:
        """Read in steps; `alive` is called before each and may raise to end it.

        Raises:
            DigestError: the file became shorter.
        """
        handle = open_content(self.path)
        try:
            done = 0
            while done < self.size:
                alive()
                with storage_errors(self.path):
                    piece = os.pread(handle, min(STEP, self.size - done), self.offset + done)
                if not piece:
                    why = f"ended after {done} of {self.size} bytes; it was changed while it was read"
                    raise DigestError(f"{self.path}: {why}")
                done += len(piece)
                yield piece
        finally:
            os.close(handle)


def nameless(data: bytes, folder: Path | None = None) -> BinaryIO:
    """Return a file that has no name and holds `data`, to be read from its beginning.

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
