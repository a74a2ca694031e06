"""Which headers a mirrored file is sent with, so that a browser runs nothing in it. Pure.

The same address has pages of mirrord: a script in a mirrored file must not run among them. Text is shown as
text, images by their content, and whatever a browser could run is a download.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from urllib.parse import quote

LOOK = 8000
"""Bytes that are looked at: as many as git looks at."""
_RUNS = re.compile(
    "x?html?|xht|shtml|hta|mht|mhtml|svgz?|xml|xslt?|rss|atom|rdf|xul|[mc]?js|vbs|wsf|pdf|swf|wasm|jar", re.IGNORECASE
)
_LOOKS_RUNNABLE = re.compile(
    rb"\s*+(?:\xef\xbb\xbf\s*+)?(?:<!doctype|<html|<head|<body|<script|<svg|<\?xml|%pdf-)", re.IGNORECASE
)
_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9._-]+")
SAFETY = {"Content-Security-Policy": "default-src 'none'; sandbox", "X-Content-Type-Options": "nosniff"}


def headers_of(name: str, start: bytes) -> Mapping[str, str]:
    """Return the headers for a file of this name that begins so."""
    image = next((kind for magic, kind in _IMAGES if start.startswith(magic)), None)
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        image = "image/webp"
    kind = image or _text(name, start)
    if kind is not None:
        return {"Content-Type": kind, **SAFETY}
    called = f"*=UTF-8''{quote(name.encode('utf-8', 'surrogateescape'), safe='')}"  # RFC 6266
    called = f'="{name}"' if _PLAIN_NAME.fullmatch(name) else called
    disposition = f"attachment; filename{called}"
    return {"Content-Type": "application/octet-stream", "Content-Disposition": disposition, **SAFETY}


def _text(name: str, start: bytes) -> str | None:
    """Return the type of a text, or None. Git's own rule: what holds no NUL near its start is one."""
    if b"\0" in start[:LOOK] or _RUNS.fullmatch(name.rpartition(".")[2]) or _LOOKS_RUNNABLE.match(start):
        return None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start[:LOOK])  # the last character may be cut in two
    except UnicodeDecodeError:
        return "text/plain"  # an older encoding; the browser guesses
    return "text/plain; charset=utf-8"
