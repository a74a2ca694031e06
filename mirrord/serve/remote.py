"""The client side of the control socket: a command sends itself to the daemon and gets the resulting values."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_origin
from urllib.parse import quote

import aiohttp

from mirrord import __version__, errors
from mirrord.commands import Command, answer_type, word
from mirrord.errors import BrokenError, ConfigError, MirrordError, UnreachableError, UsageError
from mirrord.events import Events, RunFinished
from mirrord.model.run import Run
from mirrord.report.documents import Gathering, adapter, event_from

_Answer = TypeVar("_Answer")

SOCKET = "control.sock"
VERSION = "Mirrord-Version"
"""The header with the version of each end of the socket."""
FOLDER = "Mirrord-Configuration"
"""The header with the folder of configuration that the user named."""
_LONGEST_PATH = 100  # bytes; the kernel takes 107
_BUFFER = 8 << 20  # bytes; aiohttp accepts lines of twice that, and long lists are sent in pieces


def named(folder: Path) -> str:
    """Return a folder as the header has it: links resolved, and what is not ASCII escaped."""
    return quote(os.path.realpath(folder))


@contextmanager
def short(path: Path) -> Iterator[str]:
    """Yield a path for a socket that is short enough for the kernel, however deep the state directory is."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def bind_control(state: Path) -> socket.socket:
    """Bind the control socket of a locked state directory; the socket of a dead daemon is replaced."""
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
    """Sends commands to the daemon that holds `state`."""

    def __init__(self, state: Path, config: Path | None = None) -> None:
        """Name the state, and the folder of configuration that the user named, which must be the daemon's."""
        self._path = state / SOCKET
        self._config = {FOLDER: named(config)} if config else {}

    async def answers(self) -> bool:
        """Return whether a daemon answers."""
        try:
            with short(self._path) as name:
                _, writer = await asyncio.open_unix_connection(name)
        except OSError:
            return False
        writer.close()
        return True

    async def carry_out(self, command: Command[_Answer], events: Events | None = None) -> _Answer:
        """Return the daemon's result or raise its error; its events are emitted into `events`."""
        gathering, heard, kind = Gathering(), events or Events(), answer_type(type(command))
        async for document in self._lines(command):
            if "error" in document:
                raise error_from(document["error"])
            if "event" in document:
                heard.emit(event_from(document))
            else:
                gathering.take(document)
        wholes = gathering.wholes
        try:
            answer: _Answer = adapter(kind).validate_python(wholes if get_origin(kind) is tuple else wholes[0])
        except (ValueError, IndexError) as error:
            raise BrokenError(f"{self._path}: cannot parse the daemon's answer: {error}") from error
        for run in answer if isinstance(answer, tuple) else (answer,):
            if isinstance(run, Run):
                heard.emit(RunFinished(run))
        return answer

    async def _lines(self, command: Command[Any]) -> AsyncIterator[Mapping[str, Any]]:
        kind: Any = type(command)
        try:
            with short(self._path) as name:
                timeout = aiohttp.ClientTimeout(total=None)  # a run may take hours; the socket ends with the daemon
                connector, document = aiohttp.UnixConnector(name), adapter(kind).dump_python(command, mode="json")
                url, headers = f"http://mirrord/{word(kind)}", {VERSION: __version__, **self._config}
                async with (
                    aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=_BUFFER) as session,
                    session.post(url, json=document, headers=headers) as response,
                ):
                    theirs = response.headers.get(VERSION, "another version")
                    if theirs != __version__:
                        ours = (
                            f"this command is mirrord {__version__}, but the daemon is {theirs}; use the same version"
                        )
                        raise UsageError(f"{self._path}: {ours}")
                    async for line in response.content:
                        yield json.loads(line)
        except aiohttp.ClientConnectorError as error:
            raise UnreachableError(f"{self._path}: no daemon answers; is `mirrord serve` running?") from error
        except (aiohttp.ClientError, OSError) as error:
            raise BrokenError(f"{self._path}: the daemon ended while answering; see its log") from error
        except ValueError as error:
            raise BrokenError(f"{self._path}: cannot parse the daemon's answer: {error}") from error


def error_from(document: Mapping[str, Any]) -> MirrordError:
    """Rebuild an error from the daemon's JSON document."""
    code, message = str(document["code"]), str(document["message"])
    if code == ConfigError.code:
        return ConfigError(*message.split("\n"))
    return errors.kind_of(code)(message)
