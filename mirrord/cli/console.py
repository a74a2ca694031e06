"""Printing: lines and tables without control characters, and JSON for machines."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from select import PIPE_BUF
from typing import Any, Final

from mirrord.printable import plain

HEX: Final = 12
"""Hexadecimal digits of a digest in output for people, as in Docker's output."""
_DIGESTS = re.compile(rf"\b(sha(?:256|512):[0-9a-f]{{{HEX}}})[0-9a-f]{{20,128}}\b")
_DIGEST = re.compile(rf"((?:\w{{1,32}}:)?[0-9a-f]{{{HEX}}})[0-9a-f]+")
_VERBATIM = re.compile(r"(`[^`]*`)")


def plain_lines(text: str) -> str:
    """Escape control characters in each line of a text."""
    return "\n".join(map(plain, text.split("\n")))


def say(text: str = "") -> None:
    """Print a line to standard output."""
    print(plain_lines(text))  # noqa: T201 - the command line prints


def note(text: str) -> None:
    """Print a line to standard error."""
    print(plain_lines(text), file=sys.stderr, flush=True)  # noqa: T201 - the command line prints


def say_json(document: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print a JSON document on one line.

    No write exceeds `PIPE_BUF`: with PYTHONUNBUFFERED, as in our container, Python drops the rest of a partial write.
    """
    text = json.dumps(document, separators=(",", ":"), default=str)
    for start in range(0, len(text), PIPE_BUF):
        print(text[start : start + PIPE_BUF], end="")  # noqa: T201 - the command line prints
    say()


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in columns that are as wide as their content."""
    lines = [tuple(head), *(tuple(map(plain, row)) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        say("  ".join(cells).rstrip())


def short(digest: str) -> str:
    """Shorten a digest or an object id for a table: `sha256:0123456789ab`, `add5a4fb9388`; a ref stays whole."""
    return found[1] if (found := _DIGEST.fullmatch(digest)) else digest


def shortened(text: str) -> str:
    """Shorten all digests in a sentence, except in backquotes: that is to be pasted."""
    return around_verbatim(text, lambda part: _DIGESTS.sub(r"\1", part))


def around_verbatim(text: str, change: Callable[[str], str]) -> str:
    """Change a sentence everywhere except in backquotes: commands and lines of configuration stay as they are."""
    parts = _VERBATIM.split(text)
    parts[::2] = map(change, parts[::2])
    return "".join(parts)
