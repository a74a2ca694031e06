"""Names of registries in foreign files."""

from __future__ import annotations

from mirrord.config.hosts import host_key

_LONGEST = 262  # characters: a name in DNS, and a port


def host_name(text: str) -> str:
    """Return a host as mirrord spells it.

    Raises:
        ValueError: it is none, or longer than any name in DNS.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"is longer than {_LONGEST} characters, so it is not a host")
    return host_key(text)
