"""Reads URLs and host names so that all later code reads them alike.

What two readers could take differently (CVE-2020-5260, and every parser differential since) is refused, not guessed.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address
from string import punctuation
from typing import Final, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from mirrord.errors import UntrustedError
from mirrord.wire.secret import redact

_PORTS: Final = {"http": 80, "https": 443}
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f\\\ud800-\udfff]|^[^?]*%(?:[01][0-9a-fA-F]|7[fF])")
_HEAD = re.compile(r"[^/?#]*+//[^/?#]*+")
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?")  # what a resolver may read as a number (WHATWG URL)
_NAME = re.compile(r"[a-z0-9_.-]+")


class Origin(NamedTuple):
    """Scheme, host and port, normalised: what a credential is bound to (RFC 6454)."""

    scheme: str  # `http` or `https`
    host: str  # lower-case, IDNA-encoded, without brackets
    port: int  # always a number

    @property
    def authority(self) -> str:
        """`host[:port]`, the default port dropped, IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        """Return `scheme://authority`."""
        return f"{self.scheme}://{self.authority}"


def check_url(url: str) -> Origin:
    """Return the origin of `url`.

    Raises:
        UntrustedError: not plain http(s) with a host that everybody reads alike: control characters (also
            percent-encoded), userinfo, another scheme, numbers that a resolver may take for an address.
    """
    return parted(url)[0]


def parted(url: str) -> tuple[Origin, str]:
    """Return the origin of `url` in its normal form, and the rest unchanged.

    The rest stays as it was written (a signature may cover it), but for what is not ASCII: that is percent-encoded.
    What stands before it is read once, however many paths come after it.

    Raises:
        UntrustedError: as `check_url`.
    """
    if _UNPRINTABLE.search(url):
        raise untrusted("url", "a URL with control characters, spaces, backslashes or bytes that are not UTF-8")
    head = _HEAD.match(url)
    before = head[0] if head else url
    rest = url[len(before) :].partition("#")[0]
    return _origin(before), rest if rest.isascii() else quote(rest, safe=punctuation)


@lru_cache(512)
def _origin(url: str) -> Origin:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UntrustedError("refused: a URL that is not well-formed", "url") from error
    if parts.scheme not in _PORTS:
        raise untrusted("scheme", f"a URL with scheme {parts.scheme[:20]!r}; only http and https are followed")
    if "@" in parts.netloc:
        raise untrusted("userinfo", f"a URL to {host} with user name or password in it")
    return Origin(parts.scheme, normal_host(host), _PORTS[parts.scheme] if port is None else port)


def canonical(url: str) -> str:
    """Return `url` with its origin in normal form, so that every client reads it as `check_url` did.

    Raises:
        UntrustedError: as `check_url`.
    """
    origin, rest = parted(url)
    return f"{origin}{rest}"


def joined(base: str, reference: str) -> str:
    """Resolve a reference in a header (RFC 3986 section 5) against the URL of the answer.

    Raises:
        UntrustedError: it cannot be read (`http://[`).
    """
    try:
        return urljoin(base, reference)
    except ValueError as error:
        raise UntrustedError("refused: a URL that is not well-formed", "url") from error


@lru_cache(1024)
def normal_host(host: str) -> str:
    """Case-fold and IDNA-encode a host name or address; a trailing dot stays, it names another host here.

    Raises:
        UntrustedError: empty, not encodable, or a number that is no canonical address (`0x7f.1`, `2130706433`).
    """
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    if not host.isascii():
        import idna  # noqa: PLC0415 - a large table that ASCII names, nearly all there are, never need

        try:
            host = idna.encode(host, uts46=True).decode()
        except idna.IDNAError as error:
            raise UntrustedError("refused: a host name that has no IDNA form", "url") from error
    host = host.lower()
    if not _NAME.fullmatch(host):
        raise untrusted("url", "a URL without a proper host name")
    if _NUMERIC.fullmatch(host):
        raise untrusted("address", f"the number {host[:60]} as a host; write an address as four decimal numbers")
    return host


def untrusted(reason: str, what: str) -> UntrustedError:
    """Return the refusal of `what`, redacted."""
    return UntrustedError(f"refused: {redact(what)}", reason)
