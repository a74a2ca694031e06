"""Transport by aiohttp: one connection pool for one `Route`, with every guard that sits at the socket."""

from __future__ import annotations

import asyncio
import ssl
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from socket import AddressFamily
from typing import TYPE_CHECKING, Any, Final

from yarl import URL

from mirrord.errors import ContentError, MirrordError, UnreachableError
from mirrord.wire import trust
from mirrord.wire.http.exchange import Exchange, Handler
from mirrord.wire.http.failures import SHOWN, lenient, no_answer, proxy_refusal, shown, tls_error
from mirrord.wire.http.lean import aiohttp
from mirrord.wire.http.message import Limits, WireRequest, permanent
from mirrord.wire.proxy import Proxy
from mirrord.wire.trust import Reach

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver, ResolveResult
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection

_MOST_DIALS = 1024


@dataclass(frozen=True, slots=True)
class Tls:
    """Which authorities to trust, and our own certificate."""

    ca: str | None = None  # PEM file with the operator's authorities, or None
    system: bool = True  # trust the system's authorities (always when there is no `ca`)
    certificate: str | None = None  # PEM file with our certificate, or None
    key: str | None = None  # PEM file with its key when it is elsewhere

    def context(self) -> ssl.SSLContext:
        """Load the files; blocks for 40 to 90 ms with the system's authorities.

        Raises:
            UnreachableError: a file is missing or no PEM; names it.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2  # Debian's Python leaves it to OpenSSL's configuration
            if self.ca and self.system:
                context.load_default_certs()
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(filter(None, (self.ca, self.certificate, self.key)))
            message = f"cannot load the TLS files {files}: {error.strerror or error}; check `ca` and `certificate`"
            raise permanent(UnreachableError(message)) from error
        context.set_alpn_protocols(["http/1.1"])
        return context


@dataclass(frozen=True, slots=True)
class Route:
    """Everything that requests of one connection pool have in common."""

    tls: Tls = field(default_factory=Tls)  # certificates
    reach: Reach = field(default_factory=Reach)  # which addresses may be dialled
    # an HTTP proxy, or None; it resolves names, so that only literals can be judged here
    proxy: Proxy | None = None


_DEFAULT_PORTS: Final = (0, 80, 443)


class GuardedResolver(aiohttp.abc.AbstractResolver):
    """Resolves once, checks every address, and returns what will be dialled, so DNS rebinding has no effect."""

    def __init__(self, inner: AbstractResolver, reach: Reach) -> None:
        self._inner, self._reach = inner, reach

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AddressFamily.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return addresses, all of them allowed.

        Raises:
            UntrustedError: one is not.
        """
        results = await self._inner.resolve(host, port, family)
        where = host if port in _DEFAULT_PORTS else f"{host}:{port}"
        trust.check_addresses(where, [result["host"] for result in results], self._reach)
        return results

    async def close(self) -> None:
        """Close the inner resolver."""
        await self._inner.close()


_asking: ContextVar[WireRequest] = ContextVar("_asking")


class _Connector(aiohttp.TCPConnector):
    """Notes which requests got a new connection, and lets `Handler` parse what comes.

    `to_proxy` is the TLS context for an `https://` proxy. aiohttp would use that of the host behind it, and so present
    the client certificate of the host to the proxy.
    """

    def __init__(self, to_proxy: ssl.SSLContext | None, **settings: Any) -> None:
        super().__init__(**settings)
        self._to_proxy = to_proxy
        self._factory = partial(Handler, loop=self._loop)  # type: ignore[assignment]  # it is a `ResponseHandler`

    def _get_ssl_context(self, req: aiohttp.ClientRequest) -> ssl.SSLContext | None:
        return self._to_proxy if self._to_proxy and req.proxy is None else super()._get_ssl_context(req)

    async def _create_connection(self, *asked: Any) -> ResponseHandler:
        _asking.get().reused = False
        return await super()._create_connection(*asked)


