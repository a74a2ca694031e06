"""Text from other machines as it may be printed."""

from __future__ import annotations


def plain(text: str) -> str:
    r"""Escape control characters and line ends (`\x1b`, `\n`): names and messages come from other machines."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
