"""Secrets that cannot be printed by accident, and `redact`, which takes them out of any text.

Redaction works by value (every live `Secret`, in every form in which HTTP writes it) and by shape
(userinfo in URLs, signatures in queries), because a text from elsewhere may hold secrets that we never saw.
"""

from __future__ import annotations

import base64
import json
import re
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from threading import Lock
from typing import Final
from urllib.parse import quote, quote_plus
from weakref import WeakValueDictionary

from mirrord.errors import ConfigError

MASK: Final = "***"
_SHORTEST: Final = 4  # a shorter secret would blank out ordinary words, and protects nothing
_LONGEST_BUG: Final = 500
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_USERINFO = re.compile(
    r"(?:(?<=://)|(?<=:/))(?:[^/\s?#]*@"  # one slash: what a file system makes of two
    # A password may hold a slash, unescaped by mistake; what follows `host:port/` is a path.
    r"|(?!\[|[^\s/@?#:]*:\d+(?:[/?#\s]|\Z))[^\s/@?#:]+:[^\s\"'<>]{0,256}@)"
)
_DIGEST = re.compile(r"@[a-z0-9]+:[0-9a-f]{32,}\Z")
_QUERY = re.compile(
    r"(?i)(?<=[?&;])((?:x-(?:amz|goog|ms|oss)-[a-z-]*|(?:access_|refresh_|id_|auth_|private_)?token|sig|signature|"
    r"password|passwd|secret|api_?key|key-pair-id|policy|credential)=)[^&\s\"'<>#;]+"
)
_HEADER = re.compile(r"(?i)\b(basic|bearer)\s+(?=\S*\d)[a-z0-9._~+/=-]{16,}")


class Secret:
    """A string that only `reveal` returns.

    Raises:
        ConfigError: the value holds control characters; in a header they would start another one
            (CVE-2020-5260 is the same hole in credential helpers). Or lone surrogates, which no text on the wire
            can hold; Python makes them of bytes that are not UTF-8.
    """

    __slots__ = ("__weakref__", "_forms", "_value")

    def __init__(self, value: str) -> None:
        if _CONTROL.search(value):
            raise ConfigError("a secret holds a control character; write it in one line, without tabs")
        if _SURROGATE.search(value):
            raise ConfigError("a secret is not UTF-8; write it in UTF-8, or take another one")
        self._value = value
        self._forms: tuple[str, ...] | None = None
        _known.add(self)

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
        """Return every form in which HTTP, JSON and Python write the value; computed once."""
        if self._forms is None:
            raw = self._value.encode()
            encoded = base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()
            quoted = quote(self._value, safe=""), quote(self._value), quote_plus(self._value)
            escaped = json.dumps(self._value)[1:-1], json.dumps(self._value, ensure_ascii=False)[1:-1]
            doubled = self._value.replace("\\", "\\\\")  # as in the `repr` of an error that holds it
            repred = doubled, doubled.replace("'", "\\'"), doubled.replace('"', '\\"')
            self._forms = (self._value, *encoded, *quoted, *escaped, *repred)
        return self._forms


class _Known:
    """All secrets in use, and the last replaced ones, which may still appear in a text."""

    def __init__(self) -> None:
        self._lock = Lock()  # configurations are read in threads
        self._live: WeakValueDictionary[int, Secret] = WeakValueDictionary()  # equal ones are kept: one may go first
        self._recent: deque[Secret] = deque(maxlen=256)
        self._forms: list[str] | None = None

    def add(self, secret: Secret) -> None:
        with self._lock:
            self._live[id(secret)] = secret
            self._recent.append(secret)
            self._forms = None

    def forms(self, longest: int) -> list[str]:
        """Return every form of up to `longest` characters, longest first: a text cannot hold more than itself."""
        with self._lock:
            if self._forms is None:  # sorted for each new secret, not for each line of a log
                secrets = (*self._live.values(), *self._recent)
                known = {form for secret in secrets for form in secret.forms() if len(form) >= _SHORTEST}
                self._forms = sorted(known, key=len)
            return self._forms[: bisect_right(self._forms, longest, key=len)][::-1]


_known = _Known()


@dataclass(frozen=True, slots=True)
class Credential:
    """Our credential for one host."""

    username: str  # `<token>` when `password` is an identity token (docker's spelling of an OAuth2 refresh token)
    password: Secret  # password, access token or identity token
    _basic: Secret | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what a Basic header cannot carry (RFC 7617 section 2), and register the header's value as a secret."""
        if _CONTROL.search(self.username) or _SURROGATE.search(self.username) or ":" in self.username:
            raise ConfigError("a user name holds a colon, a control character or no UTF-8; HTTP Basic cannot carry it")
        object.__setattr__(self, "_basic", Secret(f"{self.username}:{self.password.reveal()}"))

    @property
    def identity(self) -> bool:
        """Whether `password` is an identity token."""
        return self.username == "<token>"

    @property
    def basic(self) -> str:
        """The value of an `Authorization: Basic` header (RFC 7617); secret."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password.reveal()}".encode()).decode()

    @property
    def userinfo(self) -> str:
        """`user:password` as a URL holds it (RFC 3986 section 3.2.1); secret."""
        return f"{quote(self.username, safe='')}:{quote(self.password.reveal(), safe='')}"

    def account(self, username: str, password: str) -> dict[str, str]:
        """Return user name and password below these keys, as a login by JSON wants them; secret."""
        return {username: self.username, password: self.password.reveal()}

    def token(self, scheme: str) -> str:
        """Return the value of an `Authorization` header that carries the password alone (`Bearer`, `token`); secret."""
        return f"{scheme} {self.password.reveal()}"


def redact(text: str) -> str:
    """Return `text` without secrets: known ones, userinfo in URLs, signature-like query values, tokens."""
    for form in _known.forms(len(text)):
        if form in text:
            text = text.replace(form, MASK)
    text = _USERINFO.sub(f"{MASK}@", text)
    # Functions and no templates: Python takes five times as long for a template, also where nothing is found.
    text = _QUERY.sub(lambda found: f"{found[1]}{MASK}", text)
    return _HEADER.sub(lambda found: f"{found[1]} {MASK}", text)


def bug(error: BaseException) -> str:
    """Return the message for an unexpected error: the first one of a group, shortened."""
    more = 0
    while isinstance(error, BaseExceptionGroup):
        more += len(error.exceptions) - 1
        error = error.exceptions[0]
    text = redact(repr(error))
    cut = text if len(text) <= _LONGEST_BUG else f"{text[:_LONGEST_BUG]}…"
    return f"a bug: {cut}" + (f" and {more} more" if more else "")


def unnamed(text: str) -> str:
    """Return text that was given as a reference, without what may be a user name and password.

    Everything up to the last `@` goes, whatever it holds: nobody said where a password ends. A digest stays.
    """
    digest = _DIGEST.search(text)
    place = text[: digest.start()] if digest else text
    before, at, after = place.rpartition("@")
    scheme, slashes, _ = before.partition("://")
    start = f"{scheme}{slashes}" if slashes else ""
    return redact(f"{start}{MASK}@{after}{digest[0] if digest else ''}" if at else text)
