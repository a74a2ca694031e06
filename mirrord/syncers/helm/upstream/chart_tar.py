"""The files in a chart archive, read from a stream of gzip and tar, bounded, and never written anywhere.

Python's `tarfile` is not used on what strangers made: damaged headers have sent it round in circles and its filters
were bypassed (CVE-2024-6232, CVE-2025-8194, CVE-2025-4517). Archives are read as helm's loader reads them, since their
bytes are what the index says: what follows the end of the tar, and members without content of their own, concern
nobody. Names that lead out of the chart's folder are refused. Limits are those of helm's loader (CVE-2025-32386: a
chart that unpacks to 800 times its size).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Final

from mirrord.errors import ContentError, TooLargeError
from mirrord.gunzip import gunzip
from mirrord.wire.number import whole

TOTAL: Final = 100 << 20
"""Bytes that an archive may unpack to."""
SINGLE: Final = 5 << 20
"""Bytes of a file that is wanted."""
MEMBERS: Final = 20_000
"""Members, folders and extended headers included; the largest real charts have hundreds."""

_STEP = 1 << 16
_EXTENDED = 1 << 20  # longest extended header: as in Go's archive/tar
_BLOCK = 512
_NUMBER = re.compile(rb"[ \0]*+([0-7]*+)[ \0]*+")
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
_RECORD = re.compile(rb"([1-9][0-9]{0,7}) ")
_EMPTY = {"1": "a hard link", "2": "a symbolic link", "3": "a device", "4": "a device", "6": "a pipe"}

Note = Callable[[str], None]
"""Hears, a clause each, of what is odd about an archive, and no reason to refuse it."""


def files(archive: BinaryIO, wanted: Callable[[str], bool], note: Note) -> Iterator[tuple[str, bytes]]:
    """Yield those files of a chart archive whose names are `wanted`; it is read to the end of its tar. Blocks.

    Names are handed out without the top folder, which helm drops, and with `/` between their parts.

    Raises:
        ContentError: damaged or cut off before its end, or with a member that leads out of the chart's folder (an
            absolute name, `..`, a file outside of the top folder) or that has parts elsewhere (a sparse file).
        TooLargeError: a limit of this module.
    """
    tape = _Tape(gunzip(iter(partial(archive.read, _STEP), b""), TOTAL))
    extended: dict[str, str] = {}
    count = 0
    while (block := tape.read(_BLOCK)).strip(b"\0"):
        count += 1
        if count > MEMBERS:
            raise TooLargeError(f"more than {MEMBERS} members")
        header = _Header.parse(block)
        if header.kind in "xgLK":
            extended |= _extension(header, tape)
            continue
        name, size = _merged(header, extended)
        extended = {}
        inner = _inner(name)
        if header.kind == "5":
            continue
        if not inner:
            raise ContentError(f"member {name[:200]!a} lies outside of the chart's folder")
        if header.kind == "S":
            raise ContentError(f"member {name[:200]!a} is a sparse file")
        if header.kind in _EMPTY:
            note(f"member {name[:200]!a} is {_EMPTY[header.kind]}, which helm reads as an empty file")
            size = 0
        if size > (limit := SINGLE if wanted(inner) else TOTAL):
            raise TooLargeError(f"member {name[:200]!a} has {size} bytes, at most {limit} are allowed")
        if wanted(inner):
            yield inner, tape.content(size)
        else:
            tape.skip(size)
    _end(tape, note)


def _end(tape: _Tape, note: Note) -> None:
    """See whether something follows that helm does not read any more."""
    second = tape.read(_BLOCK)
    if second.strip(b"\0"):
        raise ContentError("damaged: a member after half an end mark")
    try:
        while data := tape.read(_STEP):
            if data.strip(b"\0"):
                note("something follows the end of the archive")
                return
    except ContentError as error:
        note(f"after the end of the archive: {error}")


@dataclass(frozen=True, slots=True)
class _Header:
    """One block before a member (POSIX.1-1988 ustar, and what GNU tar makes of it)."""

    name: str
    size: int
    kind: str

    @classmethod
    def parse(cls, block: bytes) -> _Header:
        if len(block) < _BLOCK:
            raise ContentError("cut off in the header of a member")
        total = sum(block) - sum(block[148:156]) + 8 * 0x20
        signed = total - 256 * sum(byte > 0x7F for byte in block[:148] + block[156:])  # as some old tars count
        if _number(block[148:156]) not in (total, signed):
            raise ContentError("damaged: the header of a member has another check sum")
        name = _text(block[:100])
        if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
            name = f"{prefix}/{name}"
        kind = chr(block[156])
        if kind == "\0":  # before POSIX a folder was a name with a slash at its end
            kind = "5" if name.endswith("/") else "0"
        return cls(name, _number(block[124:136]), kind)


class _Tape:
    """What comes out of the decompressor, handed out in the pieces that tar is made of."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""
        self._at = 0  # in what is held

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes, or fewer at the end."""
        return b"".join(self._pull(count))

    def content(self, size: int) -> bytes:
        """Return the content of a member."""
        data = self.read(size)
        self._past(size, len(data))
        return data

    def skip(self, size: int) -> None:
        """Drop the content of a member."""
        self._past(size, sum(map(len, self._pull(size))))

    def _pull(self, count: int) -> Iterator[bytes]:
        while count:
            if self._at == len(self._held):
                self._held, self._at = next(self._pieces, b""), 0
                if not self._held:
                    return
            piece = self._held[self._at : self._at + count]
            self._at += len(piece)
            count -= len(piece)
            yield piece

    def _past(self, size: int, got: int) -> None:
        if got < size:
            raise ContentError("cut off in the content of a member")
        self.read(-size % _BLOCK)


def _extension(header: _Header, tape: _Tape) -> Mapping[str, str]:
    """Return what an extended header says about the next member; global ones say nothing, as in Go's archive/tar."""
    if header.size > _EXTENDED:
        raise TooLargeError(f"an extended header has {header.size} bytes, at most {_EXTENDED} are allowed")
    data = tape.content(header.size)
    if header.kind == "x":
        return _records(data)
    return {"path": _text(data)} if header.kind == "L" else {}