class AiohttpTransport:
    """Fulfils `Transport` for one `Route`."""

    def __init__(self, route: Route, limits: Limits, resolver: AbstractResolver | None = None) -> None:
        self._route, self._limits, self._resolver = route, limits, resolver
        self._proxy = URL(route.proxy.url) if route.proxy else None
        login = route.proxy.login if route.proxy else None  # aiohttp would write it in Latin-1, or not at all
        self._login = {"Proxy-Authorization": login.basic} if login else {}
        self._connector: _Connector | None = None
        self._tls: asyncio.Future[ssl.SSLContext] | None = None
        self._to_proxy: ssl.SSLContext | None = None  # set when the proxy speaks TLS, before the first connection
        self._dials: dict[tuple[str, str], aiohttp.ClientRequest] = {}

    async def send(self, request: WireRequest) -> Exchange:
        """Send; hosts written as addresses never reach the guarded resolver: `Sender` has judged those."""
        scheme = request.url[: request.url.index(":")]
        dial = self._dials.get((scheme, request.authority)) or await self._dial(scheme, request.authority)
        silence = self._limits.stall if request.patience is None else request.patience
        request.reused = True
        _asking.set(request)
        try:
            connection = await self._connected(dial)
            exchange = Exchange(connection, request)
            try:
                await exchange.start(*self._head(scheme, request), silence)
            except BaseException:
                exchange.abort()
                raise
        except (aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError, ValueError) as error:
            raise no_answer(error, request, self._route.proxy, await self._shown(error, scheme, request)) from error
        if exchange.status == 407 and self._route.proxy and scheme == "http":
            exchange.abort()
            raise proxy_refusal(request.authority, exchange.status, self._route.proxy)
        if "transfer-encoding" in exchange.headers and "content-length" in exchange.headers:
            exchange.abort()  # RFC 9112 section 6.1: an attempt at smuggling; the connection is not reused
            raise ContentError(f"{request.authority}: both Transfer-Encoding and Content-Length in one answer")
        return exchange

    async def aclose(self) -> None:
        """Close all connections."""
        if self._connector is not None:
            await self._connector.close()

    async def _connected(self, dial: aiohttp.ClientRequest) -> Connection:
        if self._connector is None:
            inner = self._resolver or aiohttp.ThreadedResolver()
            guarded = inner if self._route.proxy else GuardedResolver(inner, self._route.reach)
            self._connector = _Connector(self._to_proxy, limit=0, resolver=guarded, keepalive_timeout=30)
        try:
            return await self._connector.connect(dial, [], aiohttp.ClientTimeout(connect=self._limits.connect))
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error

    async def _shown(self, error: Exception, scheme: str, request: WireRequest) -> str:
        """Return what a certificate says that was refused for its names or its time, or ""; see `lenient`."""
        cause = tls_error(error)
        if not isinstance(cause, ssl.SSLCertVerificationError) or cause.verify_code not in SHOWN:
            return ""
        tls = replace(self._route.tls, certificate=None, key=None)
        try:
            context = lenient(await asyncio.to_thread(tls.context))
            connection = await self._connected(self._request(scheme, request.authority, tls=context))
        except (aiohttp.ClientError, OSError, MirrordError):
            return ""
        try:
            seen = connection.transport.get_extra_info("peercert") if connection.transport else None
        finally:
            connection.close()
        return shown(cause.verify_code, seen or {})

    async def _dial(self, scheme: str, authority: str) -> aiohttp.ClientRequest:
        """Return what the connector has to know to connect to an origin; it is kept."""
        tls = await self._context() if scheme == "https" else True
        if self._proxy and self._proxy.scheme == "https" and self._to_proxy is None:
            anonymous = replace(self._route.tls, certificate=None, key=None)
            self._to_proxy = await asyncio.to_thread(anonymous.context)
        if len(self._dials) >= _MOST_DIALS:  # strangers redirect to wherever they like
            self._dials.clear()
        self._dials[scheme, authority] = dial = self._request(scheme, authority, tls=tls)
        return dial

    def _request(self, scheme: str, authority: str, *, tls: ssl.SSLContext | bool) -> aiohttp.ClientRequest:
        """Return a request to connect with; it is never sent."""
        url, loop = URL(f"{scheme}://{authority}/", encoded=True), asyncio.get_running_loop()
        headers = {"Host": authority, **self._login}  # with the host, which aiohttp would add, and ask for another pool
        return aiohttp.ClientRequest("GET", url, ssl=tls, proxy=self._proxy, proxy_headers=headers, loop=loop)

    def _head(self, scheme: str, request: WireRequest) -> tuple[str, dict[str, str]]:
        """Return the target of the request line, and the headers that depend on the way (RFC 9112 section 3.2)."""
        path = request.url[len(scheme) + 3 + len(request.authority) :]
        target, headers = path if path.startswith("/") else f"/{path}", {"Host": request.authority}
        if self._proxy is None or scheme == "https":
            return target, headers
        return f"http://{request.authority}{target}", headers | self._login

    async def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = asyncio.ensure_future(asyncio.to_thread(self._route.tls.context))
        return await asyncio.shield(self._tls)
