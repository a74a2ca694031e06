"""Messages as services take them: within their limits, and without markup that a name or an error brings along. Pure.

Chat services read some characters of a text as markup: links, bold type, and mentions that ring the phone of everybody.
Some have no way to escape them; there such a character is replaced by one that looks alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from mirrord.printable import plain
from mirrord.wire.notify.message import Message

LINES: Final = 20
"""Notices in one message; nobody reads more on a phone."""
_LINE: Final = 600  # bytes of one notice before it is escaped
_FULL_WIDTH: Final = str.maketrans("<>[]*`", "＜＞［］＊'")  # noqa: RUF001 - these are meant
_MENTION: Final = re.compile(r"@(?!sha\d{3}:)")

Escape = Callable[[str], str]
Measure = Callable[[str], int]


def in_bytes(text: str) -> int:
    """Return the length of a text in UTF-8."""
    return len(text.encode("utf-8", "replace"))


def in_utf16(text: str) -> int:
    """Return the length of a text in units of UTF-16."""
    return len(text.encode("utf-16-le", "replace")) // 2


def cut(text: str, limit: int) -> str:
    """Return a text of at most `limit` bytes in UTF-8, cut between two characters, where it ends with `…`."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= limit else data[: max(0, limit - 3)].decode("utf-8", "ignore") + "…"


def unmentioned(text: str) -> str:
    """Return a text in which no `@` begins a mention; digests stay as they are."""
    return _MENTION.sub("＠", text)  # noqa: RUF001 - it is meant


def harmless(text: str) -> str:
    """Return a text without markup, for services that have no escapes."""
    return unmentioned(text.translate(_FULL_WIDTH))


def fitted(message: Message, limit: int, escape: Escape, *, measure: Measure = in_bytes, between: str = "\n") -> str:
    """Return title, notices and link as one text of at most `limit`; what has no room is counted in the last line.

    Args:
        message: what to say.
        limit: the longest text that the service takes, as `measure` counts it.
        escape: takes markup out of a text.
        measure: counts.
        between: separates lines.
    """
    link = [message.link] if message.link else []
    head = [_line(message.title, limit // 4, escape, measure)]
    lines = [_line(line, limit // 2, escape, measure) for line in message.lines[:LINES]]
    while True:
        left = len(message.lines) - len(lines)
        more = [escape(message.more(left))] if left else []
        text = between.join([*head, *lines, *more, *link])
        if measure(text) <= limit or not lines:
            return text
        lines.pop()


def _line(text: str, limit: int, escape: Escape, measure: Measure) -> str:
    """Return a text in one line; it may get longer by escapes, so it is cut until it fits."""
    size = min(_LINE, limit)
    line = escape(cut(plain(text), size))
    while measure(line) > limit:
        size = size * 3 // 4
        line = escape(cut(plain(text), size))
    return line
