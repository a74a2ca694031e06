"""Regular expressions that strangers write, in RE2's syntax (that of Go): matching takes time linear in the text.

A thread that matches goes on when its run is cancelled: 4 ms at most for a tag and a pattern of the greatest size, so
that the longest list of a registry (100 000 tags) ends after 7 minutes, and with usual patterns within a second.

Importing google-re2 takes 2 ms and 2.6 MiB, so it is imported with the first pattern (ADR 25).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from mirrord.errors import UsageError

LONGEST: Final = 4096  # characters of a pattern
_MEMORY: Final = 1 << 18  # bytes that one pattern may take, compiled and at work: the biggest needs 4 ms for a tag
_MISSING: Final = frozenset({"(?=", "(?!", "(?<", *(f"\\{digit}" for digit in range(1, 10))})
# What may hold a `|` that separates nothing: escapes, quoted text, classes. One without an end is all that is left.
_TOKEN: Final = re.compile(
    r"\\Q(?:.*?\\E|.*)|\\[pP]\{[^}]*(?:\}|\Z)|\\."
    r"|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*(?:\]|\\?\Z)|.",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled regular expression; equal to another one with the same text."""

    text: str  # as written
    _compiled: Any = field(compare=False, repr=False)  # re2 has no types

    def fullmatch(self, text: str) -> bool:
        """Whether it matches all of `text`, each alternative of it: `1|2` does not match `12`."""
        return self._compiled.fullmatch(_bytes(text)) is not None

    def search(self, text: str) -> bool:
        """Whether it matches somewhere in `text`."""
        return self._compiled.search(_bytes(text)) is not None


def compiled(text: str) -> Pattern:
    """Compile a pattern.

    Raises:
        UsageError: it is not a regular expression, or too big; the message says where it is wrong.
    """
    import re2  # noqa: PLC0415, TID251 - the only door; a start without patterns saves 2 ms and 2.6 MiB

    if len(text) > LONGEST:
        raise UsageError(f"not a regular expression: {text[:40]!r}… has more than {LONGEST} characters")
    options = re2.Options()
    options.log_errors = False  # it writes to standard error
    options.never_capture = True
    options.max_mem = _MEMORY
    try:
        return Pattern(text, re2.compile(_bytes(text), options))
    except re2.error as error:
        what = error.args[0]
        reason = what.decode("utf-8", "replace") if isinstance(what, bytes) else str(what)
        raise UsageError(f"not a regular expression: {text[:80]!r}; {_explained(text, reason)}") from error


def as_expression(pattern: str) -> str | None:
    """Return the regular expression in `/…/`, or None for a literal or a glob."""
    return pattern[1:-1] if len(pattern) > 1 and pattern[0] == pattern[-1] == "/" else None


def alternatives(text: str) -> Iterator[str]:
    """Yield the parts of a regular expression between every `|` outside of groups and classes."""
    depth, part = 0, ""
    for sign in _TOKEN.findall(text):
        if sign == "|" and not depth:
            yield part
            part = ""
            continue
        depth += (sign == "(") - (sign == ")")
        part += sign
    yield part


def _bytes(text: str) -> bytes:
    """Encode also what is no valid text, such as half a surrogate pair in a stranger's JSON."""
    return text.encode("utf-8", "surrogatepass")


def _explained(text: str, reason: str) -> str:
    """Return RE2's reason, which ends with the wrong part of the pattern, with the position of that part."""
    what, _, part = reason.partition(": ")
    if not part or part == text:
        return what
    start = len(text) - len(part) if what == "missing ]" and text.endswith(part) else text.find(part)
    place = f" at character {start + 1}" if start >= 0 else ""
    hint = "; RE2 has no look-around and no backreferences" if part in _MISSING else ""
    return f"{what}{place} ({part[:40]}){hint}"
