"""Platforms of other tools, in mirrord's words."""

from __future__ import annotations

from typing import Final

from mirrord.errors import UsageError
from mirrord.importing.section import Section
from mirrord.importing.values import Keys
from mirrord.wire.oci.platform import parse_platform

ALONE: Final = "{} copies the image of that platform alone, mirrord an index with it, which has another digest"
"""What differs for tools that take an image out of its index."""

SPARSE: Final = (
    "{} keeps the index as it is and copies some of its images, which many registries refuse; mirrord writes an index"
    " with these platforms, which has another digest"
)
"""What differs for tools that keep the index."""

_VERSION: Final = ",osver="  # of Windows, as regclient writes it


def read(section: Section, key: str, differs: str) -> Keys:
    """Return the key of a mirror for the platforms at `key`, one or a list, and tell what differs.

    A platform that mirrord has no word for is reported, and all are copied.
    """
    found: list[str] = []
    for text in section.texts(key):
        try:
            found.append(str(parse_platform(text.replace(_VERSION, ":", 1))))
        except UsageError as error:
            section.lose(key, str(error), unless=())
            return {}
    if not found:
        return {}
    section.tell(key, differs)
    return {"platforms": list(dict.fromkeys(found))}
