"""Decompresses gzip (RFC 1952) of one or more members in small pieces, with a limit: 1 MiB may unpack to 1 GiB.

Errors are raised where they occur, not earlier: an archive ends where its tar does, and trailing data is not read.
Zeros after a member are padding, as in gzip and tar.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from mirrord.errors import ContentError, TooLargeError

_STEP: Final = 1 << 16
_FIRST: Final = 1 << 9  # first bytes given to a member: unused ones are copied, and members may be tiny
_LONGEST: Final = 1 << 16  # bytes of a name or comment in a header
_HEADER_SUM, _EXTRA, _NAME, _COMMENT = 2, 4, 8, 16
_ZEROS: Final = re.compile(rb"\0*+")


def gunzip(packed: Iterable[bytes], limit: int, *, single: bool = False) -> Iterator[bytes]:
    """Decompress pieces in time linear in input and output. Blocks.

    With `single`, no data may follow the first member.

    Raises:
        ContentError: damaged, truncated, or not gzip.
        TooLargeError: it unpacks to more than `limit` bytes.
    """
    source, total = _Source(packed), 0
    _past_header(source, "not a gzip archive")
    while True:
        engine, check, size, step = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0, _FIRST
        while not engine.eof:
            try:
                piece = engine.decompress(source.some(step), _STEP)
            except zlib.error as error:
                raise ContentError("damaged gzip data") from error
            source.give_back(len(engine.unused_data or engine.unconsumed_tail))
            check, size, total, step = zlib.crc32(piece, check), size + len(piece), total + len(piece), step * 2
            if total > limit:
                raise TooLargeError(f"unpacks to more than {limit} bytes")
            if piece:
                yield piece
        if source.exactly(8) != struct.pack("<II", check, size & 0xFFFFFFFF):
            raise ContentError("damaged gzip data: checksum mismatch")
        if single and source.more():
            raise ContentError("unexpected bytes after the gzip data")
        if not source.past_zeros():
            return
        _past_header(source, "not gzip data")


class _Source:
    """Pieces as one stream with push-back."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held, self._at = b"", 0

    def more(self) -> bool:
        """Return whether data is left."""
        while self._at == len(self._held):
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._held, self._at = piece, 0
        return True

    def some(self, count: int) -> bytes:
        """Return at least one byte, and at most `count` or one piece."""
        if not self.more():
            raise ContentError("truncated gzip data")
        piece = self._held[self._at : self._at + min(count, _STEP)]
        self._at += len(piece)
        return piece

    def give_back(self, count: int) -> None:
        """Push back the last bytes of the last read."""
        self._at -= count

    def exactly(self, count: int) -> bytes:
        """Return `count` bytes."""
        data = b""
        while len(data) < count:
            data += self.some(count - len(data))
        return data

    def past_zeros(self) -> bool:
        """Skip zeros; return whether data follows."""
        while self.more():
            found = _ZEROS.match(self._held, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._held):
                return True
        return False


def _past_header(source: _Source, otherwise: str) -> None:
    """Skip the header of a member."""
    if not source.more() or source.exactly(3) != b"\x1f\x8b\x08":
        raise ContentError(otherwise)
    flags = source.exactly(7)[0]
    if flags & _EXTRA:
        source.exactly(struct.unpack("<H", source.exactly(2))[0])
    for text in (_NAME, _COMMENT):
        if flags & text:
            _past_text(source)
    if flags & _HEADER_SUM:
        source.exactly(2)


def _past_text(source: _Source) -> None:
    left = _LONGEST
    while left:
        piece = source.some(min(left, _FIRST))
        end = piece.find(b"\0")
        if end >= 0:
            source.give_back(len(piece) - end - 1)
            return
        left -= len(piece)
    raise ContentError("damaged gzip data: unterminated name")
