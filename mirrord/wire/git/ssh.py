"""Speaks with receive-pack at an ssh host: commands and the pack that they need on its standard input.

The protocol is that of `receive_pack`, without HTTP around it: the host lists its refs, reads commands and a pack, and
reports what became of each ref (gitprotocol-pack(5)). `git push` would compare each ref with all others: 10 000 refs
take it 50 s of CPU.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Final

from mirrord import program
from mirrord.errors import BrokenError, ContentError, StalledError, TooLargeError
from mirrord.wire.git.address import Address
from mirrord.wire.git.command import ErrorText, Git, starting
from mirrord.wire.git.failures import classify
from mirrord.wire.git.lsrefs import LARGEST
from mirrord.wire.git.pktline import FLUSH

_STALL: Final = 60.0  # seconds that the connection may carry nothing


class SshSession:
    """A program at an ssh host: what it writes is read while it is written to."""

    def __init__(self, running: program.RunningProgram, stdin: int, host: str, said: ErrorText) -> None:
        """Speak with a program that was started; `stdin` is our end of its standard input."""
        self._running, self._host, self._said = running, host, said
        self._stdin: int | None = stdin
        os.set_blocking(stdin, False)

    async def listing(self) -> bytes:
        """Return what it writes up to its first flush packet.

        Raises:
            MirrordError: it ended before; the kind by what was said (`failures.classify`).
            ContentError: that are no packets.
            TooLargeError: it writes too much.
        """
        body, at = bytearray(), 0
        while True:
            while len(body) >= at + 4:
                size = _size(bytes(body[at : at + 4]))
                if size == 0:
                    return bytes(body[: at + 4])
                if len(body) < at + size:
                    break
                at += size
            piece = await self._read()
            if not piece:
                status = await self._running.wait()
                if status == 0:
                    raise BrokenError(f"{self._host}: git-receive-pack ended before it had listed its refs")
                raise classify(status, self._said.text(), self._host)
            body += piece
            if len(body) > LARGEST:
                raise TooLargeError(f"{self._host}: lists more than {LARGEST} bytes of refs")

    async def answer(self, send: Callable[[], Coroutine[Any, Any, None]], limit: int) -> bytes:
        """Return what it writes to its end, while `send` writes to it.

        Raises:
            MirrordError: `send` failed; or it ended without an answer, for the reason that was said.
            TooLargeError: it writes more than `limit` bytes.
        """
        sending, reading = asyncio.ensure_future(self._sent(send)), asyncio.ensure_future(self._rest(limit))
        try:
            await asyncio.wait((sending, reading), return_when=asyncio.FIRST_EXCEPTION)
            if sending.done() and (error := sending.exception()):
                raise error
            return await reading
        finally:
            for task in (sending, reading):
                task.cancel()
            await asyncio.wait((sending, reading))

    async def write(self, data: bytes) -> None:
        """Write to it, as fast as it reads; when it has ended nothing happens: what it wrote last says why."""
        view = memoryview(data)
        while view and self._stdin is not None:
            try:
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                await _writable(self._stdin)
            except BrokenPipeError:
                self.close()

    def close(self) -> None:
        """Tell it that nothing more is written."""
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None

    async def _sent(self, send: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await send()
        self.close()

    async def _rest(self, limit: int) -> bytes:
        body = bytearray()
        while piece := await self._read():
            body += piece
            if len(body) > limit:
                raise TooLargeError(f"{self._host}: answers with more than {limit} bytes")
        status = await self._running.wait()
        if status and not body:
            raise classify(status, self._said.text(), self._host)
        return bytes(body)

    async def _read(self) -> bytes:
        try:
            return await self._running.read()
        except TimeoutError as error:
            raise StalledError(f"{self._host}: git-receive-pack did nothing any more, and was ended") from error


def _size(head: bytes) -> int:
    """Read the length of a packet, its four hex digits included (gitprotocol-common(5)); 0 for a flush."""
    with suppress(ValueError):
        size = int(head, 16)
        if size == len(FLUSH) - 4 or size >= 4:
            return size
    raise ContentError(f"no packet line where one begins: {head!a}; does a program at the host print something first?")


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    free = loop.create_future()
    loop.add_writer(fd, lambda: None if free.done() else free.set_result(None))
    try:
        await free
    finally:
        loop.remove_writer(fd)


@asynccontextmanager
async def receiving(git: Git, address: Address) -> AsyncIterator[SshSession]:
    """Start `git-receive-pack` for a repository at an ssh host; when the context ends it is gone.

    Raises:
        UntrustedError: the host may not be dialled.
        StorageError: ssh cannot be started.
    """
    rooted = "" if address.relative or address.path.startswith("~") else "/"
    quoted = f"{rooted}{address.path}".replace("'", "'\\''")
    # Quoted always, as git does: hosts look at the command before they run it.
    wanted = await git.over_ssh(address, f"git-receive-pack '{quoted}'", _STALL)
    await asyncio.to_thread(git.prepared, wanted)
    theirs, ours = os.pipe()
    said = ErrorText()
    async with AsyncExitStack() as stack:
        try:
            with os.fdopen(theirs, "rb", buffering=0) as stdin, starting("ssh"):
                started = program.started(replace(wanted, stdin=stdin, on_error=said.add))
                running = await stack.enter_async_context(started)
        except BaseException:
            os.close(ours)
            raise
        session = SshSession(running, ours, address.host, said)
        stack.callback(session.close)
        yield session
