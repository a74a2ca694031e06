"""Runs the flows of `mirrord.wire.http.auth`: finds credentials, fetches each token once however many calls need it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final
from weakref import WeakValueDictionary

from mirrord.wire.host import HostBook, HostPolicy, NoKeyring
from mirrord.wire.http import auth, token
from mirrord.wire.http.body import ResponseStream
from mirrord.wire.http.message import HttpRequest, HttpResponse, Upload
from mirrord.wire.secret import Credential

Send = Callable[[HttpRequest, HostPolicy, str | None], Awaitable[ResponseStream]]
Ask = Callable[[HttpRequest, HostPolicy], Awaitable[HttpResponse]]

_KEYRING_LASTS: Final = 300.0  # helpers hand out passwords that change (ECR: every twelve hours)
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
    _known: dict[str, tuple[float, Credential | None]] = field(default_factory=dict)
    _locks: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def carry_out(self, call: HttpRequest, policy: HostPolicy, send: Send) -> ResponseStream:
        """Send `call`, with whatever authentication it takes; the answer may still be a refusal."""
        desk = self._desks.setdefault(policy.host, token.AuthState())
        need = call.body.size / _SLOW_UPLOAD if isinstance(call.body, Upload) else 0.0
        flow = auth.authenticate(desk, policy, call.scope, monotonic(), need)
        incoming: ResponseStream | None = None
        told: auth.Told = None
        try:
            while True:
                try:
                    step = flow.send(told)
                except StopIteration:
                    assert incoming is not None
                    return incoming
                if isinstance(step, auth.Identify):
                    told = await self._credential(policy)
                elif isinstance(step, auth.Need):
                    told = await self._token(desk, policy, step, need)
                else:
                    if incoming is not None:
                        await incoming.discard()
                    incoming = await send(call, policy, step.authorization)
                    told = auth.Reply(incoming.status, incoming.response.challenges, incoming.url, monotonic())
        except BaseException:
            if incoming is not None:
                await incoming.aclose()
            raise

    async def _token(self, desk: token.AuthState, policy: HostPolicy, need: auth.Need, seconds: float) -> token.Token:
        async with self._lock(policy.host, need.scope):
            kept = desk.token(need.scope, monotonic(), seconds)
            if kept is not None and kept is not need.reject:
                return kept
            credential = await self._credential(policy)
            flow = token.obtain(desk, policy, credential, need.scope, now=monotonic(), wall=self.wall())
            call = next(flow)
            while True:
                answer = await self.ask(call, policy)
                try:
                    call = flow.send(answer)
                except StopIteration as done:
                    found: token.Token = done.value
                    return found

    async def _credential(self, policy: HostPolicy) -> Credential | None:
        """Return the configured credential, else the keyring's; helpers block, so they get a thread."""
        if policy.credential is not None or isinstance(self.book.keyring, NoKeyring):
            return policy.credential
        async with self._lock("", policy.host):
            until, credential = self._known.get(policy.host, (0.0, None))
            if monotonic() >= until:
                credential = await self.book.keyring.find(policy.host)
                self._known[policy.host] = (monotonic() + _KEYRING_LASTS, credential)
            return credential

    def _lock(self, *key: str) -> asyncio.Lock:
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock
