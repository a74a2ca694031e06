"""One request after the other on the wire: which connection pool, which headers, which redirects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from typing import Final

from mirrord import __version__
from mirrord.errors import BrokenError, MirrordError, StalledError
from mirrord.events import Events, RequestDone
from mirrord.wire import trust
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.body import ResponseStream, UploadBody
from mirrord.wire.http.message import HttpRequest, HttpResponse, Limits, Transport, Upload, WireRequest, WireResponse
from mirrord.wire.http.pace import Bucket
from mirrord.wire.http.transport import Route, Tls
from mirrord.wire.origin import Origin, canonical, check_url

Connect = Callable[[Route, Limits], Transport]

_AGENT: Final = f"mirrord/{__version__}"
_STALE: Final = 3  # dead kept connections in a row before it counts as an attempt
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


Line = AbstractAsyncContextManager[None]


@asynccontextmanager
async def deadline(
    request: HttpRequest, limits: Limits, *, content: bool = False
) -> AsyncIterator[Callable[[Line], Line]]:
    """End what runs in it when the request's time is over. Yields what holds a place in a line at no cost of time.

    Args:
        request: its `deadline` counts; None stands for `Limits.small`, and for no end with content under way.
        limits: patience.
        content: the answer is content, of whatever length.

    Raises:
        StalledError: the time ran out.
    """
    endless = content or isinstance(request.body, Upload)
    seconds = limits.small if request.deadline is None and not endless else request.deadline
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield partial(_free, limit)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise StalledError(f"{request.host}: {request.method} not done within {seconds:.0f} s") from error


@asynccontextmanager
async def _free(limit: asyncio.Timeout, line: Line) -> AsyncIterator[None]:
    """Hold a place in `line`; the clock stands still until it is our turn: waiting here is our own doing."""
    until, since = limit.when(), asyncio.get_running_loop().time()
    limit.reschedule(None)
    async with line:
        if until is not None:
            limit.reschedule(until + asyncio.get_running_loop().time() - since)
        yield


@dataclass(slots=True)
class Sender:
    """Sends what `Http` has decided to send, and follows redirects as `mirrord.wire.trust` allows."""

    book: HostBook  # hosts
    events: Events  # told about every exchange
    limits: Limits  # patience
    connect: Connect  # makes the transport of a route
    _transports: dict[Route, Transport] = field(default_factory=dict)
    _buckets: dict[tuple[str, bool], Bucket] = field(default_factory=dict)

    async def aclose(self) -> None:
        """Close all connections."""
        transports, self._transports = self._transports, {}
        for transport in transports.values():
            await transport.aclose()

    async def follow(self, request: HttpRequest, policy: HostPolicy, authorization: str | None) -> ResponseStream:
        """Send, and follow redirects by hand; once away from home no credential is sent any more, not even back."""
        chain, home, first, stayed = [request.url], True, check_url(request.url), True
        while True:
            origin = check_url(chain[-1])
            home = home and trust.belongs(origin, policy)
            headers = trust.carry(request.headers, home=home)
            stayed = stayed and origin == first
            headers |= request.issued if stayed else {}
            if home and authorization:
                headers["Authorization"] = authorization
            response = await self._send(replace(request, url=chain[-1], headers=headers), policy)
            if response.status not in _REDIRECTS or response.status in request.ok:
                return response
            if request.method not in ("GET", "HEAD") and response.status not in (307, 308):
                return response  # RFC 9110 15.4: the others would turn this into a GET; the status becomes an error
            await response.discard()
            chain.append(trust.redirect(chain, response.headers.get("location")))

    async def ask(self, request: HttpRequest, policy: HostPolicy) -> HttpResponse:
        """Ask a token server that `trust` has allowed; redirects are not followed with what this request holds."""
        async with deadline(request, self.limits):  # its own: an upload that waits for the token has none
            response = await self._send(request, policy)
            try:
                body = await response.read(request.cap)
            finally:
                await response.aclose()
            return HttpResponse(response.status, response.headers, body, response.url)

    async def _send(self, request: HttpRequest, policy: HostPolicy) -> ResponseStream:
        """One request, one answer; again when a kept connection turns out to be dead before the first byte."""
        origin = check_url(request.url)
        trust.check_literal(origin, self._reach(policy, origin))
        transport = self._transport(policy, origin)
        for stale in range(_STALE + 1):
            wire, upload = self._request(request, origin)
            started = monotonic()
            try:
                answer = await self._respond(transport, wire, upload)
            except MirrordError as error:
                self._done(request, 0, started)
                reused = wire.reused and isinstance(error, BrokenError)
                if not reused or request.method == "PATCH" or stale == _STALE or (upload is not None and upload.error):
                    raise
            else:
                break
        done = partial(self._done, request, answer.status, started)
        bucket = self._bucket(policy, up=False)
        return ResponseStream(
            answer.status, answer.headers, request.url, answer, request, self.limits, bucket, upload, done
        )

    async def _respond(self, transport: Transport, wire: WireRequest, upload: UploadBody | None) -> WireResponse:
        body = wire.body if isinstance(wire.body, bytes) else b""
        # aiohttp's timeouts begin anew with every byte: headers that drip, or 1xx without end, would never end.
        seconds = self.limits.connect + self.limits.stall + len(body) / max(self.limits.floor, 1.0)
        watch = asyncio.timeout(seconds if upload is None else None)
        try:
            async with watch:
                if upload is None:
                    return await transport.send(wire)
                upload.watch = watch
                try:
                    return await transport.send(wire)
                finally:
                    upload.watch = None
        except BaseException as error:
            if upload is not None:
                await upload.aclose()
                if upload.error is not None and not isinstance(error, asyncio.CancelledError):
                    raise upload.error from error  # our own source failed; the broken connection is only its echo
            if isinstance(error, TimeoutError) and watch.expired():
                late = (
                    f"no headers within {seconds:.0f} s"
                    if upload is None
                    else "takes no more bytes, or does not answer"
                )
                raise StalledError(f"{wire.authority}: {late}") from error
            raise

    def _done(self, request: HttpRequest, status: int, started: float) -> None:
        self.events.emit(RequestDone(request.host, request.method, status, monotonic() - started))

    def _request(self, request: HttpRequest, origin: Origin) -> tuple[WireRequest, UploadBody | None]:
        headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **request.headers}
        url = canonical(request.url)
        if isinstance(request.body, Upload):
            bucket = self._bucket(self.book.policy(request.host), up=True)
            upload = UploadBody(request.body, request.host, self.limits, bucket)
            headers |= {} if request.body.size is None else {"Content-Length": str(request.body.size)}
            return WireRequest(request.method, url, origin.authority, headers, upload, self.limits.answer), upload
        return WireRequest(request.method, url, origin.authority, headers, request.body), None

    def _transport(self, policy: HostPolicy, origin: Origin) -> Transport:
        """Return the pool for this origin on behalf of `policy`.

        Another origin (a CDN, a token server) is reached as its own policy says; what it does not say is taken
        from the host that sent us there, except for the client certificate, which proves who we are.
        """
        home = trust.belongs(origin, policy)
        own = policy if home else self.book.policy(origin.authority)
        ca = own.ca or policy.ca
        tls = Tls(ca, ca is None or not home, own.certificate, own.key) if origin.scheme == "https" else Tls()
        route = Route(tls, self._reach(policy, origin), own.proxy or policy.proxy)
        if route not in self._transports:
            self._transports[route] = self.connect(route, self.limits)
        return self._transports[route]

    def _reach(self, policy: HostPolicy, origin: Origin) -> trust.Reach:
        """Return what may be dialled for `policy`: more than its own, where the operator opened exactly this origin."""
        own = self.book.policies.get(origin.authority)
        reach = trust.reach_of(policy)
        return reach | trust.reach_of(own) if own is not None and own.allow_private else reach

    def _bucket(self, policy: HostPolicy, *, up: bool) -> Bucket | None:
        if policy.bandwidth is None:
            return None
        return self._buckets.setdefault((policy.host, up), Bucket(policy.bandwidth))
