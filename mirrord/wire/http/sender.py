"""One request after the other on the wire: which connection pool, which headers, which redirects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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
from mirrord.wire.http.deadline import Deadline
from mirrord.wire.http.message import HttpRequest, HttpResponse, Limits, Upload
from mirrord.wire.http.pace import Bucket
from mirrord.wire.http.request import Transport, WireRequest, WireResponse
from mirrord.wire.http.transport import Route, Tls
from mirrord.wire.origin import Origin, canonical, check_url

Connect = Callable[[Route, Limits], Transport]

_AGENT: Final = f"mirrord/{__version__}"
_STALE: Final = 3  # dead kept connections in a row before it counts as an attempt
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(slots=True)
class Sender:
    """Sends what `Http` has decided to send, and follows redirects as `mirrord.wire.trust` allows.

    Attributes:
        book: hosts.
        events: told about every exchange.
        limits: patience.
        connect: makes the transport of a route.
    """

    book: HostBook
    events: Events
    limits: Limits
    connect: Connect
    _transports: dict[Route, Transport] = field(default_factory=dict)
    _buckets: dict[tuple[str, bool], Bucket] = field(default_factory=dict)

    async def aclose(self) -> None:
        """Close all connections."""
        transports, self._transports = self._transports, {}
        for transport in transports.values():
            await transport.aclose()

    async def follow(self, call: HttpRequest, policy: HostPolicy, authorization: str | None) -> ResponseStream:
        """Send, and follow redirects by hand; once away from home no credential is sent any more, not even back."""
        chain, home, first, stayed = [call.url], True, check_url(call.url), True
        while True:
            origin = check_url(chain[-1])
            home = home and trust.belongs(origin, policy)
            headers = trust.carry(call.headers, home=home)
            stayed = stayed and origin == first
            headers |= call.issued if stayed else {}
            if home and authorization:
                headers["Authorization"] = authorization
            incoming = await self._send(replace(call, url=chain[-1], headers=headers), policy)
            if incoming.status not in _REDIRECTS or incoming.status in call.ok:
                return incoming
            if call.method not in ("GET", "HEAD") and incoming.status not in (307, 308):
                return incoming  # RFC 9110 15.4: the others would turn this into a GET; the status becomes an error
            await incoming.discard()
            chain.append(trust.redirect(chain, incoming.headers.get("location")))

    async def ask(self, call: HttpRequest, policy: HostPolicy) -> HttpResponse:
        """Ask a token server that `trust` has allowed; redirects are not followed with what this request holds."""
        async with Deadline(call, self.limits):  # its own: an upload that waits for the token has none
            incoming = await self._send(call, policy)
            try:
                body = await incoming.read(call.cap)
            finally:
                await incoming.aclose()
            return HttpResponse(incoming.status, incoming.headers, body, incoming.url)

    async def _send(self, call: HttpRequest, policy: HostPolicy) -> ResponseStream:
        """One request, one answer; again when a kept connection turns out to be dead before the first byte."""
        origin = check_url(call.url)
        trust.check_literal(origin, self._reach(policy, origin))
        transport = self._transport(policy, origin)
        for stale in range(_STALE + 1):
            request, feed = self._request(call, origin)
            started = monotonic()
            try:
                response = await self._respond(transport, request, feed)
            except MirrordError as error:
                self._done(call, 0, started)
                reused = request.reused and isinstance(error, BrokenError)
                if not reused or call.method == "PATCH" or stale == _STALE or (feed is not None and feed.error):
                    raise
            else:
                break
        done = partial(self._done, call, response.status, started)
        bucket = self._bucket(policy, up=False)
        return ResponseStream(
            response.status, response.headers, call.url, response, call, self.limits, bucket, feed, done
        )

    async def _respond(self, transport: Transport, request: WireRequest, feed: UploadBody | None) -> WireResponse:
        if feed is None:
            body = request.body if isinstance(request.body, bytes) else b""
            # aiohttp's timeouts begin anew with every byte: headers that drip, or 1xx without end, would never end.
            seconds = self.limits.connect + self.limits.stall + len(body) / max(self.limits.floor, 1.0)
            limit = asyncio.timeout(seconds)
            try:
                async with limit:
                    return await transport.send(request)
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise StalledError(f"{request.authority}: no headers within {seconds:.0f} s") from error
        watch = asyncio.timeout(None)
        try:
            async with watch:
                feed.watched_by(watch)
                try:
                    return await transport.send(request)
                finally:
                    feed.watched_by(None)
        except BaseException as error:
            await feed.aclose()
            if feed.error is not None and not isinstance(error, asyncio.CancelledError):
                raise feed.error from error  # our own source failed; the broken connection is only its echo
            if isinstance(error, TimeoutError) and watch.expired():
                raise StalledError(f"{request.authority}: takes no more bytes, or does not answer") from error
            raise

    def _done(self, call: HttpRequest, status: int, started: float) -> None:
        self.events.emit(RequestDone(call.host, call.method, status, monotonic() - started))

    def _request(self, call: HttpRequest, origin: Origin) -> tuple[WireRequest, UploadBody | None]:
        headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **call.headers}
        url = canonical(call.url)
        if isinstance(call.body, Upload):
            bucket = self._bucket(self.book.policy(call.host), up=True)
            feed = UploadBody(call.body, call.host, self.limits, bucket)
            headers["Content-Length"] = str(call.body.size)
            return WireRequest(call.method, url, origin.authority, headers, feed, self.limits.answer), feed
        return WireRequest(call.method, url, origin.authority, headers, call.body), None

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
