"""Runs the flows of `mirrord.wire.http.auth`: finds credentials, fetches each token once however many calls need it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from mirrord.errors import DeniedError
from mirrord.keyedlock import KeyedLock
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http import auth, token
from mirrord.wire.http.body import ResponseStream
from mirrord.wire.http.message import HttpRequest, HttpResponse, Upload
from mirrord.wire.secret import Credential

Send = Callable[[HttpRequest, HostPolicy, str | None], Awaitable[ResponseStream]]
Ask = Callable[[HttpRequest, HostPolicy], Awaitable[HttpResponse]]

_SLOW_UPLOAD: Final = 4 * 1024 * 1024  # bytes a second; an upload gets a token that outlives it at this speed


@dataclass(slots=True)
class Tokens:
    """Desks, credentials and tokens of all hosts.

    Attributes:
        book: hosts and keyring.
        ask: performs one request to a token server, whatever its status; follows no redirect.
        wall: Unix time.
    """

    book: HostBook
    ask: Ask
    wall: Callable[[], float]
    _desks: dict[str, token.AuthState] = field(default_factory=dict)
    _locks: KeyedLock = field(default_factory=KeyedLock)

    async def carry_out(self, call: HttpRequest, policy: HostPolicy, send: Send) -> ResponseStream:
        """Send `call`, with whatever authentication it takes; the answer may still be a refusal."""
        desk = self._desks.setdefault(policy.host, token.AuthState())
        need = call.body.size / _SLOW_UPLOAD if isinstance(call.body, Upload) else 0.0
        flow = auth.authenticate(desk, policy, call.scope, monotonic(), need)
        incoming: ResponseStream | None = None
        told: auth.Told = None
        credential: Credential | None = None
        try:
            while True:
                try:
                    step = flow.send(told)
                except StopIteration:
                    assert incoming is not None
                    return incoming
                if isinstance(step, auth.Identify):
                    told = credential = await self.book.credential(policy.host)
                elif isinstance(step, auth.Need):
                    told = await self._token(desk, policy, step, need)
                else:
                    if incoming is not None:
                        await incoming.discard()
                    incoming = await send(call, policy, step.authorization)
                    if incoming.status in (401, 403) and credential and step.authorization == credential.basic:
                        self.book.refused(policy.host)
                    told = auth.Reply(incoming.status, incoming.response.challenges, incoming.url, monotonic())
        except BaseException:
            if incoming is not None:
                await incoming.aclose()
            raise

    async def _token(self, desk: token.AuthState, policy: HostPolicy, need: auth.Need, seconds: float) -> token.Token:
        async with self._locks.hold((policy.host, need.scope)):
            kept = desk.token(need.scope, monotonic(), seconds)
            if kept is not None and kept is not need.reject:
                return kept
            credential = await self.book.credential(policy.host)
            flow = token.obtain(desk, policy, credential, need.scope, now=monotonic(), wall=self.wall())
            try:
                call = next(flow)
                while True:
                    call = flow.send(await self.ask(call, policy))
            except StopIteration as done:
                found: token.Token = done.value
                return found
            except DeniedError:
                self.book.refused(policy.host)
                raise
