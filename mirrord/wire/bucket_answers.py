"""What a bucket said when a request failed, out of the errors of obstore, which hold the request with its headers."""

from __future__ import annotations

import re
from html import unescape
from typing import Final

from mirrord.wire.secret import redact

_STATUS: Final = re.compile(r" status code: (\d{3}) ")
_AWAY: Final = frozenset((401, 403, 404, 408, 429))  # 404 that is not about an object
_LONGEST: Final = 300  # characters of an error that are told
_UNREAD: Final = re.compile(r"credential provider: \w{1,60}: ")  # before what our own function raises
_TOLD = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>(?:\s*<Message>([^<]{0,200})</Message>)?")
_CAUSE: Final = re.compile(
    r'(?:message|error): "([^"\\]{1,200})"'
    r"|\b((?:TimedOut|IncompleteMessage)\b|Invalid[A-Z][a-zA-Z]{1,30}\([\s\w(]{1,150})"
)


def code_of(error: Exception) -> str:
    """Return the code of an error that the server sent, such as `NoSuchKey`; "" for none."""
    found = _TOLD.search(str(error))
    return found[1] if found else ""


def is_away(error: Exception) -> bool:
    """Whether the next request about something else will hardly do better."""
    found = _STATUS.search(str(error).partition("\n\nDebug source")[0])
    status = int(found[1]) if found else 0
    return status >= 500 or status in _AWAY or not (status or isinstance(error, ValueError))


def told_by(error: Exception, server: str) -> str:
    """Return what the store answered, or why it did not, without the requests."""
    text, _, source = str(error).partition("\n\nDebug source")
    if found := _TOLD.search(text):
        said = f"{found[1]} ({found[2].rstrip('.')})" if found[2] else found[1]
        said = unescape(said)
    else:
        said = " ".join(_UNREAD.split(text.rpartition(" - ")[2], maxsplit=1)[-1].split())
        if cause := _CAUSE.search(source):
            said = f"{said} to {server}: {' '.join((cause[1] or cause[2]).replace('(', ' ').split())}"
    return redact(said)[:_LONGEST]
