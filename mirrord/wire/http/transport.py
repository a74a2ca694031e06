"""Transport by aiohttp: one connection pool for one `Route`, with every guard that sits at the socket."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from socket import AddressFamily
from typing import TYPE_CHECKING, Any

from yarl import URL

from mirrord.errors import ContentError, UnreachableError
from mirrord.wire import trust
from mirrord.wire.http.failures import failure, no_answer, proxy_refusal
from mirrord.wire.http.lean import aiohttp
from mirrord.wire.http.message import KIB, MIB, Limits, WireRequest, permanent
from mirrord.wire.proxy import Proxy
from mirrord.wire.trust import Reach

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver, AbstractStreamWriter, ResolveResult
    from aiohttp.client_proto import ResponseHandler

_BUFFER = 256 * KIB  # bytes of an answer that may lie unread; twice as many before the other side has to wait
_UNSENT = 64 * KIB  # bytes of a body that may wait for the kernel before the next piece is asked for
_LINE = 32 * KIB  # a presigned Location is longer than aiohttp's 8 KiB
_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom to believe, and who we are."""

    ca: str | None = None  # PEM file with the operator's authorities, or None
    system: bool = True  # believe the system's authorities (always when there is no `ca`)
    certificate: str | None = None  # PEM file with our certificate, or None
    key: str | None = None  # PEM file with its key when it is elsewhere

    def context(self) -> ssl.SSLContext:
        """Load the files; blocks for 40 to 90 ms with the system's authorities.

        Raises:
            UnreachableError: a file is missing or no PEM; names it.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
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
    """Everything that two requests must agree on to share a connection pool."""

    tls: Tls = field(default_factory=Tls)  # certificates
    reach: Reach = field(default_factory=Reach)  # which addresses may be dialled
    # an HTTP proxy, or None; it resolves names, so that only literals can be judged here
    proxy: Proxy | None = None


class GuardedResolver(aiohttp.abc.AbstractResolver):
    """Resolves once, has every address judged, and returns what will be dialled: rebinding has no second chance."""

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
        trust.check_addresses(host, [result["host"] for result in results], self._reach)
        return results

    async def close(self) -> None:
        """Close the inner resolver."""
        await self._inner.close()


_asking: ContextVar[WireRequest] = ContextVar("_asking")


class _Connector(aiohttp.TCPConnector):
    """Says which requests got a connection of their own."""

    async def _create_connection(self, *asked: Any) -> ResponseHandler:
        _asking.get().reused = False
        return await super()._create_connection(*asked)


@lru_cache(8)
def _timeout(connect: float, silence: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect, sock_read=silence)


class AiohttpTransport:
    """Fulfils `Transport` for one `Route`."""

    def __init__(self, route: Route, limits: Limits, resolver: AbstractResolver | None = None) -> None:
        self._route, self._limits, self._resolver = route, limits, resolver
        self._proxy = route.proxy.full() if route.proxy else None
        self._session: aiohttp.ClientSession | None = None
        self._tls: asyncio.Future[ssl.SSLContext] | None = None

    async def send(self, request: WireRequest) -> _Answer:
        """Send; hosts written as addresses never reach the guarded resolver: `Sender` has judged those."""
        context = await self._context() if "https:" in (request.url[:6], self._proxy and self._proxy[:6]) else None
        body: BytesIO | bytes | _Stream | None
        if isinstance(request.body, bytes | None):
            body = request.body or None
            if body and len(body) > MIB:
                body = BytesIO(body)  # which aiohttp sends in pieces; it warns of long bytes
        else:
            body = _Stream(request.body)
        silence = self._limits.stall if request.patience is None else request.patience
        request.reused = True
        _asking.set(request)
        try:
            response = await self._client().request(
                request.method,
                URL(request.url, encoded=True),
                headers=request.headers,
                data=body,
                allow_redirects=False,
                proxy=self._proxy,
                timeout=_timeout(self._limits.connect, silence),
                ssl=context or True,
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise no_answer(error, request, self._route.proxy) from error
        if response.status == 407 and self._route.proxy and request.url.startswith("http:"):
            response.close()
            raise proxy_refusal(request.authority, response.status, self._route.proxy)
        if "Transfer-Encoding" in response.headers and "Content-Length" in response.headers:
            response.close()  # RFC 9112 section 6.1: an attempt at smuggling; the connection is not reused
            raise ContentError(f"{request.authority}: both Transfer-Encoding and Content-Length in one answer")
        return _Answer(response, request)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = asyncio.ensure_future(asyncio.to_thread(self._route.tls.context))
        return await asyncio.shield(self._tls)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            inner = self._resolver or aiohttp.ThreadedResolver()
            guarded = inner if self._route.proxy else GuardedResolver(inner, self._route.reach)
            self._session = aiohttp.ClientSession(
                connector=_Connector(limit=0, resolver=guarded, keepalive_timeout=30),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                read_bufsize=_BUFFER,
                max_line_size=_LINE,
                max_field_size=_LINE,
                skip_auto_headers=_AUTOMATIC,
            )
            # aiohttp would silently send an idempotent request twice, on fresh connections too; Http decides here
            self._session._retry_connection = False  # noqa: SLF001 - there is no public switch
        return self._session


class _Stream(aiohttp.AsyncIterablePayload):
    """A body that is sent piece by piece, no faster than the kernel takes it."""

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Send all of it; under TLS loops would let 512 KiB of it wait, which costs thrice as much memory."""
        if writer.transport is not None:
            writer.transport.set_write_buffer_limits(_UNSENT)
        await super().write_with_length(writer, content_length)


class _Answer:
    """Fulfils `Response`."""

    def __init__(self, response: aiohttp.ClientResponse, request: WireRequest) -> None:
        self.status, self.headers = response.status, _headers(response.raw_headers)
        self._response, self._request = response, request

    @property
    def challenges(self) -> tuple[str, ...]:
        """Return each `WWW-Authenticate` header on its own."""
        return tuple(self._response.headers.getall("WWW-Authenticate", ()))

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield what has come, as it comes."""
        content = self._response.content
        try:
            while chunk := await content.readany():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise failure(error, self._request) from error

    async def aclose(self) -> None:
        """Give the connection back, or close it when the body was not read to its end."""
        if getattr(self._request.body, "finished", True):
            self._response.release()
        else:  # answered in the middle of an upload: what follows on this connection would still be body
            self._response.close()


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Decode: ASCII says the standard, UTF-8 is what servers send, and Latin-1 reads everything."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key = name.decode("latin-1").lower()
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers
