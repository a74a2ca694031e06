"""The webhook of the running daemon: it points at the mirror of the configuration in use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from mirrord.config.load import Configuration
from mirrord.config.webhook import WebhookKeys
from mirrord.daemon.runtime import Runtime, now, open_http
from mirrord.errors import ConfigError, StorageError
from mirrord.names.denied import Denied
from mirrord.pointing.budget import PromptPointing
from mirrord.pointing.image_mirrors import list_files
from mirrord.pointing.places import Decision, webhook_places
from mirrord.pointing.present import AskedMirror, asking_book
from mirrord.serve.door import Listener
from mirrord.serve.own_certificate import OwnCertificate
from mirrord.serve.tls import ServedCertificate
from mirrord.serve.webhook import make_webhook

RENEW_EVERY: Final = 3600.0
"""Seconds between two looks at whether our own certificate has to be renewed."""
LOOK_EVERY: Final = 30.0
"""Seconds between two looks at the files of lists."""
_Notice = Callable[[str, str], None]
_Stamps = dict[Path, tuple[int, ...]]


class WebhookPointing:
    """Decides by a configuration, and by another one as soon as that is in use."""

    def __init__(self, runtime: Runtime) -> None:
        """Decide nothing yet."""
        self._runtime = runtime
        self._read: Configuration | None = None
        self._lists = _Stamps()
        self._pointing: PromptPointing | None = None
        self._open = AsyncExitStack()
        self._changing = asyncio.Lock()

    async def follow(self, read: Configuration) -> None:
        """Decide by this configuration from now on.

        Raises:
            ConfigError: it does not say where to point at.
        """
        async with self._changing:
            if read is self._read:
                return
            lists = await asyncio.to_thread(_stamps, read)
            places = await asyncio.to_thread(webhook_places, read, self._denied)
            fresh, present = AsyncExitStack(), None
            if places.policy == "present":
                http = open_http(asking_book(read, places.to), self._runtime.events)
                fresh.push_async_callback(http.retire)
                present = AskedMirror(http)
            pointing = PromptPointing(places, present)
            fresh.push_async_callback(pointing.aclose)
            before, self._open = self._open, fresh
            self._read, self._pointing, self._lists = read, pointing, lists
        await before.aclose()

    async def follow_lists(self, notice: _Notice) -> None:
        """Look at the files of lists again and again; never returns."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for text in await self.look():
                notice("warning", f"webhook: {text}; the list before stays in use")

    async def look(self) -> Sequence[str]:
        """Read the lists again if a file has changed, and return what is wrong: then nothing of them is used."""
        async with self._changing:
            assert self._read is not None
            assert self._pointing is not None
            lists = await asyncio.to_thread(_stamps, self._read)
            if lists == self._lists:
                return ()
            self._lists = lists
            places = await asyncio.to_thread(webhook_places, self._read, self._denied)
            if not places.problems:
                self._pointing.places = places
            return places.problems

    async def decide(self, texts: Collection[str]) -> Mapping[str, Decision]:
        """Return a decision for each text, within a second or so."""
        assert self._pointing is not None
        return await self._pointing.decide(texts)

    async def aclose(self) -> None:
        """Close the connections to the mirror."""
        await self._open.aclose()

    def _denied(self) -> Denied:
        """Return what is taken down by now."""
        return self._runtime.snapshot.configuration.denied


def _stamps(read: Configuration) -> _Stamps:
    """Return what changes with the files of lists."""
    found = _Stamps()
    for file in list_files(read):
        with suppress(OSError):
            status = file.stat()
            found[file] = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    return found


async def open_webhook(
    stack: AsyncExitStack,
    pointing: WebhookPointing,
    runtime: Runtime,
    *,
    keys: WebhookKeys,
    connection: Any,
    state: Path,
    notice: _Notice,
) -> ServedCertificate:
    """Answer the API server on a bound socket until `stack` closes, and return the certificate that it sees.

    Raises:
        ConfigError: it is not clear where to point at, or the certificate is bad.
        StorageError: there is no certificate of our own, and none can be made.
    """
    stack.push_async_callback(pointing.aclose)
    await pointing.follow(runtime.snapshot.configuration)
    own = None if keys.certificate else OwnCertificate(state)
    if own:
        await _renew(own, keys.names, notice)
    files = (str(own.file), str(own.file)) if own else (keys.certificate or "", keys.key or "")
    try:
        certificate = await asyncio.to_thread(partial(ServedCertificate, *files, notice, now, name="webhook"))
    except ValueError as error:
        wrong = f"webhook: {' and '.join(dict.fromkeys(files))} {error}"
        raise (StorageError if own else ConfigError)(wrong) from error
    listener = Listener(make_webhook(pointing.decide, runtime.events.emit, keys.except_))
    stack.push_async_callback(listener.close)
    await listener.listen(connection, certificate.context)
    return certificate


async def renewing(names: Collection[str], state: Path, notice: _Notice) -> None:
    """Renew our own certificate when its time comes; never returns."""
    own = OwnCertificate(state)
    while True:
        await asyncio.sleep(RENEW_EVERY)
        await _renew(own, [*names], notice)


async def _renew(own: OwnCertificate, names: Sequence[str], notice: _Notice) -> None:
    """Renew it when its time has come; what it cannot says a notice."""
    try:
        await asyncio.to_thread(own.renew, names, now())
    except StorageError as error:
        notice("warning", f"webhook: the certificate was not renewed: {error}")
