"""Addresses of Git repositories: which ones are taken, and how they are written. Pure.

An address is text of an operator's, and ends in the argument list of a program that has executed addresses before
(`ext::`, CVE-2017-1000117, CVE-2022-24439). So only three transports are taken, and every part passes a grammar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mirrord.errors import MirrordError, UntrustedError, UsageError
from mirrord.wire.origin import check_url, normal_host
from mirrord.wire.secret import unnamed
from mirrord.wire.trust import scheme_of

if TYPE_CHECKING:
    from mirrord.wire.host import HostPolicy

_LONGEST: Final = 2048
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\xa0\\]|%(?:[01][0-9a-fA-F]|7[fF]|5[cC])")
_SCP = re.compile(
    r"(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@(?P<host>[A-Za-z0-9_.-]+|\[[0-9a-fA-F:.]+\]):(?P<path>(?!//)[^:]+)"
)
_SSH = re.compile(
    r"ssh://(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?"
    r"(?P<host>[A-Za-z0-9_.-]+|\[[0-9a-fA-F:.]+\])(?::(?P<port>[0-9]{1,5}))?/(?P<path>.+)"
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a repository is."""

    scheme: str  # `https`, `http` or `ssh`
    host: str  # lower-case `host` or `host:port`; the key into the HostBook
    path: str  # without a slash in front; never empty
    user: str = ""  # for `ssh`, "" elsewhere
    # written `user@host:path`, which begins in the user's home there; forges make no difference
    relative: bool = field(default=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `https://host/path`, `http://…`, `ssh://user@host/path` or `user@host:path`.

        Raises:
            UsageError: anything else, or one of these with something in it that programs read differently.
        """
        if text.startswith("-"):
            raise UsageError(f"{_shown(text)} begins like an option; write https://host/path")
        if len(text) > _LONGEST or _UNPRINTABLE.search(text) or not text.isprintable():
            raise UsageError(f"{_shown(text)} holds spaces, control characters or backslashes, or is too long")
        scheme, slashes, _ = text.partition("://")
        scheme = scheme.lower() if slashes else ""
        if scheme in ("http", "https"):
            return cls._web(text)
        found = _SSH.fullmatch(text) if scheme == "ssh" else None if scheme else _SCP.fullmatch(text)
        if found is None:
            raise UsageError(_no_address(text, scheme))
        if found["host"].startswith("-"):
            raise UsageError(f"{_shown(text)} has a host that begins like an option")
        try:
            host = normal_host(found["host"].strip("[]"))
        except MirrordError as error:
            raise UsageError(f"{_shown(text)}: {error}") from error
        port = int(found.groupdict().get("port") or 22)
        if not 0 < port < 65536:
            raise UsageError(f"{_shown(text)} has a port that does not exist")
        relative = not scheme and not found["path"].startswith("/")
        host = (f"[{host}]" if ":" in host else host) + (f":{port}" if port != 22 else "")
        return cls("ssh", host, _path(found["path"], text), found["user"] or "git", relative)

    @classmethod
    def _web(cls, text: str) -> Address:
        try:
            origin = check_url(text)
        except UntrustedError as error:
            hint = "; write user and password under hosts:, as `auth:`" if error.reason == "userinfo" else ""
            raise UsageError(f"{error}{hint}") from error
        path = text.partition("://")[2].partition("/")[2]
        if "?" in path or "#" in path:
            raise UsageError(f"{_shown(text)} has a query or a fragment, which a repository does not have")
        return cls(origin.scheme, origin.authority, _path(path, text))

    @property
    def url(self) -> str:
        """What git is given; never with a password."""
        user = f"{self.user}@" if self.user else ""
        if self.relative:
            return f"{user}{self.host}:{self.path}"
        return f"{self.scheme}://{user}{self.host}/{self.path}"

    def __str__(self) -> str:
        """Return the URL."""
        return self.url


def check(address: Address, policy: HostPolicy) -> None:
    """Refuse plain HTTP, except to loopback and to hosts that the operator marked. Raises UntrustedError."""
    if address.scheme == "http" and scheme_of(policy) == "https":
        raise UntrustedError(
            f"{address} is not encrypted; write https://, or `insecure: true` for {address.host} under hosts:",
            "downgrade",
        )


def _shown(text: str) -> str:
    """Return the start of what was written, without what may be a password in it."""
    return ascii(unnamed(text)[:80])


def _no_address(text: str, scheme: str) -> str:
    if scheme and scheme != "ssh":
        return f"transport {scheme[:20]!a} is not taken; write https://host/path or git@host:path"
    if scheme or "@" in text:
        reason = "holds a password, or a name or port that cannot be; write git@host:path, and keys under hosts:"
        return f"{_shown(text)} {reason}"
    return f"{_shown(text)} is no address; write https://host/path or git@host:path"


def _path(path: str, text: str) -> str:
    path = path.strip("/")
    parts = path.split("/")
    if not path:
        raise UsageError(f"{_shown(text)} names a host and no repository")
    if any(part in ("", ".", "..") or part.lower() in ("%2e", "%2e%2e", ".%2e", "%2e.") for part in parts):
        raise UsageError(f"{_shown(text)} has an empty part or a `..` in its path")
    if any(part.startswith("-") for part in parts[:1]):
        raise UsageError(f"{_shown(text)} has a path that begins like an option")
    return path
