"""Proxies as the environment names them: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, read as Go's programs read them.

Upper case comes before lower case. This machine itself is never asked through a proxy. An entry of `NO_PROXY` is a
domain, which covers the hosts below it (`.example.com` those alone), an address, a network (`10.0.0.0/8`) or `*`; a
domain or an address may have a port.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import unquote

from mirrord.errors import ConfigError, UntrustedError
from mirrord.wire.origin import Origin, check_url, normal_host
from mirrord.wire.secret import Credential, Secret

_EXAMPLE = "http://proxy.example.com:3128"


class _Exception(NamedTuple):
    """One entry of `NO_PROXY`: exactly one of `domain`, `address` and `network` counts."""

    domain: str = ""  # `.example.com`: the hosts below it
    itself: bool = True  # and `example.com`
    address: IPv4Address | IPv6Address | None = None
    network: IPv4Network | IPv6Network | None = None
    port: str = ""  # "" for every port

    def covers(self, origin: Origin, address: IPv4Address | IPv6Address | None) -> bool:
        """Whether `origin`, whose host is perhaps an `address`, is meant."""
        if self.port not in ("", str(origin.port)):
            return False
        if self.network is not None:
            return address is not None and address in self.network
        if self.address is not None:
            return address == self.address
        return origin.host.endswith(self.domain) or (self.itself and origin.host == self.domain[1:])


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy."""

    url: str  # `scheme://host:port`, as messages show it
    login: Credential | None = None  # ours at the proxy

    def full(self) -> str:
        """Return the URL with user name and password in it, where every client looks for them; secret."""
        return self.url.replace("://", f"://{self.login.userinfo}@") if self.login else self.url


@dataclass(frozen=True, slots=True)
class Proxies:
    """Which proxy leads to an origin."""

    by_scheme: Mapping[str, Proxy] = field(default_factory=dict)  # by the scheme of the origin
    exceptions: tuple[_Exception, ...] = ()  # what is reached without one

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Proxies:
        """Read them from an environment.

        Raises:
            ConfigError: a proxy is not an http(s) URL; names the variable, and repeats no password.
        """
        found: dict[str, Proxy] = {}
        for scheme in ("http", "https"):
            for name in (f"{scheme.upper()}_PROXY", f"{scheme}_proxy"):
                if scheme not in found and (text := environ.get(name, "").strip()):
                    found[scheme] = _proxy(name, text)
        exceptions = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
        return cls(found, tuple(_exceptions(exceptions)))

    def to(self, origin: Origin) -> Proxy | None:
        """Return the proxy that leads to `origin`, or None when it is reached directly."""
        proxy = self.by_scheme.get(origin.scheme)
        if proxy is None or origin.host == "localhost":
            return None
        try:
            address = ip_address(origin.host)
        except ValueError:
            address = None
        if address is not None and address.is_loopback:
            return None
        return None if any(one.covers(origin, address) for one in self.exceptions) else proxy


def _proxy(name: str, text: str) -> Proxy:
    """Read the value of a variable."""
    scheme, slashes, rest = text.rpartition("://")
    login, at, place = rest.rpartition("@")
    if scheme.lower().startswith("socks"):
        raise ConfigError(f"{name}: a SOCKS proxy cannot be used; write an HTTP proxy, such as {_EXAMPLE}")
    try:
        url = str(check_url(f"{scheme.lower() if slashes else 'http'}://{place.partition('/')[0]}"))
        username, _, password = (unquote(part) for part in login.partition(":"))
        return Proxy(url, Credential(username, Secret(password)) if at else None)
    except (UntrustedError, ConfigError):  # whose texts may hold a part of the password
        raise ConfigError(f"{name}: not the URL of an HTTP proxy; write one such as {_EXAMPLE}") from None


def _exceptions(text: str) -> Iterator[_Exception]:
    for entry in (part.strip().lower() for part in text.split(",")):
        if entry == "*":
            yield _Exception(domain="")
        elif entry:
            yield from _exception(entry)


def _exception(entry: str) -> Iterator[_Exception]:
    """Read one entry; a malformed one has no effect, as in Go."""
    if "/" in entry:
        try:
            yield _Exception(network=ip_network(entry, strict=False))
        except ValueError:
            return
        return
    host, port = entry, ""
    if entry.startswith("["):
        host, _, port = entry[1:].partition("]")
        port = port.removeprefix(":")
    elif entry.count(":") == 1:
        host, _, port = entry.partition(":")
    try:
        yield _Exception(address=ip_address(host), port=port)
    except ValueError:
        domain = host.removeprefix("*")
        if domain.strip("."):
            below = domain if domain.startswith(".") else f".{_encoded(domain)}"
            yield _Exception(domain=below, itself=not domain.startswith("."), port=port)


def _encoded(domain: str) -> str:
    try:
        return normal_host(domain)
    except UntrustedError:
        return domain
