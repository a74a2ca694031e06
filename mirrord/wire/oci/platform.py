"""What an image runs on, as one word: `linux/amd64`, `linux/arm64/v8` (image-spec, image-index.md and config.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from mirrord.errors import ContentError
from mirrord.wire.oci.document import read_object

_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_NONE: Final = "unknown"  # buildx writes it for attestations
_PARTS: Final = ("os", "architecture", "variant")


def platform_name(written: Mapping[str, object]) -> str:
    """Return the platform that these keys of a config, or of an entry of an index, name; "" for none."""
    system, machine, variant = (_word(written.get(part)) for part in _PARTS)
    if not system or not machine or _NONE in (system, machine):
        return ""
    return f"{system}/{machine}/{variant}" if variant else f"{system}/{machine}"


def config_platform(data: bytes) -> str:
    """Return the platform of an image by its config; "" if that does not say it, or is no config."""
    try:
        return platform_name(read_object(data, "config"))
    except ContentError:
        return ""


def _word(value: object) -> str:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else ""
