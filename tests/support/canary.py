"""A secret that sings: finds itself, whole or in parts, in whatever a program left or showed."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote, quote_plus

_WINDOW = 16  # characters; a shorter piece of a secret could be chance
_WINDOWS = 16  # of a long secret; all of it in every form would be looked for too long
_SPECIAL = "p% :/\"'\\<&>é§+=@"


@dataclass(frozen=True, slots=True)
class Canary:
    """A secret and who uses it."""

    user: str
    text: str

    @classmethod
    def make(cls, user: str, length: int = 40) -> Canary:
        """Make a fresh one with every character that somebody might forget to escape."""
        special = "".join(char + secrets.token_hex(2) for char in _SPECIAL)
        return cls(user, secrets.token_hex(16) + special + secrets.token_hex(length)[:length])

    def forms(self) -> tuple[str, ...]:
        """Return every way to write it that would give it away."""
        raw, basic = self.text.encode(), f"{self.user}:{self.text}".encode()
        encoded = [encode(data).decode() for data in (raw, basic) for encode in _ENCODERS]
        return (self.text, quote(self.text, safe=""), quote(self.text), quote_plus(self.text), *encoded)

    def heard(self, text: str | bytes) -> list[str]:
        """Name the pieces of it that are in `text`, also where that is JSON or HTML; empty when it kept silent."""
        found = text.decode(errors="replace") if isinstance(text, bytes) else text
        return [piece for form in self.forms() for piece in _pieces(form) if piece in found]

    def heard_below(self, folder: Path) -> list[str]:
        """Name the files in which it is."""
        return [str(file) for file in folder.rglob("*") if file.is_file() and self.heard(file.read_bytes())]


_ENCODERS = (base64.b64encode, base64.urlsafe_b64encode)


def _pieces(form: str) -> Iterator[str]:
    """Cut windows out of a form, so that a part of it is found too; special characters may be written in three ways."""
    for start in range(0, max(1, len(form) - _WINDOW + 1), max(_WINDOW, len(form) // _WINDOWS)):
        piece = form[start : start + _WINDOW]
        yield from {piece, escape(piece), json.dumps(piece)[1:-1]}
