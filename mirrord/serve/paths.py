"""Which request targets are looked at at all. Pure; runs on the raw bytes, before anything is decoded or joined.

Nothing that could climb out of a folder, name another host or hide a character gets further, whatever the
syncer behind it would have made of it (bad inputs 21, 22 and 32).
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

LONGEST = 4096
"""Characters of a path; the longest valid one, a 255-character name and a sha512 digest, has about 400."""
_SEGMENTS = 64
_FORBIDDEN = re.compile(rb"[\x00-\x1f\x7f\\]")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def refusal(path: str) -> tuple[int, str] | None:
    """Return the status and the reason for which a raw path (without query) is refused, or None when it may pass."""
    if len(path) > LONGEST:
        return 414, f"path is longer than {LONGEST} characters"
    plain = unquote_to_bytes(path)
    segments = plain.split(b"/")[1:]
    rules = (
        (path.startswith("/"), "request target must be a path"),
        (not _BROKEN_ESCAPE.search(path), "path holds a broken escape"),
        ("%2f" not in path.lower(), "path holds an escaped slash"),
        (not _FORBIDDEN.search(plain), "path holds a control character or a backslash"),
        (b"" not in segments[:-1], "path holds an empty segment"),
        (b"." not in segments and b".." not in segments, "path holds a dot segment"),
        (len(segments) <= _SEGMENTS, f"path has more than {_SEGMENTS} segments"),
    )
    return next(((400, reason) for good, reason in rules if not good), None)
