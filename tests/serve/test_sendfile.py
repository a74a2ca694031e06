"""Files leave by threads of their own: neither the event loop nor a client that does not read holds the others up."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import select
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mirrord.events import AnswerBroken, Event, Events
from mirrord.files import LocalFile
from mirrord.serve.sending import ConnectionProgress, FileSender
from mirrord.syncer.serving import Request, Response
from mirrord.syncer.values import Services
from tests.support.crowd import Client, crowd, request, troubles
from tests.support.frontserver import listening

SIZE = 24_000_000  # more than the kernel keeps for a connection


class Filed:
    """Serves one file."""

    prefixes = ("/file/",)

    def __init__(self, file: Path) -> None:
        self.stored = LocalFile.of(file)

    async def respond(self, asked: Request, services: Services) -> Response:
        return Response(200, {}, self.stored)


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[tuple[str, int]]:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(SIZE))
    nobody: Any = None
    async with listening(nobody, Filed(file)) as address:
        yield address


@contextlib.contextmanager
def client(address: tuple[str, int]) -> Iterator[socket.socket]:
    """Ask for the file."""
    with socket.create_connection(address, 30) as connection:
        connection.sendall(request("/file/x"))
        yield connection


async def test_files_need_no_event_loop(address: tuple[str, int], tmp_path: Path) -> None:
    """What was begun goes on while the event loop stands still, as it does when hundreds want their turn."""
    with client(address) as connection:
        head, _, body = (await asyncio.to_thread(connection.recv, 65536)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        await asyncio.to_thread(connection.recv, 1, socket.MSG_PEEK)
        while len(body) < SIZE:
            body += connection.recv(SIZE)  # on the loop's own thread
    assert body == (tmp_path / "file").read_bytes()


async def test_who_does_not_read_holds_nobody_up(address: tuple[str, int]) -> None:
    """Clients that take nothing cost the others nothing, and the listener closes while they are there."""
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            idle = stack.enter_context(client(address))
            await asyncio.to_thread(idle.recv, 100)
        ended = await asyncio.to_thread(crowd, address, [Client(request("/file/x")) for _ in range(10)], 60)
        assert (troubles(ended), {one.size for one in ended}) == ({}, {SIZE})


async def test_who_stopped_reading_is_let_go(tmp_path: Path) -> None:
    """A client that takes nothing for too long is let go, and its file and connection with it."""
    file, ends = tmp_path / "file", asyncio.Queue[BaseException | None]()
    file.write_bytes(bytes(SIZE))
    sender = FileSender(stall=0.2)

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with file.open("rb") as opened:
            transport: Any = writer.transport
            try:
                await sender.send(transport, opened, 0, SIZE)
            except ConnectionError as error:
                ends.put_nowait(error)
            finally:
                transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        with socket.create_connection(server.sockets[0].getsockname(), 30):
            error = await asyncio.wait_for(ends.get(), 30)
    sender.close()
    assert str(error) == "the client stopped reading"


class Unwatched:
    """A connection for which the kernel refuses to be asked: as any does when it watches as many as it may."""

    def __init__(self, file: Path) -> None:
        self.file = file.open("rb")  # epoll(7) watches no plain files

    def get_extra_info(self, _: str) -> object:
        return self.file

    def is_closing(self) -> bool:
        return False


async def test_a_connection_that_cannot_be_watched_stops_no_other(tmp_path: Path) -> None:
    """The thread goes on: what it cannot send is an error of that client alone, and not a wait without end."""
    file, sender = tmp_path / "file", FileSender(1)
    file.write_bytes(b"x" * 100)
    bad: Any = Unwatched(file)
    with file.open("rb") as opened, bad.file:
        for _ in range(2):
            with pytest.raises(ConnectionError, match="cannot be polled"):
                await asyncio.wait_for(sender.send(bad, opened, 0, 100), 30)
    sender.close()


async def test_a_thread_that_cannot_begin_is_begun_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this process may open no more files one client gets an error, and nobody waits for a dead thread."""
    file, sender = tmp_path / "file", FileSender(1)
    file.write_bytes(b"x" * 100)
    bad: Any = Unwatched(file)
    with file.open("rb") as opened, bad.file:
        with monkeypatch.context() as patched:
            patched.setattr(select, "epoll", full)
            with pytest.raises(OSError, match="Too many open files"):
                await sender.send(bad, opened, 0, 100)
        with pytest.raises(ConnectionError, match="cannot be polled"):  # the thread looks at it
            await asyncio.wait_for(sender.send(bad, opened, 0, 100), 30)
    sender.close()


def full(*_: object) -> None:
    """Fail as the kernel does when a process has as many files as it may."""
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize("size", [10, SIZE], ids=["small", "large"])
async def test_what_cannot_be_opened_is_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A client must not take content that is there for removed, so it is told to come back."""
    file, told, services = tmp_path / "file", list[Event](), SimpleNamespace(events=Events())
    file.write_bytes(bytes(size))
    services.events.listen(told.append)
    one: Any = services
    async with listening(one, Filed(file)) as address:
        with monkeypatch.context() as patched:
            patched.setattr("mirrord.serve.small.os.open", full)
            with client(address) as connection:
                answer = await asyncio.to_thread(connection.recv, 65536)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 10" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["errors"][0]["code"] == "UNKNOWN"
    assert [type(event) for event in told] == [AnswerBroken]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as one:
        other, _ = server.accept()
        with other:
            yield one, other


def test_who_reads_slowly_is_not_let_go(pair: tuple[socket.socket, socket.socket]) -> None:
    """A client that took some of what waits for it reads, though the kernel does not ask for more by far."""
    one, other = pair
    one.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            one.send(bytes(65536))
    now = 0.0
    taking = ConnectionProgress(one.fileno(), now)
    while not taking.stopped(now := now + 1, 0.5):
        pass  # until the kernels have settled
    other.settimeout(30)
    while taking.stopped(now := now + 1, 0.5):
        other.recv(65536)
    assert select.select([], [one], [], 0)[1] == []
