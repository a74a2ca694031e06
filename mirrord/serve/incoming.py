"""Who asks for what, also behind a proxy: the client's address, and the host and scheme that it used.

The fields of a proxy count only when it is one of `settings.proxies`: a client could write anything into them.
`X-Forwarded-For` is read from the right, since each proxy appends the address that it saw: the first address that is
no listed proxy is the client's. Without it RFC 7239 `Forwarded` counts, in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web

from mirrord.syncer.serving import Request

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")
_NODE = re.compile(r"\[([0-9A-Fa-f:.%A-Za-z]{2,64})\](?::[0-9]{1,5})?|([0-9.]{7,15})(?::[0-9]{1,5})?")
_PAIR = re.compile(r'\s*([A-Za-z]{1,16})=(?:"([^"\\]{0,300})"|([^\s";,]{1,300}))\s*')
_FIELDS: Final = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded")
_HOPS: Final = 32  # from the right; further ones are no client's
_LONGEST: Final = 4096  # characters of a field's end that are read

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The proxies whose fields are used, and the configured public address, which counts without such a field."""

    networks: tuple[IPv4Network | IPv6Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
    url: str = ""  # `settings.url`, or ""

    def trusts(self, address: Address | None) -> bool:
        """Return whether this is one of the proxies."""
        return address is not None and any(address in network for network in self.networks)


def seen_through(request: web.Request, proxies: TrustedProxies) -> web.Request:
    """Return the request as its client sent it to the first of the `proxies`: with its address, scheme and host."""
    peer = address_in(request.remote or "")
    seen: dict[str, Any] = {}
    if proxies.trusts(peer):
        seen = _forwarded(request, proxies, peer)
    elif peer is not None and str(peer) != request.remote:
        seen["remote"] = str(peer)
    if "Host" not in request.headers:
        seen.setdefault("host", "")  # aiohttp would name the address of our socket
    if "scheme" not in seen and proxies.url:
        public = urlsplit(proxies.url)
        if public.scheme != request.scheme and seen.get("host", request.host).lower() == public.netloc:
            seen["scheme"] = public.scheme
    return request.clone(**seen) if seen else request


def origin_of(request: web.Request, proxies: TrustedProxies) -> str:
    """Return the `scheme://host` by which the sender of this request, as it arrived, reaches us; "" if nobody knows.

    Behind a proxy that is not listed it is `settings.url`: the request itself may say http where its client used TLS,
    which would then send its password unencrypted.
    """
    if not proxies.trusts(address_in(request.remote or "")) and any(name in request.headers for name in _FIELDS):
        return proxies.url
    seen = seen_through(request, proxies)
    return f"{seen.scheme}://{seen.host}" if _HOST.fullmatch(seen.host) else proxies.url


def _forwarded(request: web.Request, proxies: TrustedProxies, peer: Address | None) -> dict[str, Any]:
    """Return what listed proxies say about a request: `remote`, `scheme` and `host`, as far as it is valid."""
    client, hop = peer, dict[str, str]()
    for hop in _hops(request):
        if (found := address_in(hop.get("for", ""))) is None:
            break  # hidden or wrong: all that is known is the proxy that wrote it
        client = found
        if not proxies.trusts(found):
            break
    # The last `hop` is what the first listed proxy saw.
    scheme = request.headers.get("X-Forwarded-Proto", hop.get("proto", "")).partition(",")[0].strip().lower()
    host = request.headers.get("X-Forwarded-Host", hop.get("host", "")).partition(",")[0].strip()
    seen = {"remote": str(client)} if str(client) != request.remote else {}
    if scheme in {"http", "https"}:
        seen["scheme"] = scheme
    if _HOST.fullmatch(host):
        seen["host"] = host
    return seen


def _hops(request: web.Request) -> Iterator[dict[str, str]]:
    """Yield what each proxy saw, the nearest one first: the address `for`, in `Forwarded` also `proto` and `host`."""
    if "X-Forwarded-For" in request.headers:
        yield from ({"for": entry} for entry in _from_the_right(request.headers.getall("X-Forwarded-For")))
    else:
        yield from map(_pairs, _from_the_right(request.headers.getall("Forwarded", ())))


def _from_the_right(fields: Iterable[str]) -> Iterator[str]:
    """Yield the last entries of a list, the last one first."""
    for entry in reversed(",".join(fields)[-_LONGEST:].rsplit(",", _HOPS)[-_HOPS:]):
        yield entry.strip()


def _pairs(element: str) -> dict[str, str]:
    """Return the pairs of an element of `Forwarded`; nothing if one of them is invalid."""
    pairs = [_PAIR.fullmatch(part) for part in element.split(";")]
    return {one[1].lower(): one[2] or one[3] or "" for one in pairs if one} if all(pairs) else {}


@lru_cache(4096)
def address_in(node: str) -> Address | None:
    """Return an address out of `ADDRESS`, `ADDRESS:PORT`, `[IPV6]` or `[IPV6]:PORT`, or None for anything else.

    A zone is dropped, since it has no meaning elsewhere, and an IPv4 address in IPv6 form becomes one of IPv4.
    """
    match = _NODE.fullmatch(node) if len(node) <= 80 else None
    text = (match[1] or match[2]) if match else node[:80]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def incoming(request: web.Request, prefix: str, path: str, token: str | None) -> Request:
    """Return a request for a syncer; `path` is the raw one, and begins with `prefix`; `token` as `Request.token`."""
    fields: dict[str, str] = {}
    for name, value in request.headers.items():
        fields.setdefault(name.lower(), value)
    fields.pop("authorization", None)  # what a client says to us is for nobody else
    query: dict[str, str] = {}
    differing = set()
    for name, value in request.query.items() if "?" in request.raw_path else ():
        if query.setdefault(name, value) != value:
            differing.add(name)
    return Request(
        request.method,
        prefix,
        path[len(prefix) :],
        query,
        fields,
        request.host if _HOST.fullmatch(request.host) else "",
        request.scheme,
        request.remote or "",
        tuple(request.headers.getall("Accept", ())),
        token,
        frozenset(differing),
    )
