"""All HTTP to other machines: deadlines, minimum throughput, caps, redirects, retries, trust, redaction.

No client library does these safely (measured: a drip is never timed out, decoders chain without limit, custom headers
follow a redirect to strangers). Callers see values of `mirrord.wire.http.message` and the error tree.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from time import time  # noqa: TID251 - a default argument, for nothing but Retry-After dates
from types import TracebackType
from typing import Self, TypeVar

from mirrord.errors import ContentError, MirrordError, ThrottledError, TransportError, UntrustedError
from mirrord.events import Events, RateLimit, Retrying, TrustRefused
from mirrord.wire import trust
from mirrord.wire.host import HostBook
from mirrord.wire.http.authenticator import Authenticator, brings_own
from mirrord.wire.http.body import ResponseStream
from mirrord.wire.http.circuits import Circuits
from mirrord.wire.http.limiter import HostSlot
from mirrord.wire.http.message import CAPS, HttpRequest, HttpResponse, Limits, Upload, permanent, refusal
from mirrord.wire.http.pace import Party, Repeat, RequestClass, decide, overloaded
from mirrord.wire.http.quotas import Quotas
from mirrord.wire.http.sender import Connect, Deadline, Sender
from mirrord.wire.http.shares import HostShares
from mirrord.wire.http.transport import AiohttpTransport

_T = TypeVar("_T")


def base_url(book: HostBook, host: str, api_host: str | None = None) -> str:
    """Return `scheme://authority` under which the API of `host` is reached."""
    return f"{trust.scheme_of(book.policy(host))}://{api_host or trust.api_authority(host)}"


class Http:
    """Carries out calls, each with authentication, trust, redirects, retries and pace; safe for concurrent use.

    Args:
        book: what the operator wrote about hosts.
        events: receives every exchange, retry and refusal.
        limits: time limits.
        connect: makes the transport of a route (tests put doubles here).
        jitter: random numbers in [0, 1), for waits.
        wall: Unix time, for `Retry-After` dates.
        shares: what hosts get at once and a second, together with the other `Http` over the same shares.
        party: who asks.
    """

    def __init__(
        self,
        book: HostBook,
        events: Events | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        *,
        connect: Connect = AiohttpTransport,
        jitter: Callable[[], float] = random.random,
        wall: Callable[[], float] = time,
        shares: HostShares | None = None,
        party: Party = Party.RUNS,
    ) -> None:
        self.book, self._events, self._limits = book, events or Events(), limits
        self._jitter = jitter
        self._shares, self._party = HostShares() if shares is None else shares, party
        self._sender = Sender(book, self._events, limits, connect, partial(self._shares.bucket, party=party))
        self._circuits = Circuits(book, limits, party, self._look)
        self._authenticator = Authenticator(book, self._sender.ask, wall)
        self._quotas = Quotas(book, self._shares, wall)
        self._calls, self._retired = 0, False

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; calls under way break."""
        await self._sender.aclose()

    async def retire(self) -> None:
        """Close all connections as soon as no call is under way."""
        self._retired = True
        if not self._calls:
            await self.aclose()

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            if self._retired and not self._calls:
                await self.aclose()

    def resting(self) -> frozenset[str]:
        """Return the hosts that are not asked now, after failures in a row."""
        return self._circuits.resting()

    def at_once(self) -> Mapping[str, int]:
        """Return how many requests each host gets at once at present, of this party and of the others."""
        return self._shares.at_once()

    async def fetch(self, request: HttpRequest) -> HttpResponse:
        """Carry out `request` and read the whole answer, trying again as `decide` says.

        Raises:
            TransportError: the last try failed.
            RefusedError: the status is not in `request.ok`.
            UntrustedError: answering the request would have led where it must not.
            TooLargeError: the body is longer than `request.cap`.
            ContentError: the body is encoded.
        """
        kind = RequestClass.UP if isinstance(request.body, Upload) else RequestClass.SMALL

        async def attempt() -> HttpResponse:
            async with self._slot(request, kind, deadline) as place:
                deadline.begin()
                response = await self._try(request, deadline, place)
                try:
                    body = await response.read(request.cap)
                finally:
                    await response.aclose()
                return HttpResponse(response.status, response.headers, body, response.url)

        async with self._call(), Deadline(request, self._limits) as deadline:
            return await self._persist(request, attempt)

    @asynccontextmanager
    async def stream(self, request: HttpRequest) -> AsyncIterator[ResponseStream]:
        """Carry out `request` up to the headers, and hold its place at the host until the caller leaves.

        Tries again only until there are headers; whoever reads the body resumes it. Raises as `fetch`.
        """
        async with (
            self._call(),
            Deadline(request, self._limits, content=True) as deadline,
            AsyncExitStack() as held,
        ):

            async def attempt() -> ResponseStream:
                async with AsyncExitStack() as stack:
                    place = await stack.enter_async_context(self._slot(request, RequestClass.DOWN, deadline))
                    deadline.begin()
                    response = await self._try(request, deadline, place)
                    if self._party is Party.FRONT and not ("Range" in request.headers and response.status == 200):
                        response.place = place  # a host that ignores Range would send it from the beginning each time
                    stack.push_async_callback(response.aclose)
                    held.push_async_exit(stack.pop_all())
                    return response

            response = await self._persist(request, attempt)
            if request.deadline is None:
                deadline.end()
            yield response

    async def _persist(self, request: HttpRequest, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Try until it works or `decide` gives up."""
        repeat = Repeat.UNSENT if isinstance(request.body, Upload) or request.method == "PATCH" else Repeat.ALWAYS
        limits = self._limits if request.attempts is None else replace(self._limits, attempts=request.attempts)
        waited, count = 0.0, 0
        while True:
            count += 1
            try:
                return await attempt()
            except MirrordError as error:
                if isinstance(error, UntrustedError):
                    self._events.emit(TrustRefused(request.host, error.reason))
                delay = decide(count, error, limits, waited=waited, repeat=repeat, jitter=self._jitter)
                if delay is None:
                    self.book.advise(error, request.host)
                    raise self._given_up(request, error, limits) from error.__cause__
                self._events.emit(Retrying(request.host, error.code, delay))
                waited += delay
            await asyncio.sleep(delay)

    def _given_up(self, request: HttpRequest, error: MirrordError, limits: Limits) -> MirrordError:
        """Return the error of a request that is not tried again; one that is to come later says when."""
        self._circuits.gave_up(request, error)
        if not isinstance(error, TransportError):
            return error
        after = error.after
        error = self._quotas.sent_away(request, error, limits.patience)
        return error if after is None else permanent(error)  # nobody asks again before the time that it names

    async def _try(self, request: HttpRequest, deadline: Deadline, place: HostSlot) -> ResponseStream:
        """One attempt as `_open`, if the host is to be asked now; what comes of it is noted."""
        await self._circuits.enter(request)
        look = await self._quotas.enter(request)
        sending = isinstance(request.body, Upload)
        try:
            response = await self._open(request)
        except MirrordError as error:
            self._circuits.tried(request, error)
            self._quotas.tried(request, error)
            place.ended(overloaded=overloaded(error, sending=sending))
            raise
        except asyncio.CancelledError:
            if deadline.over:
                self._circuits.failed(request, "no headers in time")
                place.ended(overloaded=not sending)
            elif look is not None:
                look.cut_off = True
            raise
        finally:
            if look is not None:
                look.over.set()
        self._circuits.tried(request, None)
        self._quotas.tried(request, None, response.status)
        place.ended(overloaded=False)
        return response

    async def _look(self, request: HttpRequest) -> int:
        """Ask once, without credentials and whatever the host may have wanted, and return the status."""
        return (await self._sender.ask(request, self.book.policy(request.host))).status

    async def _open(self, request: HttpRequest) -> ResponseStream:
        """One attempt up to an answer whose status is in `request.ok`."""
        policy = self.book.policy(request.host)
        brings = brings_own(request)
        if not brings and not request.anonymous and self._sender.at_home(request.url, policy):
            try:
                response = await self._authenticator.send(request, policy, self._sender.follow)
            except ThrottledError as error:
                self._quotas.pause(request, error)
                raise
        else:
            response = await self._sender.follow(request, policy, None)
            if brings and response.status in (401, 403):
                self.book.refused(request.host)
        try:
            await self._check(request, response)
        except BaseException:
            await response.aclose()
            raise
        return response

    async def _check(self, request: HttpRequest, response: ResponseStream) -> None:
        """Raise what the status stands for, unless it is an answer."""
        quota = self._quotas.note(request, response.headers)
        if quota is not None:
            self._events.emit(RateLimit(request.host, quota.remaining, quota.limit))
        if response.status not in request.ok:
            body = await response.head(CAPS.error)
            after, throttled = self._quotas.refused(request, response.status, response.headers, body)
            home = self._sender.at_home(response.url, self.book.policy(request.host))
            login = self._authenticator.explain(request) if home else ""
            raise refusal(
                request,
                response.status,
                response.headers,
                body,
                url=response.url,
                after=after,
                throttled=throttled,
                login=login,
            )
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity") and not request.encoded:
            host = trust.answering(response.url, request.host)
            raise ContentError(f"{host}: answers with Content-Encoding {encoding[:40]!r}, which was not asked for")

    def _slot(self, request: HttpRequest, kind: RequestClass, deadline: Deadline) -> HostSlot:
        patience = self._limits.line if kind is RequestClass.SMALL else None
        return self._shares.slot(self.book.policy(request.host), kind, deadline, self._party, patience)
