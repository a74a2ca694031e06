"""One request after the other on the wire: which connection pool, which headers, which redirects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Final, Self

from mirrord import __version__
from mirrord.errors import BrokenError, MirrordError, StalledError
from mirrord.events import Events, RequestDone
from mirrord.wire import trust
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.body import ResponseStream, UploadBody
from mirrord.wire.http.message import HttpRequest, HttpResponse, Limits, Transport, Upload, WireRequest, WireResponse
from mirrord.wire.http.pace import Bucket
from mirrord.wire.http.transport import Route, Tls
from mirrord.wire.origin import Origin, parted

Connect = Callable[[Route, Limits], Transport]

_AGENT: Final = f"mirrord/{__version__}"
_STALE: Final = 3  # dead kept connections in a row before it counts as an attempt
_MOST_WAYS: Final = 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class Deadline:
    """Ends what runs in it when the time of a request is over.

    The clock starts with the first `begin`, and stands still in `waiting`: waiting for a slot at the host is our own
    doing.

    Raises:
        StalledError: the time ran out.
    """

    __slots__ = ("_limit", "_request", "_seconds")

    def __init__(self, request: HttpRequest, limits: Limits, *, content: bool = False) -> None:
        """Take the time of `HttpRequest.deadline`, else `Limits.small`; without end while content flows.

        Args:
            request: what is asked.
            limits: time limits.
            content: the answer is content, of whatever length.
        """
        endless = content or isinstance(request.body, Upload)
        self._seconds = (request.first if endless else limits.small) if request.deadline is None else request.deadline
        self._request, self._limit = request, asyncio.timeout(None)

    @property
    def over(self) -> bool:
        """Return whether the time has run out: what runs in it is being cancelled."""
        return self._limit.expired()

    def begin(self) -> None:
        """Let the clock run; at a retry it runs already."""
        if self._seconds is not None and self._limit.when() is None:
            self._limit.reschedule(asyncio.get_running_loop().time() + self._seconds)

    def end(self) -> None:
        """Watch no longer: what follows may take any time."""
        self._limit.reschedule(None)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Stop the clock for as long as this takes."""
        until, now = self._limit.when(), asyncio.get_running_loop().time()
        self._limit.reschedule(None)
        yield
        if until is not None:
            self._limit.reschedule(until + asyncio.get_running_loop().time() - now)

    async def __aenter__(self) -> Self:
        """Start watching."""
        await self._limit.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching; raise StalledError when the deadline ended it."""
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError as late:
            what = f"{self._request.host}: {self._request.method} not done within {self._seconds or 0:.0f} s"
            raise StalledError(what) from late


@dataclass(frozen=True, slots=True)
class _Way:
    """How requests of one host go to one origin: judged once, since neither changes."""

    origin: Origin
    home: bool  # whether credentials of the host may go there
    transport: Transport


@dataclass(slots=True)
class Sender:
    """Sends what `Http` has decided to send, and follows redirects as `mirrord.wire.trust` allows."""

    book: HostBook  # hosts
    events: Events  # receives every exchange
    limits: Limits  # time limits
    connect: Connect  # makes the transport of a route
    bucket: Callable[..., Bucket | None]  # of a host's policy and a direction (`up`)
    _transports: dict[Route, Transport] = field(default_factory=dict)
    _ways: dict[tuple[str, Origin], _Way] = field(default_factory=dict)

    async def aclose(self) -> None:
        """Close all connections."""
        self._ways.clear()
        transports, self._transports = self._transports, {}
        for transport in transports.values():
            await transport.aclose()

    def at_home(self, url: str, policy: HostPolicy) -> bool:
        """Whether the credentials of a host may go to `url`."""
        return self._way(policy, url)[0].home

    async def follow(self, request: HttpRequest, policy: HostPolicy, authorization: str | None) -> ResponseStream:
        """Send, and follow redirects by hand; after leaving the host no credential is sent, not even back."""
        chain, home, stayed = [request.url], True, True
        way, url = self._way(policy, request.url)
        first = way.origin
        while True:
            home = home and way.home
            headers = trust.carry(request.headers, home=home)
            stayed = stayed and way.origin == first
            headers |= request.issued if stayed else {}
            if home and authorization:
                headers["Authorization"] = authorization
            response = await self._send(request, policy, way, url, headers)
            if response.status not in _REDIRECTS or response.status in request.ok:
                return response
            if request.method not in ("GET", "HEAD") and response.status not in (307, 308):
                return response  # RFC 9110 15.4: the others would turn this into a GET; the status becomes an error
            await response.discard()
            chain.append(trust.redirect(chain, response.headers.get("location")))
            way, url = self._way(policy, chain[-1])

    async def ask(self, request: HttpRequest, policy: HostPolicy) -> HttpResponse:
        """Ask a token server that `trust` has allowed; redirects are not followed with what this request holds."""
        async with Deadline(request, self.limits) as deadline:  # its own: an upload that waits for the token has none
            deadline.begin()
            response = await self._send(request, policy, *self._way(policy, request.url), request.headers)
            try:
                body = await response.read(request.cap)
            finally:
                await response.aclose()
            return HttpResponse(response.status, response.headers, body, response.url)

    async def _send(
        self, request: HttpRequest, policy: HostPolicy, way: _Way, url: str, headers: Mapping[str, str]
    ) -> ResponseStream:
        """One request, one answer; again when a kept connection turns out to be dead before the first byte."""
        headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **headers}
        for stale in range(_STALE + 1):
            wire, upload = self._request(request, policy, way, url, headers)
            started = monotonic()
            try:
                answer = await self._respond(way.transport, wire, upload)
            except MirrordError as error:
                self._done(request, 0, started)
                # What adds content or triggers something is not sent again: it may have arrived.
                once = request.method == "PATCH" or (request.method == "POST" and upload is not None)
                reused = wire.reused and isinstance(error, BrokenError)
                if not reused or once or stale == _STALE or (upload is not None and upload.error):
                    raise
            else:
                break
        done = partial(self._done, request, answer.status, started)
        bucket = self.bucket(policy, up=False)
        return ResponseStream(answer.status, answer.headers, url, answer, request, self.limits, bucket, upload, done)

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
                    raise upload.error from error  # the source failed; the broken connection is only a consequence
            if isinstance(error, TimeoutError) and watch.expired():
                late = (
                    f"no headers within {seconds:.0f} s"
                    if upload is None
                    else "accepts no more bytes, or does not answer"
                )
                raise StalledError(f"{wire.authority}: {late}") from error
            raise

    def _done(self, request: HttpRequest, status: int, started: float) -> None:
        self.events.emit(RequestDone(request.host, request.method, status, monotonic() - started))

    def _request(
        self, request: HttpRequest, policy: HostPolicy, way: _Way, url: str, headers: dict[str, str]
    ) -> tuple[WireRequest, UploadBody | None]:
        body, authority = request.body, way.origin.authority
        if isinstance(body, Upload):
            upload = UploadBody(body, trust.answering(url, request.host), self.limits, self.bucket(policy, up=True))
            if body.size is not None:
                headers["Content-Length"] = str(body.size)
            return WireRequest(request.method, url, authority, headers, upload, self.limits.answer), upload
        return WireRequest(request.method, url, authority, headers, body), None

    def _way(self, policy: HostPolicy, url: str) -> tuple[_Way, str]:
        """Return how `url` is reached on behalf of `policy`, and its spelling on the wire.

        Raises:
            UntrustedError: it may not be reached.
        """
        origin, rest = parted(url)
        way = self._ways.get((policy.host, origin))
        if way is None:
            trust.check_literal(origin, self._reach(policy, origin))
            home = trust.belongs(origin, policy)
            way = _Way(origin, home, self._transport(policy, origin, home=home))
            if len(self._ways) >= _MOST_WAYS:  # the number of origins in redirects is not bounded
                self._ways.clear()
            self._ways[policy.host, origin] = way
        return way, f"{origin}{rest}"

    def _transport(self, policy: HostPolicy, origin: Origin, *, home: bool) -> Transport:
        """Return the pool for this origin on behalf of `policy`.

        Another origin (a CDN, a token server) is reached as its own policy says; what it does not say is taken
        from the host that sent us there, except for the client certificate, which proves who we are.
        """
        own = policy if home else self.book.policy(origin.authority)
        ca = own.ca or policy.ca
        tls = Tls()
        if origin.scheme == "https":
            tls = Tls(ca or self.book.ca, ca is None or not home, own.certificate, own.key)
        route = Route(tls, self._reach(policy, origin), own.proxy or self.book.proxy(policy, origin))
        if route not in self._transports:
            self._transports[route] = self.connect(route, self.limits)
        return self._transports[route]

    def _reach(self, policy: HostPolicy, origin: Origin) -> trust.Reach:
        """Return what may be dialled for `policy`: more than its own, where the operator opened exactly this origin."""
        own = self.book.policies.get(origin.authority)
        reach = trust.reach_of(policy)
        return reach | trust.reach_of(own) if own is not None and own.allow_private else reach
