"""Git's packet lines (gitprotocol-common): four hex digits of length, then the payload. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from mirrord.errors import ContentError

FLUSH: Final = b"0000"
DELIMITER: Final = b"0001"
_LENGTH: Final = re.compile(rb"[0-9A-Fa-f]{4}")


def encode(line: str) -> bytes:
    """Write one line with its line feed."""
    return packet(line.encode() + b"\n")


def packet(payload: bytes) -> bytes:
    """Write one packet."""
    return b"%04x%b" % (len(payload) + 4, payload)


def request(command: str, capabilities: Iterable[str], arguments: Iterable[str]) -> bytes:
    """Write a command of protocol v2 (gitprotocol-v2)."""
    head = [encode(f"command={command}"), *map(encode, capabilities)]
    return b"".join([*head, DELIMITER, *map(encode, arguments), FLUSH])


def lines(body: bytes) -> Iterator[bytes]:
    """Read the lines before the first flush, without their line feeds.

    Raises:
        ContentError: that is no sequence of packet lines, or it is cut off, or it is the server's error (`ERR`).
    """
    for payload in packets(body):
        line = payload.removesuffix(b"\n")
        if line.startswith(b"ERR "):
            raise ContentError(f"the server said: {line[4:200].decode('utf-8', 'replace')}")
        yield line


def packets(body: bytes) -> Iterator[bytes]:
    """Read what packets carry before the first flush. Raises ContentError as `lines` does."""
    at = 0
    while True:
        length = body[at : at + 4]
        if not _LENGTH.fullmatch(length):  # `int` takes a sign as well, and a negative length leads back, for ever
            raise ContentError(f"no packet line at byte {at}: {body[at : at + 20]!a}")
        size = int(length, 16)
        if size == 0:
            return
        if size in (1, 2):
            at += 4
            continue
        if size == 3 or at + size > len(body):
            raise ContentError("what was sent is cut off")
        yield body[at + 4 : at + size]
        at += size
