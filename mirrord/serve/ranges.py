"""The Range header (RFC 9110 §14). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ONE = re.compile(r"([0-9]{0,19})-([0-9]{0,19})")


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a file: `count` bytes from `offset`."""

    offset: int
    count: int

    def content_range(self, size: int) -> str:
        """Return the value of Content-Range for a file of `size` bytes."""
        return f"bytes {self.offset}-{self.offset + self.count - 1}/{size}"


class UnsatisfiableError(ValueError):
    """No byte of the file is in the range: 416."""


def parse_range(header: str | None, size: int) -> Span | None:
    """Return the one part that is asked for, or None for the whole file.

    A header that is not understood, or asks for several parts, is ignored, as the RFC allows: overlapping
    parts by the thousand must cost nothing (CVE-2011-3192).

    Raises:
        UnsatisfiableError: it is understood, and nothing of it is in the file.
    """
    unit, _, ranges = (header or "").partition("=")
    match = _ONE.fullmatch(ranges.strip()) if unit.strip().lower() == "bytes" else None
    if match is None or match.group() == "-":
        return None
    first, last = match.groups()
    if not first:
        return _suffix(int(last), size)
    start = int(first)
    if last and int(last) < start:
        return None  # invalid, hence ignored (§14.1.1)
    if start >= size:
        raise UnsatisfiableError(header)
    end = min(int(last), size - 1) if last else size - 1
    return Span(start, end - start + 1)


def _suffix(length: int, size: int) -> Span:
    count = min(length, size)
    if not count:
        raise UnsatisfiableError(f"-{length} of {size}")
    return Span(size - count, count)


def applies(if_range: str | None, etag: str | None) -> bool:
    """Say whether Range counts: without If-Range, or when it names exactly this entity (§13.1.5)."""
    return if_range is None or (etag is not None and not etag.startswith("W/") and if_range.strip() == etag)


def unchanged(if_none_match: str | None, etag: str | None) -> bool:
    """Say whether the client has it already (§13.1.2)."""
    if if_none_match is None or etag is None:
        return False
    entries = [entry.strip().removeprefix("W/") for entry in if_none_match.split(",")]
    return "*" in entries or etag.removeprefix("W/") in entries
