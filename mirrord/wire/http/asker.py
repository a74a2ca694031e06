"""On whose behalf requests are made: that of a run of a mirror, or of people.

It goes with the task (`contextvars`): connections, tokens and limits belong to all runs, and only what hosts answered
to this one is its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from mirrord.errors import DeniedError
from mirrord.wire.http.message import HttpRequest
from mirrord.wire.secret import Credential

_DENIALS: Final = 3  # 403 in a row, without a success: one may be about one image (a scanner's), or a missing one
_READS: Final = frozenset({"GET", "HEAD"})
_Key = tuple[str, str, bool]


@dataclass(slots=True)
class _Denials:
    credential: Credential | None
    error: DeniedError
    count: int


@dataclass(slots=True)
class Asker:
    """One run.

    Attributes:
        scheduled: whether no person waits for it: what hosts allow is left to people first.
        until: monotonic time at which the first of the hosts that sent it away may be asked again, or None.
        tried: hosts in rest that it has tried once.
    """

    scheduled: bool = False
    until: float | None = None
    tried: set[str] = field(default_factory=set)
    _away: dict[str, float] = field(default_factory=dict)  # host → until when this run does not ask it (monotonic)
    _denials: dict[_Key, _Denials] = field(default_factory=dict)
    _granted: set[_Key] = field(default_factory=set)

    def sent_away(self, until: float) -> None:
        """Note that a host wants us later."""
        self.until = until if self.until is None else min(self.until, until)

    def leave(self, host: str, until: float) -> None:
        """Ask a host no more that limits the rate, and does not hold everybody back."""
        self._away[host] = until

    def away(self, host: str, now: float) -> float:
        """Return the seconds for which this run does not ask a host."""
        return max(0.0, self._away[host] - now) if host in self._away else 0.0

    def denial(self, request: HttpRequest) -> tuple[DeniedError, Credential | None] | None:
        """Return the refusal that stands for all requests of this kind to this repository, and of whom."""
        known = self._denials.get(_key(request)) if self._denials else None
        if known is None or (known.count < _DENIALS and known.error.status == 403):
            return None
        return DeniedError(str(known.error), known.error.status, formal=known.error.formal), known.credential

    def denied(self, request: HttpRequest, error: DeniedError, credential: Credential | None) -> None:
        """Note a refusal: 401 is about the credential, 403 may be about one image where others were granted.

        What is read before a push says nothing: some registries deny what they lack, and the push decides.
        """
        key = _key(request)
        before_push = "push" in request.scope and request.method in _READS
        if before_push or (error.status == 403 and key in self._granted):
            return
        before = self._denials.get(key)
        self._denials[key] = _Denials(credential, error, before.count + 1 if before else 1)

    def granted(self, request: HttpRequest) -> None:
        """Note that a request was no refusal."""
        self._granted.add(_key(request))
        self.forgive(request)

    def forgive(self, request: HttpRequest) -> None:
        """Forget a refusal: the credential is another one now."""
        self._denials.pop(_key(request), None)


def _key(request: HttpRequest) -> _Key:
    return request.host, request.scope, request.method in _READS


_ASKER: Final[ContextVar[Asker | None]] = ContextVar("asker", default=None)


def asker() -> Asker | None:
    """Return the run that this task works for; None for people, and clients of the front."""
    return _ASKER.get()


def scheduled() -> bool:
    """Whether this task works for a run that no person waits for."""
    run = _ASKER.get()
    return run is not None and run.scheduled


@contextmanager
def asking(one: Asker) -> Iterator[Asker]:
    """Let the requests of this block, and of the tasks that it starts, be those of a run."""
    token = _ASKER.set(one)
    try:
        yield one
    finally:
        _ASKER.reset(token)
