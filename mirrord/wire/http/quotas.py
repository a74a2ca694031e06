"""Which requests are not sent, since the host will refuse them: quotas, pauses, and refusals that stand for a run."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from time import monotonic
from typing import Final

from mirrord.errors import DeniedError, MirrordError, ServerError, ThrottledError
from mirrord.wire.host import HostBook
from mirrord.wire.http.asker import asker
from mirrord.wire.http.authenticator import own_authorization, repository_of
from mirrord.wire.http.budget import (
    LONGEST_PAUSE,
    Budget,
    PauseLook,
    Quota,
    Wait,
    counts,
    is_quota,
    limited,
    named_pause,
    pause_of,
    quota_of,
)
from mirrord.wire.http.message import RETRIABLE, HttpRequest, Upload, span
from mirrord.wire.http.shares import HostShares

UNNAMED_PAUSE: Final = 900.0
"""Seconds for which a run leaves a host alone that limits the rate to the last try, and does not say for how long."""


class Quotas:
    """What one `Http` knows about them; the numbers belong to all that share the hosts."""

    def __init__(self, book: HostBook, shares: HostShares, wall: Callable[[], float]) -> None:
        """Account by the credentials of `book`; `wall` is Unix time."""
        self._book, self._shares, self._wall = book, shares, wall

    async def enter(self, request: HttpRequest) -> PauseLook | None:
        """Return when the request may be sent, with what others wait for if it is the one that finds out for them.

        Raises:
            ThrottledError: the host wants it later, or what it allows is kept for people.
            DeniedError: the same credential was refused in this run.
        """
        run, host = asker(), request.host
        if run is not None and (known := run.denial(request)) is not None:
            error, credential = known
            if await self._book.credential(host, repository_of(request.scope)) == credential:
                raise error
            run.forgive(request)
        while True:
            if wait := self._wait(request):
                raise ThrottledError(f"{host}: {wait.reason}; it is asked again in {span(wait.seconds)}", wait.seconds)
            if (budget := self._budget(request)) is None:
                return None
            charged, sends = self._charged(request), isinstance(request.body, Upload)
            if sends or (look := budget.looked_for(charged=charged)) is None:
                break
            await look.over.wait()
        if charged:
            budget.spend()
        return None if sends else budget.begin_look(charged=charged)  # a body may take minutes until its answer

    def _budget(self, request: HttpRequest) -> Budget | None:
        budgets = self._shares.budgets(request.host)
        return budgets.get(self._account(request)) if budgets else None

    def _wait(self, request: HttpRequest) -> Wait | None:
        run, now = asker(), monotonic()
        if run is not None and (seconds := run.away(request.host, now)):
            return Wait(seconds, "limits the rate")
        if (budget := self._budget(request)) is None:
            return None
        return budget.wait(now, charged=self._charged(request), reserved=run is not None and run.scheduled)

    def tried(self, request: HttpRequest, error: MirrordError | None, status: int = 0) -> None:
        """Note how a try ended, with an error or with a status that is an answer."""
        run = asker()
        if run is None or not request.scope:
            return
        if isinstance(error, DeniedError):
            run.denied(request, error, self._book.known(request.host, repository_of(request.scope)))
        elif error is None and status < 400:
            run.granted(request)

    def note(self, request: HttpRequest, headers: Mapping[str, str]) -> Quota | None:
        """Take the quota from the headers of an answer."""
        quota = quota_of(headers, self._wall())
        if quota is not None:
            self._shares.budget(request.host, self._account(request)).note(quota, monotonic())
        return quota

    def refused(
        self, request: HttpRequest, status: int, headers: Mapping[str, str], body: bytes
    ) -> tuple[float | None, bool]:
        """Return when a host that refused a request wants to be asked again, and whether it limits the rate."""
        throttled = limited(status, headers)
        if not throttled and status not in RETRIABLE:
            return None, False
        after = pause_of(headers, self._wall()) if throttled else named_pause(headers.get("retry-after"), self._wall())
        if throttled:
            budget = self._shares.budget(request.host, self._account(request))
            budget.refused(after, monotonic(), partly=is_quota(self._book.policy(request.host).registry, headers, body))
        return after, throttled

    def pause(self, request: HttpRequest, error: ThrottledError) -> None:
        """Ask a host no more whose token server limits the rate, and names a time: each request may need a token."""
        if error.after:
            self._shares.budget(request.host, self._account(request)).refused(error.after, monotonic())

    def sent_away(self, request: HttpRequest, error: MirrordError, patience: float) -> MirrordError:
        """Let the run of a request go on when its host may be asked again, and not ask it before.

        Returns the error; of a host that is busy for longer than our patience (503) as one that is throttled.
        """
        run = asker()
        if run is None:
            return error
        if isinstance(error, ServerError) and error.after is not None and error.after > patience:
            error = ThrottledError(f"{error}; it is asked again in {span(error.after)}", error.after)
        if isinstance(error, ThrottledError):
            seconds = min(UNNAMED_PAUSE if error.after is None else error.after, LONGEST_PAUSE)
            until = monotonic() + seconds
            if self._wait(request) is None:
                run.leave(request.host, until)
            run.sent_away(until)
        return error

    def _charged(self, request: HttpRequest) -> bool:
        return counts(request, self._book.policy(request.host).registry)

    def _account(self, request: HttpRequest) -> Hashable:
        """Return on whose account a request goes: a credential's, or None for an address without one."""
        own = own_authorization(request)
        if own is not None:
            return hash(own)
        return None if request.anonymous else self._book.known(request.host, repository_of(request.scope))