def _records(data: bytes) -> Mapping[str, str]:
    """Parse lines of `<length> <key>=<value>` (POSIX.1-2001, pax)."""
    found, at = {}, 0
    while at < len(data):
        length = _RECORD.match(data, at)
        end = at + int(length[1]) if length else 0
        if length is None or not length.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise ContentError("damaged: an extended header that cannot be read")
        key, _, value = data[length.end() : end - 1].decode("utf-8", "replace").partition("=")
        if key.startswith("GNU.sparse."):
            raise ContentError("a sparse file, which no chart needs")
        found[key] = value
        at = end
    return found


def _merged(header: _Header, extended: Mapping[str, str]) -> tuple[str, int]:
    written = extended.get("size")
    size = whole(written) if written else header.size
    if size is None:
        raise ContentError("damaged: an extended header with a size that is no number")
    return extended.get("path") or header.name, size


def _inner(name: str) -> str:
    """Return a member's name below the top folder, "" when it has none there.

    Backslashes separate when there are any: archives made on Windows have them, and helm reads them so.
    """
    if name.startswith(("/", "\\")) or _DRIVE.match(name):
        raise ContentError(f"member {name[:200]!a} has an absolute name")
    if "\0" in name or ("/" in name and "\\" in name):
        raise ContentError(f"member {name[:200]!a} has a name that can be read in two ways")
    parts = name.replace("\\", "/").split("/")
    if ".." in parts:
        raise ContentError(f"member {name[:200]!a} leads out of the chart")
    inner = "/".join(part for part in parts[1:] if part not in ("", "."))
    if _DRIVE.match(inner):
        raise ContentError(f"member {name[:200]!a} has an absolute name")
    return inner


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def _number(field: bytes) -> int:
    """Read an octal number, or a binary one as GNU tar writes it when there is no room for octal."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    octal = _NUMBER.fullmatch(field)
    if octal is None:
        raise ContentError("damaged: the header of a member holds no number where one must be")
    return int(octal[1] or b"0", 8)
