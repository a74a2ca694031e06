"""gzip (RFC 1952) of one or more members, in small pieces and bounded.

What is wrong is told when it is come to, and not before: an archive ends where its tar does, and what a server or a
tool put behind that is read by nobody (gzip and tar themselves take it for padding).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final

from mirrord.errors import ContentError, TooLargeError

TOTAL: Final = 100 << 20
"""Bytes that an archive may unpack to."""

_STEP = 1 << 16
_LONGEST = 1 << 16  # bytes of a name or comment in a header
_HEADER_SUM, _EXTRA, _NAME, _COMMENT = 2, 4, 8, 16


def inflated(archive: BinaryIO) -> Iterator[bytes]:
    """Decompress. Blocks.

    Raises:
        ContentError: damaged, cut off, or something that is no gzip.
        TooLargeError: it unpacks to more than `TOTAL` bytes.
    """
    total = 0
    while _begins(archive, first=total == 0):
        engine, check, size = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0
        data = b""
        while not engine.eof:
            data = data or archive.read(_STEP)
            if not data:
                raise ContentError("gzip data that is cut off")
            try:
                piece = engine.decompress(data, _STEP)
            except zlib.error as error:
                raise ContentError("damaged gzip data") from error
            data = engine.unconsumed_tail
            check, size, total = zlib.crc32(piece, check), size + len(piece), total + len(piece)
            if total > TOTAL:
                raise TooLargeError(f"unpacks to more than {TOTAL} bytes")
            if piece:
                yield piece
        archive.seek(-len(engine.unused_data), os.SEEK_CUR)
        if _exactly(archive, 8) != struct.pack("<II", check, size & 0xFFFFFFFF):
            raise ContentError("damaged gzip data: another check sum")


def _begins(archive: BinaryIO, *, first: bool) -> bool:
    """Read past the header of a member; say whether there is one.

    Raises:
        ContentError: there is something else, or not all of it.
    """
    start = archive.read(10)
    while start and not first and not start.strip(b"\0"):  # padding, as of a tape
        start = archive.read(10)
    if not start and not first:
        return False
    if start[:3] != b"\x1f\x8b\x08":
        raise ContentError("something that is no archive" if first else "something that is no gzip data")
    flags = start[3] if len(start) == 10 else 0
    if len(start) < 10:
        raise ContentError("gzip data that is cut off")
    if flags & _EXTRA:
        _exactly(archive, struct.unpack("<H", _exactly(archive, 2))[0])
    for text in (_NAME, _COMMENT):
        if flags & text:
            _past_text(archive)
    if flags & _HEADER_SUM:
        _exactly(archive, 2)
    return True


def _past_text(archive: BinaryIO) -> None:
    for _ in range(_LONGEST):
        if _exactly(archive, 1) == b"\0":
            return
    raise ContentError("damaged gzip data: a name without an end")


def _exactly(archive: BinaryIO, count: int) -> bytes:
    data = archive.read(count)
    if len(data) < count:
        raise ContentError("gzip data that is cut off")
    return data
