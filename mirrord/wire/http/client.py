"""All HTTP to other machines: deadlines, minimum throughput, caps, redirects, retries, trust, redaction.

No client library does these safely (measured: a drip is never timed out, decoders chain without limit, custom headers
follow a redirect to strangers). Callers see values of `mirrord.wire.http.message` and the error tree.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from time import time  # noqa: TID251 - a default argument, for nothing but Retry-After dates
from types import TracebackType
from typing import Self, TypeVar

from mirrord.errors import ContentError, MirrordError, UntrustedError
from mirrord.events import Events, RateLimit, Retrying, TrustRefused
from mirrord.wire import trust
from mirrord.wire.host import HostBook
from mirrord.wire.http.authenticator import Authenticator, brings_own
from mirrord.wire.http.body import ResponseStream
from mirrord.wire.http.message import CAPS, HttpRequest, HttpResponse, Limits, Upload, refusal
from mirrord.wire.http.pace import Repeat, RequestClass, admits, decide, retry_after
from mirrord.wire.http.sender import Connect, Deadline, Sender
from mirrord.wire.http.transport import AiohttpTransport
from mirrord.wire.number import whole

_T = TypeVar("_T")


@dataclass(slots=True)
class HostLimiter:
    """Admission to one host: first come, first served within each class."""

    limit: int  # how many requests at once
    _active: Counter[RequestClass] = field(default_factory=Counter)
    _waiting: dict[RequestClass, OrderedDict[asyncio.Future[None], None]] = field(
        default_factory=lambda: {kind: OrderedDict() for kind in RequestClass}
    )

    def slot(self, kind: RequestClass, deadline: Deadline | None = None) -> HostSlot:
        """Return a slot for one request, to hold with `async with`; `deadline` stands still until it is free."""
        return HostSlot(self, kind, deadline)

    def enter(self, kind: RequestClass) -> bool:
        """Take a slot if one is free and nobody waits for it."""
        if self._waiting[kind] or not self._admits(kind):
            return False
        self._active[kind] += 1
        return True

    def leave(self, kind: RequestClass) -> None:
        """Give the slot to the next in line."""
        self._active[kind] -= 1
        self._wake()

    async def wait(self, kind: RequestClass) -> None:
        """Wait in line for a slot."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting[kind][turn] = None
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():  # `_wake` may have taken it out of the line already
                self._waiting[kind].pop(turn, None)
            else:  # admitted and cancelled at the same moment: pass the slot on
                self.leave(kind)
            raise

    def _wake(self) -> None:
        for kind, queue in self._waiting.items():
            while queue and self._admits(kind):
                turn, _ = queue.popitem(last=False)
                if not turn.done():
                    self._active[kind] += 1
                    turn.set_result(None)

    def _admits(self, kind: RequestClass) -> bool:
        return admits(kind, self._active, self.limit)


class HostSlot:
    """A slot for one request at a host."""

    __slots__ = ("_deadline", "_kind", "_limiter")

    def __init__(self, limiter: HostLimiter, kind: RequestClass, deadline: Deadline | None) -> None:
        """Prepare; `__aenter__` waits."""
        self._limiter, self._kind, self._deadline = limiter, kind, deadline

    async def __aenter__(self) -> None:
        """Wait for it."""
        if not self._limiter.enter(self._kind):
            with self._deadline.waiting() if self._deadline else nullcontext():
                await self._limiter.wait(self._kind)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back."""
        self._limiter.leave(self._kind)


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
    ) -> None:
        self.book, self._events, self._limits = book, events or Events(), limits
        self._jitter, self._wall = jitter, wall
        self._limiters: dict[str, HostLimiter] = {}
        self._sender = Sender(book, self._events, limits, connect)
        self._authenticator = Authenticator(book, self._sender.ask, wall)

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
            async with self._limiter(request.host).slot(kind, deadline):
                deadline.begin()
                response = await self._open(request)
                try:
                    body = await response.read(request.cap)
                finally:
                    await response.aclose()
                return HttpResponse(response.status, response.headers, body, response.url)

        async with Deadline(request, self._limits) as deadline:
            return await self._persist(request, attempt)

    @asynccontextmanager
    async def stream(self, request: HttpRequest) -> AsyncIterator[ResponseStream]:
        """Carry out `request` up to the headers, and hold its place at the host until the caller leaves.

        Tries again only until there are headers; whoever reads the body resumes it. Raises as `fetch`.
        """
        async with Deadline(request, self._limits, content=True) as deadline, AsyncExitStack() as held:

            async def attempt() -> ResponseStream:
                async with AsyncExitStack() as stack:
                    await stack.enter_async_context(self._limiter(request.host).slot(RequestClass.DOWN, deadline))
                    deadline.begin()
                    response = await self._open(request)
                    stack.push_async_callback(response.aclose)
                    held.push_async_exit(stack.pop_all())
                    return response

            yield await self._persist(request, attempt)

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
                    raise
                self._events.emit(Retrying(request.host, error.code, delay))
                waited += delay
            await asyncio.sleep(delay)

    async def _open(self, request: HttpRequest) -> ResponseStream:
        """One attempt up to an answer whose status is in `request.ok`."""
        policy = self.book.policy(request.host)
        brings = brings_own(request)
        if not brings and not request.anonymous and self._sender.at_home(request.url, policy):
            response = await self._authenticator.send(request, policy, self._sender.follow)
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
        left = response.headers.get("ratelimit-remaining")
        if left is not None and (remaining := whole(left.partition(";")[0].strip())) is not None:
            self._events.emit(RateLimit(request.host, remaining))
        if response.status not in request.ok:
            after = retry_after(response.headers.get("retry-after"), self._wall())
            body = await response.head(CAPS.error)
            home = self._sender.at_home(response.url, self.book.policy(request.host))
            login = self._authenticator.explain(request) if home else ""
            raise refusal(request, response.status, response.headers, body, url=response.url, after=after, login=login)
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity") and not request.encoded:
            host = trust.answering(response.url, request.host)
            raise ContentError(f"{host}: answers with Content-Encoding {encoding[:40]!r}, which was not asked for")

    def _limiter(self, host: str) -> HostLimiter:
        if host not in self._limiters:
            self._limiters[host] = HostLimiter(self.book.policy(host).requests)
        return self._limiters[host]
