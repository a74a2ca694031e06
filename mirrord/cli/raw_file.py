"""`mirrord raw-url --fetch`: the file itself, read with the credentials of the mirrors."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from mirrord.cli.console import note, say, say_json
from mirrord.cli.progress import shown
from mirrord.config.load import Configuration
from mirrord.daemon.lock import exists
from mirrord.daemon.loop import run
from mirrord.daemon.runtime import open_http
from mirrord.errors import MirrordError, MissingError, about
from mirrord.events import Events
from mirrord.files import beside, settle, storage_errors
from mirrord.printable import size
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.syncers.git.front.raw import stored_file
from mirrord.syncers.git.names import FOLDER, MARK, forge_at, source_address, target_address
from mirrord.wire.forges.known import canonical, forge_of
from mirrord.wire.forges.page import Page, resolved
from mirrord.wire.forges.port import Forge
from mirrord.wire.git.address import Address
from mirrord.wire.git.command import Git
from mirrord.wire.git.history import History
from mirrord.wire.git.lsrefs import ls_refs
from mirrord.wire.http.client import Http

LARGEST: Final = 64 << 20
"""Bytes of a file."""


class _Copy(NamedTuple):
    mirror: str
    target: str  # "" for the origin
    read: Callable[[Git, Http], Awaitable[bytes]]

    def __str__(self) -> str:
        return f"{self.mirror} at {self.target or 'its origin'}"


def raw_file(
    file: Page, mirrors: Sequence[Mirror], read: Configuration, state: Path, output: Path | None, *, json: bool
) -> int:
    """Read a file that one of these mirrors has, and print or write it; return the exit code.

    Raises:
        MirrordError: no copy of it can be read; why the others could not was printed.
    """
    read.require([mirror.name for mirror in mirrors])
    copy, data = run(_first(list(_copies(file, mirrors, state)), read))
    if output is None:
        note(f"read from {copy}")
        with storage_errors("standard output"):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        return 0
    with storage_errors(output):
        replace_content(output, data)
    if json:
        target = copy.target or None
        say_json({"file": str(output), "bytes": len(data), "mirror": copy.mirror, "target": target})
    else:
        say(f"{output}: {size(len(data))} from {copy}")
    return 0


def replace_content(place: Path, data: bytes) -> None:
    """Replace the content of a file of somebody else's in one atomic step; its mode stays.

    A symbolic link stays as well, and its target is replaced. A pipe or a device is written to as it is.

    Raises:
        OSError: the disk said no; the old content is still there and nothing is left beside it.
    """
    try:
        handle = os.open(place, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)  # the kernel judges links in a shared folder
    except FileNotFoundError:
        mode = None
    else:
        with os.fdopen(handle, "wb", buffering=0) as old:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                rest = memoryview(data)
                while rest:
                    rest = rest[old.write(rest) :]
                return
            mode = stat.S_IMODE(found.st_mode)
    place = place.resolve()
    fresh = beside(place)
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(data)
            settle(file, fresh, place)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _copies(file: Page, mirrors: Sequence[Mirror], state: Path) -> Iterator[_Copy]:
    """Yield where the file can be read: the target that the page is of, else every target of the origin, and that."""
    named, found, own = canonical(file.address), list[_Copy](), list[_Copy]()
    for mirror in mirrors:
        for target in mirror.targets:
            if target.name == LOCAL:
                found.append(_Copy(mirror.name, LOCAL, partial(_local, file, state / FOLDER / f"{mirror.name}.git")))
                continue
            address, forge = target_address(mirror, target), forge_at(mirror, target)
            found.append(_Copy(mirror.name, target.name, partial(_read, file, address, forge)))
            own += found[-1:] if canonical(address, forge.name) == named else ()
    yield from own or found
    if not own:
        origin = source_address(mirrors[0])
        yield _Copy(mirrors[0].name, "", partial(_read, file, origin, forge_of(origin)))


async def _first(copies: Sequence[_Copy], read: Configuration) -> tuple[_Copy, bytes]:
    """Return the first copy that can be read, and the file."""
    events = Events()
    with TemporaryDirectory(prefix="mirrord-") as home, shown(events, quiet=False):
        async with open_http(read.book, events) as http:
            git = Git(Path(home) / "git", http.book)
            for copy in copies[:-1]:
                try:
                    return copy, await copy.read(git, http)
                except MirrordError as error:
                    note(f"not from {copy}: {error}")
            try:
                return copies[-1], await copies[-1].read(git, http)
            except MirrordError as error:
                about(error, str(copies[-1]))
                raise


async def _read(file: Page, address: Address, forge: Forge, git: Git, http: Http) -> bytes:
    found = resolved(file, await ls_refs(git, http, address))
    return await forge.read_file(http, address, found, LARGEST)


async def _local(file: Page, cache: Path, git: Git, _: Http) -> bytes:
    """Read beside a daemon that may be running: nothing here changes the repository."""
    if not await asyncio.to_thread(exists, cache / MARK):
        raise MissingError(f"no run has written to local yet: {cache} is not there or not served")
    return await stored_file(History(git, cache), file.full, LARGEST)
