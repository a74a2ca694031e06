"""Brings one file of unknown length to disk: hashed on the way, resumed where it broke, never longer than its cap."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO, Final

from mirrord.blobs.source import Opener
from mirrord.errors import DigestError, TooLargeError, TransportError
from mirrord.files import storage_errors
from mirrord.model.digest import Digest

TRIES: Final = 4
"""Reads of a source that break without bringing PROGRESS bytes."""
PROGRESS: Final = 1 << 20


async def verified(
    source: Opener, file: Path, digests: Collection[Digest], cap: int, tell: Callable[[int], None]
) -> tuple[Digest, int]:
    """Bring a file that has one of `digests` (any, when there are none); return its digest and size.

    Other bytes are asked for once more, from the start: a cache on the way, or a half replaced file, may heal.

    Raises:
        DigestError: it has none of them, twice.
        TooLargeError: longer than `cap`.
        TransportError: it cannot be had, or not to its end.
        StorageError: it cannot be written.
    """
    for last in (False, True):
        with storage_errors(str(file)), file.open("wb") as out:
            digest, size = await _bring(source, out, cap, tell)
        if not digests or digest in digests:
            return digest, size
        if last:
            break
    raise DigestError(f"got {size} bytes with digest {digest}, not {' or '.join(sorted(digests))}", digest)


async def _bring(source: Opener, out: BinaryIO, cap: int, tell: Callable[[int], None]) -> tuple[Digest, int]:
    hasher, size, tries = hashlib.sha256(), 0, 0
    while True:
        before, opened = size, False
        try:
            async with source(size) as chunks:
                opened = True
                async for chunk in chunks:
                    size += len(chunk)
                    if size > cap:
                        raise TooLargeError(f"more than {cap} bytes, which no chart has")
                    hasher.update(chunk)
                    out.write(chunk)
                    tell(len(chunk))
            return Digest(f"sha256:{hasher.hexdigest()}"), size
        except TransportError as error:
            tries = 1 if size - before >= PROGRESS else tries + 1
            if not opened or not error.retry or tries >= TRIES:  # to be opened was tried often enough below
                raise
