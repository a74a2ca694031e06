"""gzip of strangers: what Python's own reader reads, bounded in linear time; what is wrong is told when met."""

from __future__ import annotations

import gzip
import io
import os
import random
import zlib
from collections.abc import Iterator

import pytest

from mirrord import gunzip as module
from mirrord.errors import ContentError, TooLargeError
from mirrord.gunzip import gunzip

TEXT = b"".join(b"line %d of many\n" % number for number in range(20_000))
NOISE = random.Random(7).randbytes(300_000)
PACKED = gzip.compress(TEXT)
LIMIT = 1 << 30


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return iter([data[at : at + size] for at in range(0, len(data), size)])


def member(data: bytes, flags: int, header: bytes) -> bytes:
    """Return a member with further fields in its header."""
    plain = gzip.compress(data, mtime=0)
    return plain[:3] + bytes([flags]) + plain[4:10] + header + plain[10:]


GOOD = {
    "one member": (PACKED, TEXT),
    "several": (PACKED + gzip.compress(NOISE) + gzip.compress(b"") + PACKED, TEXT + NOISE + TEXT),
    "padding": (PACKED + bytes(70_000) + PACKED + bytes(13), TEXT + TEXT),
    "a name": (member(TEXT, 8, b"n" * 5000 + b"\0"), TEXT),
    "all fields": (member(TEXT, 2 | 4 | 8 | 16, b"\3\0abc" + b"name\0" + b"comment\0" + b"xx"), TEXT),
    "empty": (gzip.compress(b""), b""),
    "tiny members": (gzip.compress(b"x") * 3000, b"x" * 3000),
}


@pytest.mark.parametrize("size", [1, 7, 1 << 16, 1 << 22])
@pytest.mark.parametrize(("packed", "plain"), GOOD.values(), ids=GOOD)
def test_what_gzip_reads(packed: bytes, plain: bytes, size: int) -> None:
    """Members of any kind, in pieces of any size, with what gzip takes for padding."""
    assert b"".join(gunzip(pieces(packed, size), LIMIT)) == plain
    if "fields" not in os.environ.get("PYTEST_CURRENT_TEST", ""):  # its check of a header is nonsense, which all ignore
        with gzip.open(io.BytesIO(packed)) as file:
            assert file.read() == plain


BAD = {
    "nothing": (b"", "not a gzip archive"),
    "a page": (b"<html>", "not a gzip archive"),
    "half a header": (PACKED[:9], "truncated gzip data"),
    "half": (PACKED[: len(PACKED) // 2], "truncated gzip data"),
    "no sum": (PACKED[:-8], "truncated gzip data"),
    "half a sum": (PACKED[:-3], "truncated gzip data"),
    "another sum": (PACKED[:-8] + bytes(4) + PACKED[-4:], "checksum mismatch"),
    "another length": (PACKED[:-4] + bytes(4), "checksum mismatch"),
    "garbage behind": (PACKED + b"garbage", "not gzip data"),
    "damage": (PACKED[:200] + bytes(50) + PACKED[250:], "damaged|checksum"),
    "a long name": (member(TEXT, 8, b"n" * 70_000 + b"\0"), "unterminated name"),
    "a name to the end": (PACKED[:3] + b"\x08" + PACKED[4:10] + b"n" * 100, "truncated gzip data"),
}


@pytest.mark.parametrize("size", [1, 1 << 22])
@pytest.mark.parametrize(("packed", "words"), BAD.values(), ids=BAD)
def test_what_is_wrong(packed: bytes, words: str, size: int) -> None:
    """Whatever is no gzip, damaged or cut off is refused."""
    with pytest.raises(ContentError, match=words):
        list(gunzip(pieces(packed, size), LIMIT))


@pytest.mark.parametrize("packed", [PACKED[:-8] + bytes(8), PACKED + b"garbage", PACKED[:-3]])
def test_what_is_wrong_is_told_when_it_is_met(packed: bytes) -> None:
    """All content comes before the complaint about what is behind it."""
    found = b""
    with pytest.raises(ContentError):  # noqa: PT012 - what came before is the point
        for piece in gunzip((packed,), LIMIT):
            found += piece
    assert found == TEXT


def test_only_one_member_where_only_one_may_be() -> None:
    """With `single`, nothing may follow, not even padding."""
    assert b"".join(gunzip((PACKED, b""), LIMIT, single=True)) == TEXT
    for more in (PACKED, b"\0", b"x"):
        with pytest.raises(ContentError, match="unexpected bytes after"):
            list(gunzip((PACKED, more), LIMIT, single=True))


def test_a_bomb() -> None:
    """What unpacks to more than the limit is refused before more than that, and little more than a piece, was made."""
    engine = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = engine.compress(bytes(64 << 20)) + engine.flush()
    count = 0
    with pytest.raises(TooLargeError, match="more than 1000000 bytes"):  # noqa: PT012 - what came before is the point
        for piece in gunzip((bomb,), 1_000_000):
            assert len(piece) <= 1 << 16
            count += len(piece)
    assert count <= 1_000_000
    assert len(b"".join(gunzip((bomb,), 64 << 20))) == 64 << 20


def test_tiny_members_are_read_in_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is copied for a member goes with its size: a stream of nothing but members costs no square of it."""
    given = list[int]()

    class Source(module._Source):
        def some(self, count: int) -> bytes:
            piece = super().some(count)
            given.append(len(piece))
            return piece

    monkeypatch.setattr(module, "_Source", Source)
    packed = (PACKED + gzip.compress(b"") * 2000) * 2
    assert b"".join(gunzip((packed,), LIMIT)) == TEXT + TEXT
    assert sum(given) < 40 * len(packed)
