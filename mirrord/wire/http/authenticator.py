"""Runs the flows of `mirrord.wire.http.auth`: finds credentials, fetches each token once however many calls need it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import copy
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from mirrord.errors import DeniedError, MirrordError
from mirrord.keyedlock import KeyedLock
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http import auth, token
from mirrord.wire.http.body import ResponseStream
from mirrord.wire.http.message import HttpRequest, HttpResponse, Upload
from mirrord.wire.secret import Credential

Send = Callable[[HttpRequest, HostPolicy, str | None], Awaitable[ResponseStream]]
Ask = Callable[[HttpRequest, HostPolicy], Awaitable[HttpResponse]]

_SLOW_UPLOAD: Final = 4 * 1024 * 1024  # bytes a second; an upload gets a token that outlives it at this speed


def repository_of(scope: str) -> str:
    """Return the repository that a token scope is about (`repository:team/app:pull`), "" for none."""
    kind, _, rest = scope.partition(" ")[0].partition(":")
    return rest.rpartition(":")[0] if kind == "repository" else ""


def own_authorization(request: HttpRequest) -> str | None:
    """Return the `Authorization` that a request has of its own; secret."""
    sent = (*request.headers.items(), *request.issued.items())
    return next((value for name, value in sent if name.lower() == "authorization"), None)


def brings_own(request: HttpRequest) -> bool:
    """Whether a request has an `Authorization` of its own: the APIs of Git hosts do not send challenges."""
    return own_authorization(request) is not None


@dataclass(slots=True)
class Authenticator:
    """Authenticates requests, with the state of all hosts."""

    book: HostBook  # hosts and keyring
    ask: Ask  # performs one request to a token server, whatever its status; follows no redirect
    wall: Callable[[], float]  # Unix time
    _states: dict[str, token.AuthState] = field(default_factory=dict)
    _locks: KeyedLock = field(default_factory=KeyedLock)

    async def send(self, request: HttpRequest, policy: HostPolicy, send: Send) -> ResponseStream:
        """Send `request`, authenticated as the host demands; the answer may still be a refusal."""
        state = self._states.setdefault(policy.host, token.AuthState())
        need = (request.body.size or 0) / _SLOW_UPLOAD if isinstance(request.body, Upload) else 0.0
        flow = auth.authenticate(state, policy, request.scope, monotonic(), need)
        response: ResponseStream | None = None
        answer: auth.Answer = None
        credential: Credential | None = None
        try:
            while True:
                try:
                    step = flow.send(answer)
                except StopIteration:
                    assert response is not None
                    return response
                if isinstance(step, auth.Identify):
                    state.asked = True
                    answer = credential = await self.book.credential(policy.host, repository_of(request.scope))
                elif isinstance(step, auth.Need):
                    answer = await self._token(state, policy, repository_of(request.scope), step, need)
                else:
                    if response is not None:
                        await response.discard()
                    response = await send(request, policy, step.authorization)
                    if response.status in (401, 403) and credential and step.authorization == credential.basic:
                        self.book.refused(policy.host)
                    answer = auth.Reply(response.status, response.wire.challenges, response.url, monotonic())
        except BaseException:
            if response is not None:
                await response.aclose()
            raise

    def explain(self, request: HttpRequest) -> str:
        """Return a clause that says which credentials a request was sent with; for messages."""
        if request.anonymous:  # what it brings is none of the book's
            return "" if brings_own(request) else "asked without credentials"
        state = self._states.get(request.host)
        if brings_own(request) or (state and state.asked):
            return self.book.explain(request.host, repository_of(request.scope), registry=bool(request.scope))
        return f"{request.host} did not ask for credentials"

    async def _token(
        self, state: token.AuthState, policy: HostPolicy, repository: str, need: auth.Need, seconds: float
    ) -> token.Token:
        before = state.failed.get(need.scope)
        async with self._locks.hold((policy.host, need.scope)):
            kept = state.token(need.scope, monotonic(), seconds)
            if kept is not None and kept is not need.reject:
                return kept
            failed = state.failed.get(need.scope)
            if failed is not None and failed is not before:  # while we waited, which would be one request each
                raise copy(failed)
            credential = await self.book.credential(policy.host, repository)
            login = self.book.explain(policy.host, repository)
            flow = token.obtain(state, policy, credential, need.scope, now=monotonic(), wall=self.wall(), login=login)
            try:
                request = next(flow)
                while True:
                    request = flow.send(await self.ask(request, policy))
            except StopIteration as done:
                found: token.Token = done.value
                return found
            except MirrordError as error:
                state.fail(need.scope, copy(error))
                if isinstance(error, DeniedError):
                    self.book.refused(policy.host)
                raise
