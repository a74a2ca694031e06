"""Text from other machines as it may be printed, and numbers for people."""

from __future__ import annotations


def plain(text: str) -> str:
    r"""Escape control characters and line ends (`\x1b`, `\n`): names and messages come from other machines."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def without_query(address: str) -> str:
    """Return an address with `***` for its query if it is a URL: nobody knows which parameters are secret."""
    before, mark, _ = address.partition("?")
    return f"{before}?***" if mark and "://" in before else address


def size(count: float | None) -> str:
    """Format a number of bytes: `248.0 MiB`."""
    if count is None:
        return "?"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} PiB"
