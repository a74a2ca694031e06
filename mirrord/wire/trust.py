"""Where a secret may go, and which address may be dialled: every such decision is made here, without I/O.

The whole class of products that mirrord belongs to has leaked credentials through token realms (CVE-2026-33540,
CVE-2026-48978), redirects and foreign layers (CVE-2020-15157), and has been led into private networks. Hence one
module, whose refusals are `UntrustedError` with a stable word; hosts are compared by equality, never by prefix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import urlsplit

from mirrord.errors import UntrustedError
from mirrord.wire import advice
from mirrord.wire.database import DatabaseAddress
from mirrord.wire.host import HostPolicy
from mirrord.wire.origin import Origin, check_url, joined, untrusted

API_HOSTS: Final[Mapping[str, str]] = {"docker.io": "registry-1.docker.io"}
"""Where a host's API lives when that is another name (moby's historical split of Docker Hub)."""

OWNED_APIS: Final[Mapping[str, str]] = {
    "api.github.com": "github.com",
    "api.cnb.cool": "cnb.cool",
    "hub.docker.com": "docker.io",
}
"""Hosts known to serve only the API of one other host, with the same credentials."""

TOKEN_REALMS: Final[Mapping[str, tuple[str, ...]]] = {
    "docker.io": ("https://auth.docker.io",),
    "docker.elastic.co": ("https://docker-auth.elastic.co",),
    "registry.gitlab.com": ("https://gitlab.com",),
}
"""Token servers outside of their registry's own authority that are public knowledge."""

MAX_HOPS: Final = 10
SAFE_HEADERS: Final = frozenset(
    {"accept", "accept-encoding", "content-length", "content-range", "content-type", "if-range", "range", "user-agent"}
)
"""The only headers that another origin gets; every other may be a credential (`PRIVATE-TOKEN`, `X-JFrog-Art-Api`)."""

# Azure's WireServer hands credentials to every machine of Azure, from a public address
# (learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16).
_WIRE_SERVER = IPv4Address("168.63.129.16")
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))


@dataclass(frozen=True, slots=True)
class Reach:
    """Which addresses besides the public ones may be dialled."""

    loopback: bool = False  # 127/8 and ::1
    private: bool = False  # everything else that is not public, loopback included

    def __or__(self, other: Reach) -> Reach:
        """Allow what either allows."""
        return Reach(self.loopback or other.loopback, self.private or other.private)


def scheme_of(policy: HostPolicy) -> str:
    """Return `http` or `https`: plain HTTP for loopback, else TLS, unless the configuration says otherwise."""
    insecure = is_loopback(policy.host) if policy.insecure is None else policy.insecure
    return "http" if insecure else "https"


def api_authority(host: str) -> str:
    """Return the authority that serves the API of `host` (`registry-1.docker.io` for `docker.io`)."""
    return API_HOSTS.get(host, host)


def api_owner(host: str) -> str:
    """Return the host whose credentials the API at `host` may see: of `OWNED_APIS` their owner, else `host` itself.

    A fixed table, because a name that begins with `api.` says nothing about who answers there.
    """
    return OWNED_APIS.get(host, host)


def belongs(origin: Origin, policy: HostPolicy) -> bool:
    """Whether the credentials of `policy.host` may go to `origin`: same authority exactly, never https to http.

    Its API counts as the same authority where `API_HOSTS` or `OWNED_APIS` say so.
    """
    return not (origin.scheme == "http" and scheme_of(policy) == "https") and _is_of(origin, policy.host)


def answering(url: str, host: str) -> str:
    """Return who answers at `url`, a URL that is asked on behalf of `host`, as messages name it."""
    origin = check_url(url)
    return host if _is_of(origin, host) else f"{origin.authority} (for {host})"


def _is_of(origin: Origin, host: str) -> bool:
    own = (host, api_authority(host), *(api for api, owner in OWNED_APIS.items() if owner == host))
    return any(origin == _own(one, origin.scheme) for one in own)


def reach_of(policy: HostPolicy) -> Reach:
    """Return which addresses the rules for this host open."""
    return Reach(loopback=is_loopback(policy.host), private=policy.allow_private)


def check_addresses(host: str, addresses: Sequence[str], reach: Reach) -> None:
    """Refuse when any of `addresses` may not be dialled: a mixed answer is an attack, not a choice (DNS rebinding).

    Args:
        host: the `host[:port]` whose addresses they are, as it is written under `hosts:`.
        addresses: IPv4 or IPv6, each perhaps with a zone.
        reach: which of them may be dialled.

    Raises:
        UntrustedError: with reason `address`.
    """
    for text in addresses:
        address = ip_address(text.partition("%")[0])
        if not _reachable(address, reach):
            kind = "loopback" if _plain(address).is_loopback else "private or reserved"
            itself = host == text or host.startswith((f"{text}:", f"[{text}]"))
            found = f"{host} is a {kind} address" if itself else f"{host} has the {kind} address {text}"
            raise untrusted("address", f"{found}; to allow it {advice.PRIVATE}")


