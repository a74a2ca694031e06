"""Sends to one receiver what is to be reported: many notices in one message, and again after failures."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from mirrord.daemon.runtime import now
from mirrord.errors import MirrordError, TransportError
from mirrord.events import Events, Notified
from mirrord.model.notice import Notice, Occasion
from mirrord.report.notices import Correspondence, Reported, budget_notices, mirror_notices
from mirrord.report.status import MirrorStatus, ReceiverStatus
from mirrord.report.words import words
from mirrord.syncer.values import Facts
from mirrord.wire.http.client import Http
from mirrord.wire.notify.known import SERVICES
from mirrord.wire.notify.port import deliver
from mirrord.wire.notify.receiver import Receiver
from mirrord.wire.secret import Secret, bug, redact

GIVE_UP: Final = 24 * 3600.0
"""Seconds for which a message is tried to be sent."""
SLOWEST: Final = 3600.0
"""Longest wait between two attempts, in seconds; also after a refusal, which somebody has to mend first."""
_FIRST: Final = 5.0
_GATHER: Final = 10.0  # seconds, at most, from the first notice to its message: seldom fails one mirror alone
_LOOK: Final = 30.0  # seconds between two looks at what is stale
_BREATH: Final = 0.2  # seconds between two looks: many mirrors may end their runs at a time
_SENT: Final = ""  # key of the time of the last message, beside what was reported of each mirror
_HOST: Final = "@"  # begins the key of a host; no mirror is called so


class Surroundings(Protocol):
    """What couriers share."""

    http: Http  # the way out
    events: Events
    facts: Facts  # where what was reported is kept
    url: str  # address of the page, or ""
    paces: dict[Secret, float]  # by address, loop time from which on it may get a message

    async def mirrors(self) -> Sequence[MirrorStatus]:
        """Return how all mirrors stand."""

    def exhausted(self) -> Sequence[str]:
        """Return the hosts that have no request left."""


@dataclass(slots=True)
class _Attempts:
    """Attempts at a message since one worked: number, first and next one (loop time), and how the last one failed."""

    count: int = 0
    first: float = 0.0
    following: float = 0.0
    error: str = ""


def status_of(receiver: Receiver) -> ReceiverStatus:
    """Return how a receiver stands that never got anything."""
    on = tuple(occasion.value for occasion in Occasion if occasion in receiver.on)
    return ReceiverStatus(receiver.name, receiver.kind, receiver.host, on, receiver.mirrors)


class Courier:
    """Brings messages to one receiver. What was reported is kept in the record."""

    def __init__(self, receiver: Receiver, around: Surroundings) -> None:
        self.receiver, self._around = receiver, around
        self._reported: Mapping[str, Reported] = {}
        self._sent: datetime | None = None
        self._waiting = 0
        self._gathered: float | None = None  # loop time from which on a message may be sent
        self._attempts = _Attempts()
        self._woken, self._closing = asyncio.Event(), False

    @property
    def status(self) -> ReceiverStatus:
        """How it stands."""
        known = status_of(self.receiver)
        return replace(known, waiting=self._waiting, last_sent=self._sent, last_error=self._attempts.error)

    def wake(self) -> None:
        """Look now whether there is something to report."""
        self._woken.set()

    def again(self) -> None:
        """Try again now: the receiver took a message."""
        self._attempts = _Attempts()
        self.wake()

    def close(self) -> None:
        """Send what there is without waiting for more, and end."""
        self._closing = True
        self.wake()

    async def work(self) -> None:
        """Report until `close`."""
        await self._recall()
        while True:
            self._woken.clear()
            closing = self._closing
            try:
                wait = await self._round(closing=closing)
            except Exception as error:  # noqa: BLE001 - a bug must not end this for good
                wait = _LOOK
                self._around.events.emit(Notified(self.receiver.name, "failed", self._waiting, bug(error)))
            if closing:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(min(wait, _LOOK)):
                    await self._woken.wait()
                    await asyncio.sleep(_BREATH)

    async def forget(self) -> None:
        """Forget what was reported: the receiver is no longer configured."""
        with suppress(MirrordError):
            await self._around.facts.note("", self._name, {})

    @property
    def _name(self) -> str:
        return f"notify.{self.receiver.name}"

    async def _round(self, *, closing: bool) -> float:
        """Report what there is if it is time for that; return the seconds until the next look."""
        notices, reported = await self._pending()
        self._waiting = len(notices)
        if not notices:
            self._gathered = None
            if reported != self._reported:
                await self._keep(reported)
            return _LOOK
        loop = asyncio.get_running_loop()
        if self._attempts.count and loop.time() - self._attempts.first > GIVE_UP:
            self._around.events.emit(Notified(self.receiver.name, "dropped", len(notices), self._attempts.error))
            await self._keep(reported)
            self._attempts, self._waiting = _Attempts(error=self._attempts.error), 0
            return 0.0
        wait = self._due(closing=closing) - loop.time()
        if wait > 0:
            return wait
        await self._send(notices, reported)
        return 0.0

    async def _pending(self) -> tuple[Sequence[Notice], Mapping[str, Reported]]:
        found: list[Notice] = []
        reported: dict[str, Reported] = {}
        at, receiver = now(), self.receiver
        for mirror in await self._around.mirrors():
            if receiver.about(mirror.name):
                more, after = mirror_notices(mirror, self._reported.get(mirror.name), receiver.on, at)
                found += more
                reported |= {mirror.name: after} if after else {}
        reported |= {key: one for key, one in self._reported.items() if key.startswith(_HOST)}
        if Occasion.BUDGET in receiver.on and receiver.about_hosts:
            for host in self._around.exhausted():
                more, after = budget_notices(host, reported.get(f"{_HOST}{host}"), at)
                found += more
                reported |= {f"{_HOST}{host}": after} if after else {}
        return found, reported

    def _due(self, *, closing: bool) -> float:
        """Return the loop time at which the next message may be sent."""
        time, every = asyncio.get_running_loop().time(), self.receiver.every
        if self._gathered is None:
            self._gathered = time + min(_GATHER, every / 10)
        quiet = 0.0
        if self._sent is not None:  # whatever the clock of the machine does, no longer than that
            quiet = time + min(every, every - (now() - self._sent).total_seconds())
        own = 0.0 if closing else max(self._gathered, quiet)
        return max(own, self._attempts.following, self._around.paces.get(self.receiver.url, 0.0))

    async def _send(self, notices: Sequence[Notice], reported: Mapping[str, Reported]) -> None:
        receiver, around, loop = self.receiver, self._around, asyncio.get_running_loop()
        service, at = SERVICES[receiver.kind], now()
        around.paces[receiver.url] = loop.time() + service.pace
        try:
            letters = Correspondence(receiver.name, words(receiver.language), around.url)
            message = await asyncio.to_thread(letters.message, notices, at)
            await deliver(around.http, service, receiver, message, at)
        except MirrordError as error:
            self._failed(error, len(notices))
        except Exception as error:  # noqa: BLE001 - a bug in one service must not end the others
            self._failed(MirrordError(bug(error)), len(notices))
        else:
            self._attempts, self._sent, self._waiting, self._gathered = _Attempts(), now(), 0, None
            await self._keep(reported)
            self._around.events.emit(Notified(receiver.name, "sent", len(notices)))

    def _failed(self, error: MirrordError, count: int) -> None:
        """Decide when to try again: as the service asks, else ever later, and late where somebody has to act."""
        before, time = self._attempts, asyncio.get_running_loop().time()
        asked = error.after if isinstance(error, TransportError) else None
        wait = SLOWEST
        if error.passing:
            wait = min(SLOWEST, _FIRST * 2 ** min(before.count, 20)) * (0.75 + random.random() / 2)  # noqa: S311 - spreads retries
        if asked is not None:
            wait = min(max(asked, 1.0), GIVE_UP)
        text = redact(str(error))
        self._attempts = _Attempts(before.count + 1, before.first if before.count else time, time + wait, text)
        result = "failed" if error.passing else "refused"
        self._around.events.emit(Notified(self.receiver.name, result, count, text, again=text == before.error))

    async def _recall(self) -> None:
        """Read what was reported; what cannot be read is reported once more."""
        facts: Mapping[str, str] = {}
        with suppress(MirrordError):
            facts = await self._around.facts.recall("", self._name)
        read = {key: Reported.read(text) for key, text in facts.items() if key != _SENT}
        self._reported = {key: reported for key, reported in read.items() if reported}
        with suppress(ValueError, KeyError):
            sent = datetime.fromisoformat(facts[_SENT])
            self._sent = sent if sent.tzinfo and sent < now() + timedelta(days=1) else None

    async def _keep(self, reported: Mapping[str, Reported]) -> None:
        """Record what was reported; if the disk takes nothing, it is known until the daemon ends."""
        self._reported = reported
        facts = {key: one.written() for key, one in reported.items()}
        if self._sent:
            facts[_SENT] = self._sent.isoformat()
        with suppress(MirrordError):
            await self._around.facts.note("", self._name, facts)
