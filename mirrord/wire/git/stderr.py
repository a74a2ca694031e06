"""What git said on its error stream, made fit for people: each line once, bounded, without secrets. Pure."""

from __future__ import annotations

import re
from typing import Final

from mirrord.wire.secret import redact

LONGEST: Final = 16 * 1024
"""Characters that are kept of all that one process said (a damaged cache makes git say one line a thousand times)."""
_HEAD: Final = LONGEST // 4  # the first lines tell the cause, the last ones the outcome
_LINE: Final = 2048
_ENDS: Final = re.compile(rb"[\r\n]")
_PROGRESS: Final = re.compile(rb"(?:remote: )?[A-Z][A-Za-z ]+: +\d+% ")


class ErrorText:
    """Collects an error stream; what it holds does not grow with what is said."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._lines: list[bytes] = []
        self._size = 0
        self._rest = b""

    def add(self, piece: bytes) -> None:
        """Take the next bytes of the stream."""
        *lines, self._rest = _ENDS.split(self._rest + piece)
        self._rest = self._rest[:_LINE]
        for line in lines:
            self._take(line)

    def text(self) -> str:
        """Return what was said so far, redacted, lines joined by line feeds."""
        self._take(self._rest)
        self._rest = b""
        return redact("\n".join(map(_read, self._lines)))[:LONGEST]

    def _take(self, line: bytes) -> None:
        if len(line) >= _LINE:
            line = line[:_LINE].rpartition(b" ")[0]  # at a blank: half a secret would not be known as one
        line = line.rstrip()
        if line in self._seen or not line or _PROGRESS.match(line):
            return
        self._seen.add(line)
        self._lines.append(line)
        self._size += len(line) + 1
        while self._size > LONGEST:
            gone = self._lines.pop(self._middle())
            self._seen.discard(gone)
            self._size -= len(gone) + 1

    def _middle(self) -> int:
        """Return the first line beyond the head: that one goes when there are too many."""
        size = 0
        for number, line in enumerate(self._lines):
            size += len(line) + 1
            if size > _HEAD:
                return number
        return 0


def _read(line: bytes) -> str:
    """Decode a line; git takes what a host says without a charset for Latin-1, and writes that as UTF-8 once more."""
    text = line.decode("utf-8", "replace")
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
