"""Notifications of what is wrong with the mirrors. They never delay a run, nor the end of the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from mirrord.commands import Delivered
from mirrord.config.load import Configuration
from mirrord.daemon.courier import Courier, status_of
from mirrord.daemon.runtime import Runtime
from mirrord.errors import ConfigError, UsageError
from mirrord.events import Event, Events, RateLimit
from mirrord.report.notices import Correspondence
from mirrord.report.status import MirrorStatus, ReceiverStatus, Status
from mirrord.report.words import words
from mirrord.syncer.values import Facts
from mirrord.wire.http.client import Http
from mirrord.wire.notify.known import SERVICES
from mirrord.wire.notify.port import deliver
from mirrord.wire.secret import Secret

NOTIFY_GRACE: Final = 5.0
"""Seconds that messages get when the daemon ends; what is not sent by then is sent after the next start."""
_HOSTS: Final = 64


class Notifying:
    """Couriers of all receivers of the configuration in use, each on its own."""

    def __init__(self, runtime: Runtime, status: Callable[[], Awaitable[Status]]) -> None:
        """Report what `status` returns."""
        self._runtime, self._status = runtime, status
        self.events: Events = runtime.events
        self.facts: Facts = runtime.store
        self.http, self.url = open_notify(runtime.snapshot.configuration), ""
        self.paces: dict[Secret, float] = {}
        self._couriers: dict[str, tuple[Courier, asyncio.Task[None]]] = {}
        self._exhausted: set[str] = set()
        runtime.events.listen(self._hear)

    async def follow(self) -> None:
        """Serve the receivers of the configuration in use; those that did not change keep what they wait for."""
        configuration = self._runtime.snapshot.configuration
        wanted = configuration.receivers if self._runtime.leads else {}  # others would send the same
        old, self.http = self.http, open_notify(configuration)
        self.url = configuration.settings.url or ""
        await old.retire()
        for name, (courier, task) in [*self._couriers.items()]:
            if wanted.get(name) != courier.receiver:
                del self._couriers[name]
                await _cancelled(task)
                if name not in configuration.receivers:
                    await courier.forget()
        for name, receiver in wanted.items():
            if name not in self._couriers:
                courier = Courier(receiver, self)
                self._couriers[name] = courier, asyncio.create_task(courier.work())
        self._couriers = {name: self._couriers[name] for name in wanted}
        self.wake()

    def wake(self) -> None:
        """Look now whether there is something to report."""
        for courier, _ in self._couriers.values():
            courier.wake()

    def again(self, name: str) -> None:
        """Take note that a receiver took a test message."""
        if name in self._couriers:
            self._couriers[name][0].again()

    def standing(self) -> tuple[ReceiverStatus, ...]:
        """Return how the receivers stand."""
        return tuple(courier.status for courier, _ in self._couriers.values())

    async def close(self) -> None:
        """Send what there is, as far as that takes no longer than the grace."""
        for courier, _ in self._couriers.values():
            courier.close()
        if tasks := [task for _, task in self._couriers.values()]:
            await asyncio.wait(tasks, timeout=NOTIFY_GRACE)
            for task in tasks:
                await _cancelled(task)
        await self.http.aclose()

    # What couriers see

    async def mirrors(self) -> Sequence[MirrorStatus]:
        """See `Surroundings.mirrors`."""
        return (await self._status()).mirrors

    def exhausted(self) -> Sequence[str]:
        """See `Surroundings.exhausted`."""
        return sorted(self._exhausted)

    def _hear(self, event: Event) -> None:
        if isinstance(event, RateLimit):
            if event.remaining > 0:
                self._exhausted.discard(event.host)
            elif event.host not in self._exhausted and len(self._exhausted) < _HOSTS:
                self._exhausted.add(event.host)
                self.wake()


def open_notify(configuration: Configuration) -> Http:
    """Make the way to receivers: as `hosts:` says, without credentials, and apart from what runs and fronts count."""
    return Http(replace(configuration.book, keyring=None), Events())


def receivers_of(configuration: Configuration) -> tuple[ReceiverStatus, ...]:
    """Return the receivers of a configuration as they stand where nobody sends."""
    return tuple(status_of(receiver) for receiver in configuration.receivers.values())


async def try_receiver(configuration: Configuration, name: str, at: datetime) -> Delivered:
    """Send a test message to a receiver.

    Raises:
        UsageError: there is no such receiver.
        ConfigError: a secret of it is not on this machine.
        MirrordError: it did not take the message.
    """
    if lacking := [one.problem for one in configuration.absent if one.receiver == name]:
        raise ConfigError(*lacking)
    receiver = configuration.receivers.get(name)
    if receiver is None:
        known = ", ".join(configuration.receivers)
        raise UsageError(f"no receiver is called {name[:80]!r}; {f'there are {known}' if known else 'write notify:'}")
    message = Correspondence(name, words(receiver.language), configuration.settings.url or "").trial(at)
    async with open_notify(configuration) as http:
        answer = await deliver(http, SERVICES[receiver.kind], receiver, message, at)
    return Delivered(name, receiver.kind, receiver.host, answer)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
