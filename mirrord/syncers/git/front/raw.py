"""One file of a cache at one ref: `/raw/<name>/<ref>/<path>`.

The entity tag is the blob's id, so it is the same at every ref that has this content. A link is its text, as on other
hosts: to follow it would give one file the tag of another. A Git LFS pointer stands for its object, when that is here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from mirrord.errors import BusyError, MissingError, TooLargeError
from mirrord.files import LocalFile
from mirrord.syncer.serving import Response, refusal
from mirrord.syncers.git.front.content_type import LOOK, headers_of
from mirrord.syncers.git.front.state import GitFront
from mirrord.wire.git.history import LINK, SUBMODULE, History, TreePath
from mirrord.wire.git.lfs import objects, pointers

LARGEST: Final = 32 << 20
SMALL: Final = 64 << 10  # what is kept in memory while it is sent
_SECONDS: Final = 30.0
_NO_FILE: Final = {
    "tree": "this is a folder; folders are not listed",
    SUBMODULE: "this is a submodule: its files are in another repository",
}
_FOREVER: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
_ASK_AGAIN: Final = {"Cache-Control": "no-cache"}


async def raw(front: GitFront, cache: Path, state: str, rest: str) -> Response:
    """Map what follows the name of a repository, whose refs are in a `state`, to content.

    Raises:
        MirrordError: the cache cannot be read.
    """
    segments = [unquote(segment, errors="surrogateescape") for segment in rest.split("/")]
    if len(segments) < 2 or not all(segments) or any("\n" in one or "\0" in one or "/" in one for one in segments):
        return refusal(404, "write /raw/NAME/REF/PATH of a file; folders are not listed")
    history = History(front.git, cache, front.walk)
    try:
        async with asyncio.timeout(_SECONDS):
            found, data = await front.recent.get((cache, state, rest), lambda: _looked(history, segments))
            return await _content(front, history, found, data, immutable=found.commit == segments[0])
    except MissingError as error:
        return refusal(404, str(error))
    except BusyError as error:
        return refusal(503, str(error))
    except TimeoutError:
        return refusal(503, "this takes too long; try again later")


async def _looked(history: History, segments: Sequence[str]) -> tuple[TreePath, bytes]:
    """Find a file, and read it when it is small. What several ask for at once is looked for once."""
    async with asyncio.timeout(_SECONDS):
        found = await history.find(segments)
        small = found.entry.kind == "blob" and found.entry.size <= SMALL
        return found, await history.blob(found.entry.oid, SMALL) if small else b""


async def _content(front: GitFront, history: History, found: TreePath, data: bytes, *, immutable: bool) -> Response:
    entry, name = found.entry, found.path.rpartition("/")[2]
    reason = _NO_FILE.get(entry.kind) or _NO_FILE.get(entry.mode)
    if reason:
        return refusal(404, reason)
    if entry.size > LARGEST:
        return refusal(413, f"this file has {entry.size} bytes, more than the {LARGEST} that are served; clone instead")
    validators = {"ETag": f'"{entry.oid}"', **(_FOREVER if immutable else _ASK_AGAIN)}
    if entry.size > SMALL:
        file = await front.blobs.file(entry.oid, lambda: history.blob(entry.oid, LARGEST))
        start = await asyncio.to_thread(_start, file) or b""
        return Response(200, {**headers_of(name, start), **validators}, LocalFile(file, 0, entry.size))
    if entry.mode == LINK:
        return Response(200, {**headers_of("", data), **validators}, data)
    if pointer := pointers.read(data):
        return await _lfs_object(history.folder, name, pointer, validators)
    return Response(200, {**headers_of(name, data[:LOOK]), **validators}, data)


async def stored_file(history: History, segments: Sequence[str], limit: int) -> bytes:
    """Return the file that the words of a URL name, as `raw` serves it. Raises MissingError, TooLargeError."""
    found = await history.find(segments)
    if reason := _NO_FILE.get(found.entry.kind) or _NO_FILE.get(found.entry.mode):
        raise MissingError(reason)
    data = await history.blob(found.entry.oid, limit)
    pointer = pointers.read(data) if found.entry.mode != LINK else None
    if pointer is None:
        return data
    file = objects.place(history.folder, pointer.oid)
    if await asyncio.to_thread(_start, file, pointer.size) is None:
        raise MissingError("this file is kept in Git LFS, and its object is not here")
    if pointer.size > limit:
        raise TooLargeError(f"this file has {pointer.size} bytes, more than {limit}")
    return await asyncio.to_thread(file.read_bytes)


async def _lfs_object(cache: Path, name: str, pointer: objects.Pointer, validators: Mapping[str, str]) -> Response:
    """Return an object of Git LFS, whatever its size: it is a file already (git-lfs specification, local storage)."""
    file = objects.place(cache, pointer.oid)
    start = await asyncio.to_thread(_start, file, pointer.size)
    if start is None:
        why = "upstream has not given it, or the mirror has `lfs: false`; `mirrord status` says more"
        return refusal(404, f"this file is kept in Git LFS, and its object is not here: {why}")
    stored = LocalFile(file, 0, pointer.size)
    return Response(200, {**headers_of(name, start), **validators, "ETag": f'"{pointer.oid}"'}, stored)


def _start(file: Path, size: int | None = None) -> bytes | None:
    try:
        if size is not None and file.lstat().st_size != size:
            return None
        with file.open("rb") as opened:
            return opened.read(LOOK)
    except OSError:
        return None
