"""Secrets that cannot be printed by accident, and `redact`, which takes them out of any text.

Redaction works by value (every live `Secret`, in every form in which HTTP writes it) and by shape
(userinfo in URLs, signatures in queries), because a text from elsewhere may hold secrets that we never saw.
"""

from __future__ import annotations

import base64
import re
from collections import deque
from dataclasses import dataclass, field
from threading import Lock
from typing import Final
from urllib.parse import quote, quote_plus
from weakref import WeakSet

from mirrord.errors import ConfigError

MASK: Final = "***"
_SHORTEST: Final = 4  # a shorter secret would blank out ordinary words, and protects nothing
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_USERINFO = re.compile(r"(?<=://)[^/\s?#]*@")
_QUERY = re.compile(
    r"(?i)(?<=[?&;])((?:x-(?:amz|goog|ms|oss)-[a-z-]*|(?:access_|refresh_|id_|auth_|private_)?token|sig|signature|"
    r"password|passwd|secret|api_?key|key-pair-id|policy|credential)=)[^&\s\"'<>#;]+"
)
_HEADER = re.compile(r"(?i)\b(basic|bearer)\s+(?=\S*\d)[a-z0-9._~+/=-]{16,}")


class Secret:
    """A string that shows itself only to `reveal`.

    Raises:
        ConfigError: the value holds control characters; in a header they would start another one
            (CVE-2020-5260 is the same hole in credential helpers).
    """

    __slots__ = ("__weakref__", "_value")

    def __init__(self, value: str) -> None:
        if _CONTROL.search(value):
            raise ConfigError("a secret holds a control character; write it in one line, without tabs")
        self._value = value
        with _registry:
            _live.add(self)
            _recent.append(self)

    def reveal(self) -> str:
        """Return the value; the caller sends it and nothing else."""
        return self._value

    def __repr__(self) -> str:
        """Return three stars."""
        return MASK

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        """Compare by value."""
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        """Hash by value."""
        return hash(self._value)

    def forms(self) -> tuple[str, ...]:
        """Return every way in which HTTP would write the value."""
        raw = self._value.encode()
        encoded = base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()
        return (self._value, *encoded, quote(self._value, safe=""), quote(self._value), quote_plus(self._value))


_registry = Lock()
_live: WeakSet[Secret] = WeakSet()
_recent: deque[Secret] = deque(maxlen=256)  # a token that was just replaced may still be on its way into a text


@dataclass(frozen=True, slots=True)
class Credential:
    """Who we are to one host.

    Attributes:
        username: `<token>` when `password` is an identity token (docker's spelling of an OAuth2 refresh token).
        password: password, access token or identity token.
    """

    username: str
    password: Secret
    _basic: Secret | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be written in a Basic header (RFC 7617 section 2), and register what it becomes there."""
        if _CONTROL.search(self.username) or ":" in self.username:
            raise ConfigError("a user name holds a colon or a control character; HTTP Basic cannot carry it")
        object.__setattr__(self, "_basic", Secret(f"{self.username}:{self.password.reveal()}"))

    @property
    def identity(self) -> bool:
        """Whether `password` is an identity token."""
        return self.username == "<token>"

    @property
    def basic(self) -> str:
        """The value of an `Authorization: Basic` header (RFC 7617); secret."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password.reveal()}".encode()).decode()


def redact(text: str) -> str:
    """Return `text` without any secret: what we hold, userinfo in URLs, signature-like query values, tokens."""
    with _registry:  # credential helpers run in threads
        known = {*_live, *_recent}
    forms = {form for secret in known for form in secret.forms() if len(form) >= _SHORTEST}
    for form in sorted(forms, key=len, reverse=True):
        if form in text:
            text = text.replace(form, MASK)
    text = _USERINFO.sub(f"{MASK}@", text)
    text = _QUERY.sub(rf"\1{MASK}", text)
    return _HEADER.sub(rf"\1 {MASK}", text)
