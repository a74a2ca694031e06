"""Names of registries in foreign files."""

from __future__ import annotations

from mirrord.config.hosts import host_key
from mirrord.importing.section import Section

_LONGEST = 262  # characters: a name in DNS, and a port


def host_name(text: str, section: Section, key: str) -> str:
    """Return a host as mirrord spells it; "" for none, which is reported at the key."""
    if len(text) > _LONGEST:
        section.refuse(key, f"is longer than {_LONGEST} characters, so it is not a host")
        return ""
    try:
        return host_key(text)
    except ValueError as error:
        section.refuse(key, str(error))
        return ""
