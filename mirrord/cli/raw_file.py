"""`mirrord raw-url --fetch`: the file itself, read with the credentials of the mirrors."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from mirrord.cli.console import note, say, say_json, size
from mirrord.config.load import Configuration
from mirrord.daemon.loop import run
from mirrord.daemon.runtime import open_http
from mirrord.errors import MirrordError, about
from mirrord.events import Events
from mirrord.files import storage_errors
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.syncers.git.names import forge_at, source_address, target_address
from mirrord.wire.forges.known import canonical, forge_of
from mirrord.wire.forges.page import Page, resolved
from mirrord.wire.forges.port import Forge
from mirrord.wire.git.address import Address
from mirrord.wire.git.command import Git
from mirrord.wire.git.lsrefs import ls_refs
from mirrord.wire.http.client import Http

LARGEST: Final = 64 << 20
"""Bytes of a file."""


class _Copy(NamedTuple):
    mirror: str
    target: str  # "" for the origin
    address: Address
    forge: Forge

    def __str__(self) -> str:
        return f"{self.mirror} at {self.target or 'its origin'}"


def raw_file(file: Page, mirrors: Sequence[Mirror], read: Configuration, output: Path | None, *, json: bool) -> int:
    """Read a file that one of these mirrors has, and print or write it; return the exit code.

    Raises:
        MirrordError: no copy of it can be read; why the others could not was printed.
    """
    read.require([mirror.name for mirror in mirrors])
    copy, data = run(_first(file, list(_copies(file, mirrors)), read))
    if output is None:
        note(f"read from {copy}")
        with storage_errors("standard output"):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        return 0
    with storage_errors(output):
        output.write_bytes(data)
    if json:
        target = copy.target or None
        say_json({"file": str(output), "bytes": len(data), "mirror": copy.mirror, "target": target})
    else:
        say(f"{output}: {size(len(data))} from {copy}")
    return 0


def _copies(file: Page, mirrors: Sequence[Mirror]) -> Iterator[_Copy]:
    """Yield where the file can be read: the target that the page is of, else every target of the origin, and that."""
    named = canonical(file.address)
    found = [
        _Copy(mirror.name, target.name, target_address(mirror, target), forge_at(mirror, target))
        for mirror in mirrors
        for target in mirror.targets
        if target.name != LOCAL
    ]
    own = [copy for copy in found if canonical(copy.address, copy.forge.name) == named]
    yield from own or found
    if not own:
        origin = source_address(mirrors[0])
        yield _Copy(mirrors[0].name, "", origin, forge_of(origin))


async def _first(file: Page, copies: Sequence[_Copy], read: Configuration) -> tuple[_Copy, bytes]:
    """Return the first copy that can be read, and the file."""
    with TemporaryDirectory(prefix="mirrord-") as home:
        async with open_http(read.book, Events()) as http:
            git = Git(Path(home) / "git", http.book)
            for copy in copies[:-1]:
                try:
                    return copy, await _read(git, http, file, copy)
                except MirrordError as error:
                    note(f"not from {copy}: {error}")
            try:
                return copies[-1], await _read(git, http, file, copies[-1])
            except MirrordError as error:
                about(error, str(copies[-1]))
                raise


async def _read(git: Git, http: Http, file: Page, copy: _Copy) -> bytes:
    found = resolved(file, await ls_refs(git, http, copy.address))
    return await copy.forge.read_file(http, copy.address, found, LARGEST)
