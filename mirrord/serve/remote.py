"""The other end of the control socket: a command asks the daemon, and gets the values it would have made itself."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp

from mirrord import errors
from mirrord.errors import BrokenError, ConfigError, MirrordError, UnreachableError
from mirrord.events import Events, RunFinished
from mirrord.model.plan import Plan
from mirrord.model.run import Run
from mirrord.report.documents import Gathering, event_from, plan_from, run_from
from mirrord.report.status import Status
from mirrord.syncer.values import Backup, Publication

SOCKET = "control.sock"
_LONGEST_PATH = 100  # bytes; the kernel takes 107
_LONGEST_LINE = 16 * 1024 * 1024  # bytes; long lists come in pieces


@contextmanager
def short(path: Path) -> Iterator[str]:
    """Yield a name for a socket's path that the kernel takes, however deep the state directory is."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def bind_control(state: Path) -> socket.socket:
    """Bind the control socket of a state directory that we have locked; a leftover of a dead daemon is replaced."""
    path = state / SOCKET
    path.unlink(missing_ok=True)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with short(path) as name:
            connection.bind(name)
    except OSError as error:
        connection.close()
        raise errors.StorageError(f"{path}: cannot make the control socket: {error.strerror}") from error
    finally:
        os.umask(before)
    connection.listen(64)
    return connection


class ControlClient:
    """Asks the daemon that holds `state`.

    Every method raises `UnreachableError` when no daemon answers there, and what the daemon raised otherwise.
    """

    def __init__(self, state: Path) -> None:
        self._path = state / SOCKET

    async def sync(self, mirrors: Sequence[str], events: Events, *, allow: bool = False) -> Sequence[Run]:
        """Run these mirrors, or all; what happens meanwhile is emitted into `events`."""
        return await self._runs("/sync", {"mirrors": list(mirrors), "allow": allow}, events)

    async def publish(self, mirror: str, publication: Publication, events: Events) -> Run:
        """Publish one build."""
        asked = {
            "mirror": mirror,
            "source": publication.source,
            "names": list(publication.names),
            "if_newest": publication.if_newest,
        }
        return (await self._runs("/publish", asked, events))[0]

    async def backups(self, mirror: str) -> Sequence[Backup]:
        """List what runs of one mirror overwrote or deleted."""
        (document,) = _good([document async for document in self._lines("/backups", {"mirror": mirror})])
        return [Backup(**found) for found in document["backups"]]

    async def restore(self, mirror: str, backup: str, events: Events, *, release: bool) -> Run:
        """Let a backup override upstream, or no longer, and run the mirror."""
        asked = {"mirror": mirror, "backup": backup, "release": release}
        return (await self._runs("/restore", asked, events))[0]

    async def plan(self, mirrors: Sequence[str]) -> Sequence[Plan]:
        """Plan these mirrors, or all."""
        ends = await self._ends("/plan", {"mirrors": list(mirrors)}, Events())
        return [plan_from(document["plan"]) for document in ends]

    async def status(self) -> Status:
        """Return how the mirrors are."""
        documents = [document async for document in self._lines("/status", None)]
        return cast("Status", documents[0])

    async def reload(self) -> None:
        """Let the daemon read its configuration again."""
        _good([document async for document in self._lines("/reload", {})])

    async def _runs(self, path: str, asked: Mapping[str, Any], events: Events) -> Sequence[Run]:
        runs = [run_from(document["run"]) for document in await self._ends(path, asked, events)]
        for run in runs:
            events.emit(RunFinished(run))
        return runs

    async def _ends(self, path: str, asked: Mapping[str, Any], events: Events) -> Sequence[Mapping[str, Any]]:
        """Return how it ended for each mirror, in the order of the mirrors, or raise what was raised for one."""
        gathering, ends, order = Gathering(), list[Mapping[str, Any]](), list[str]()
        async for document in self._lines(path, asked):
            whole = gathering.take(document)
            if whole is None:
                continue
            if "event" in whole:
                if event := event_from(whole):
                    events.emit(event)
            elif "mirrors" in whole:
                order = whole["mirrors"]
            else:
                ends.append(whole)
        places = {name: place for place, name in enumerate(order)}
        return sorted(_good(ends), key=lambda end: places[(end.get("run") or end["plan"])["mirror"]])

    async def _lines(self, path: str, asked: Mapping[str, Any] | None) -> AsyncIterator[Mapping[str, Any]]:
        try:
            with short(self._path) as name:
                timeout = aiohttp.ClientTimeout(total=None)  # a run may take hours; the socket ends with the daemon
                connector = aiohttp.UnixConnector(name)
                async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
                    method = "GET" if asked is None else "POST"
                    async with session.request(method, f"http://mirrord{path}", json=asked) as response:
                        async for line in _split(response.content):
                            yield json.loads(line)
        except aiohttp.ClientConnectorError as error:
            raise UnreachableError(f"{self._path}: no daemon answers; is `mirrord serve` running?") from error
        except (aiohttp.ClientError, OSError) as error:
            raise BrokenError(f"{self._path}: the daemon ended while answering; see its log") from error
        except ValueError as error:
            raise BrokenError(f"{self._path}: the daemon answers what cannot be read: {error}") from error


async def _split(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    rest = bytearray()
    async for chunk in content.iter_any():
        rest += chunk
        *whole, last = rest.split(b"\n")
        rest = bytearray(last)
        if len(rest) > _LONGEST_LINE:
            raise ValueError(f"a line of more than {_LONGEST_LINE} bytes")
        for line in filter(None, whole):
            yield bytes(line)
    if rest:
        yield bytes(rest)


def _good(documents: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return them, or raise what the daemon raised for one of them."""
    for document in documents:
        if "error" in document:
            raise error_from(document["error"])
    return documents


def error_from(document: Mapping[str, Any]) -> MirrordError:
    """Make the error again that the daemon wrote as a document."""
    code, message = str(document.get("code")), str(document.get("message"))
    if code == ConfigError.code:
        return ConfigError(*message.split("\n"))
    kind = errors.kind_of(code)
    return kind(message) if kind is not errors.UntrustedError else MirrordError(message)
