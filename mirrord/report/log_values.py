"""Values as a log line may have them: an upstream can neither forge a line nor bring a secret into one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mirrord.wire.secret import redact

LONGEST = 4096
"""Characters of one value that are kept."""
_DEEPEST = 4
# C0 and C1 controls, line separators that some viewers break at, and the marks that turn text around.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def clean(value: Any, depth: int = 0) -> Any:
    """Prepare a value for a log line: redacted, without control characters, short, not nested deeply."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth < _DEEPEST and isinstance(value, Mapping):
        return {str(key)[:LONGEST]: clean(entry, depth + 1) for key, entry in list(value.items())[:100]}
    if depth < _DEEPEST and isinstance(value, list | tuple):
        return [clean(entry, depth + 1) for entry in value[:100]]
    # Redact before cutting: redaction does not recognize half a secret.
    text = redact(str(value))
    short = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", short)