def check_literal(origin: Origin, reach: Reach) -> None:
    """Check a host that is written as an address; names are checked when they are resolved.

    Raises:
        UntrustedError: with reason `address`.
    """
    try:
        ip_address(origin.host)
    except ValueError:
        if is_loopback(origin.host) and not (reach.loopback or reach.private):
            raise untrusted("address", f"{origin.host} from a host that is not itself on this machine") from None
    else:
        check_addresses(origin.authority, [origin.host], reach)


def realms_of(policy: HostPolicy) -> tuple[str, ...]:
    """Return the origins besides a host's own that may see its credentials for a token, those of `hosts:` first."""
    return (*policy.token_realms, *TOKEN_REALMS.get(policy.host, ()))


def check_realm(realm: str, home: Origin, policy: HostPolicy) -> Origin:
    """Return the origin of a token server that may be asked for a token for `policy.host`, with its credentials.

    Allowed are the registry's own authority, `policy.token_realms` and `TOKEN_REALMS`; nothing else, because a
    registrable domain is shared by strangers (CVE-2026-33540 was fixed with one).

    Raises:
        UntrustedError: with reason `realm`, or `downgrade` for http after https.
    """
    try:
        origin = check_url(realm)
    except UntrustedError as error:
        raise UntrustedError(f"{policy.host} names a token realm that is {error}", "realm") from error
    if origin.scheme == "http" and home.scheme == "https":
        raise untrusted("downgrade", f"{policy.host} names the token realm {origin}, which is not encrypted")
    if origin.authority == home.authority or origin in map(check_url, realms_of(policy)):
        return origin
    raise untrusted(
        "realm",
        f"{policy.host} names the token realm {origin}, which is not known as its own; if it is right,"
        f" {advice.REALM}{origin}`",
    )


def redirect(chain: Sequence[str], location: str | None) -> str:
    """Return the absolute URL of the next hop; `chain` holds all URLs so far, the newest last.

    Raises:
        UntrustedError: with reason `location` (missing), `hops`, `loop`, `downgrade`, or one of `check_url`'s.
    """
    here = check_url(chain[-1])
    if not location:
        raise untrusted("location", f"{here} redirects without a Location")
    if len(chain) > MAX_HOPS:
        raise untrusted("hops", f"{here} redirects after {MAX_HOPS} redirects")
    url = joined(chain[-1], location).partition("#")[0]
    there = check_url(url)
    if here.scheme == "https" and there.scheme == "http":
        raise untrusted("downgrade", f"{here} redirects to {there}, which is not encrypted")
    if url in chain:
        raise untrusted("loop", f"{here} redirects in a circle")
    return url


def carry(headers: Mapping[str, str], *, home: bool) -> dict[str, str]:
    """Return the headers to send: all of them to the host they are for, else only `SAFE_HEADERS`."""
    return {name: value for name, value in headers.items() if home or name.lower() in SAFE_HEADERS}


def verified(address: DatabaseAddress) -> bool:
    """Return whether a database must show a certificate for its name before it learns who we are, or anything else."""
    near = all(server.socket or is_loopback(server.host) for server in address.servers)
    return not address.insecure and (not near or address.ca is not None)


@lru_cache(1024)
def _own(authority: str, scheme: str) -> Origin | None:
    try:
        return check_url(f"{scheme}://{authority}")
    except UntrustedError:
        return None


@lru_cache(1024)
def is_loopback(authority: str) -> bool:
    """Return whether a host, with or without a port, is this machine by its name or address."""
    bare = authority.count(":") > 1 and "[" not in authority  # an IPv6 address, as `Origin.host` has it
    host = authority if bare else urlsplit(f"//{authority}").hostname or ""
    try:
        return _plain(ip_address(host)).is_loopback
    except ValueError:
        return host == "localhost"


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _reachable(address: IPv4Address | IPv6Address, reach: Reach) -> bool:
    plain = _plain(address)
    if plain.is_multicast:
        return False
    if plain.is_loopback:
        return reach.loopback or reach.private
    if reach.private:
        return True
    if plain == _WIRE_SERVER:
        return False
    if isinstance(plain, IPv6Address) and (plain.sixtofour or plain.teredo or any(plain in net for net in _NAT64)):
        return False  # each of them wraps an IPv4 address that a gateway would unwrap
    return plain.is_global and not plain.is_reserved
