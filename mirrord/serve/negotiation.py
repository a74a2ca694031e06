"""Which form of the same content to send, and which part of it (RFC 9110 §12 to §14). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_WEIGHT = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)
_ONE = re.compile(r"([0-9]{0,19})-([0-9]{0,19})")
_MOST = 32  # entries of the header that are read; browsers send five


def wants_gzip(accept_encoding: str | None) -> bool:
    """Return whether a client prefers gzip to the plain form (§12.5.3).

    Nothing is compressed for a client that does not ask. An entry with an invalid weight is ignored.
    """
    weights: dict[str, float] = {}
    for entry in (accept_encoding or "").split(",", _MOST)[:_MOST]:
        coding, _, weight = entry.partition(";")
        found = _WEIGHT.fullmatch(weight.strip())
        weights[coding.strip().lower()] = float(found[1]) if found else 0.0 if weight else 1.0
    gzip = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def etag_of(headers: Mapping[str, str]) -> str | None:
    """Return the entity tag among headers."""
    for key, value in headers.items():
        if key.lower() == "etag":
            return value
    return None


def packed(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of the gzip form: its bytes differ, so its tag must differ (§8.8.3.3)."""

    def tag(etag: str) -> str:
        return f'{etag[:-1]}-gzip"' if etag.endswith('"') else etag

    forms = {key: tag(value) if key.lower() == "etag" else value for key, value in headers.items()}
    return {**forms, "Content-Encoding": "gzip"}


def with_vary(headers: Mapping[str, str], field: str) -> dict[str, str]:
    """Return headers that declare that the answer depends on a request field (§12.5.5)."""
    varies = next((value for key, value in headers.items() if key.lower() == "vary"), "")
    rest = {key: value for key, value in headers.items() if key.lower() != "vary"}
    return {**rest, "Vary": f"{varies}, {field}" if varies else field}


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
    """Return the one requested part, or None for the whole file.

    An invalid header, or one for several parts, is ignored, as the RFC allows: thousands of overlapping
    parts must cost nothing (CVE-2011-3192). UnsatisfiableError: it is outside the file, or ends
    before it begins, as the conformance program of the distribution specification has it.
    """
    unit, _, ranges = (header or "").partition("=")
    match = _ONE.fullmatch(ranges.strip()) if unit.strip().lower() == "bytes" else None
    if match is None or match.group() == "-":
        return None
    first, last = match.groups()
    start = int(first) if first else size - min(int(last), size)
    if start >= size or (first and last and int(last) < start):  # §14.1.1 leaves the latter to us
        raise UnsatisfiableError(header)
    end = min(int(last), size - 1) if first and last else size - 1
    return Span(start, end - start + 1)


def applies(if_range: str | None, etag: str | None) -> bool:
    """Return whether Range applies: without If-Range, or if it names exactly this entity (§13.1.5)."""
    return if_range is None or (etag is not None and not etag.startswith("W/") and if_range.strip() == etag)


def unchanged(if_none_match: str | None, etag: str | None) -> bool:
    """Return whether the client has it already (§13.1.2)."""
    if if_none_match is None or etag is None:
        return False
    entries = [entry.strip().removeprefix("W/") for entry in if_none_match.split(",")]
    return "*" in entries or etag.removeprefix("W/") in entries
