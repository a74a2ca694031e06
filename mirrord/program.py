"""Runs other programs: the only place where one is started, and where all that it started is ended with it.

A program works through helpers (`git-remote-https`, `index-pack`, `ssh`) that hold its connections and outlive it when
only it is ended. So each runs in a session of its own, and signals go to the group. Its leader is reaped last, so that
its number cannot be another's by then. A program is looked at when its pipes are at their end, and now and then before.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from fcntl import F_SETPIPE_SZ, fcntl
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO, Final

from mirrord.files import nameless
from mirrord.folderlock import shared
from mirrord.stall import ProcessStall

GRACE: Final = 3.0  # seconds between asking a group to end (git then removes its lock files) and killing it
OUTPUT: Final = 64 * 2**20
PIECE: Final = 1 << 18
_TICK: Final = 0.25  # seconds between looks at a program whose pipes are silent
_SLOWEST: Final = 0.05  # and at one that is about to end
_REAPED: Final = 5.0  # seconds that whoever leaves waits for a killed group; it is reaped however long that takes
_STARTERS: Final = ThreadPoolExecutor(4, "start")  # their own: others may be busy for minutes
_ending: Final = set[asyncio.Task[None]]()
_Process = subprocess.Popen[bytes]


class EndedFor(Enum):
    """Why a program was ended before it ended by itself."""

    OUTPUT = "it exceeded its output limit"
    STALL = "it stalled"
    DEADLINE = "it exceeded its deadline"


@dataclass(frozen=True, slots=True)
class ProgramEnd:
    """How a program ended."""

    status: int  # exit status; negative: the signal that ended it
    out: bytes  # what it wrote, at most as much as allowed
    ended_for: EndedFor | None = None  # why it was ended, or None


class _StalledError(TimeoutError):
    """Nothing moves in a program and all that it started."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """A program, and how it is to run.

    Attributes:
        argv: the program, which is looked for in the `PATH` of `env`, and its arguments.
        env: its whole environment; may hold secrets.
        stdin: what it reads: bytes, or an open file, which is the caller's to close.
        folder: where it runs.
        on_error: gets the pieces of what it says on its error stream; without one that goes nowhere.
        patience: seconds without a byte between the processes and without work, after which it has stalled, or None.
        largest: longest file that it may write, in bytes, or None; the system ends whoever writes more. This holds
            from a moment after the start on.
        grace: seconds between asking it to end and killing it; 0 to kill it at once.
        locks: whether it and all that it starts hold a shared lock on `folder` (`mirrord.folderlock`).
    """

    argv: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    stdin: bytes | BinaryIO = field(default=b"", repr=False)
    folder: str | Path = "/"
    on_error: Callable[[bytes], object] | None = None
    patience: float | None = None
    largest: int | None = None
    grace: float = GRACE
    locks: bool = False


class RunningProgram:
    """A program that runs: read it to its end, then wait for it.

    Attributes:
        pid: its number, and that of its group.
        status: its exit status once it is reaped; negative: the signal that ended it.
    """

    def __init__(self, process: _Process, invocation: Invocation) -> None:
        """Take over a process that was just started."""
        self.pid = process.pid
        self.status: int | None = None
        self._process = process
        self._on_error, self._grace = invocation.on_error, invocation.grace
        self._stall = ProcessStall(invocation.patience) if invocation.patience else None
        self._killed_at: float | None = None
        self._fds = tuple(stream.fileno() for stream in (process.stdout, process.stderr) if stream)
        for fd in self._fds:
            os.set_blocking(fd, False)
        with contextlib.suppress(OSError):  # fewer, larger reads; the kernel gives one user so much and no more
            fcntl(self._fds[0], F_SETPIPE_SZ, PIECE)
        self._errors = asyncio.ensure_future(self._read_errors())

    async def read(self) -> bytes:
        """Return the next bytes of its output, which waits while nobody reads; b"" at the end."""
        return await self._read(self._fds[0], self._stall)

    async def wait(self) -> int:
        """Return its exit status when it has ended by itself; read its output first."""
        await self._until_exit(self._stall)
        await self._errors
        self._reap()
        assert self.status is not None
        return self.status

    async def end(self) -> None:
        """Ask the group to end, kill what is left of it after its grace, and reap it."""
        drained = asyncio.ensure_future(self._drain())
        if self.status is None:
            if self._grace and not self._exited():
                self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._grace):
                    await self._until_exit()
                    await asyncio.wait((self._errors, drained), timeout=_TICK)  # helpers that clean up, too
            self._signal(signal.SIGKILL)  # also what closed its pipes and still runs
            await self._until_exit()
        await asyncio.wait((self._errors, drained))
        self._reap()
        for stream in filter(None, (self._process.stdout, self._process.stderr)):
            stream.close()
        with contextlib.suppress(ChildProcessError):  # as the first process of a container we get its orphans
            while True:
                if os.waitpid(-self.pid, os.WNOHANG)[0] == 0:  # noqa: ASYNC222 - it does not wait
                    await asyncio.sleep(_SLOWEST)

    async def _read(self, fd: int, stall: ProcessStall | None = None) -> bytes:
        while True:
            with contextlib.suppress(BlockingIOError):
                return os.read(fd, PIECE)
            if not await _readable(fd) and await self._given_up(stall):
                return b""

    async def _drain(self) -> None:
        while await self._read(self._fds[0]):
            pass  # what nobody reads any more would keep it from ending

    async def _read_errors(self) -> None:
        for fd in self._fds[1:]:
            while piece := await self._read(fd):
                if self._on_error:
                    self._on_error(piece)

    async def _given_up(self, stall: ProcessStall | None) -> bool:
        """Look after a group whose pipes are silent; True when they are held by somebody outside of it."""
        if self.status is None and not self._exited():
            if stall and await stall.stopped(self.pid):
                raise _StalledError
            return False
        if self._killed_at is None:
            self._killed_at = monotonic()
            self._signal(signal.SIGKILL)  # a leader that died leaves nobody behind
        return monotonic() > self._killed_at + GRACE

    async def _until_exit(self, stall: ProcessStall | None = None) -> None:
        delay = 0.0005
        while self.status is None and not self._exited():
            await asyncio.sleep(delay)
            delay = min(delay * 2, _SLOWEST)
            if stall and await stall.stopped(self.pid):
                raise _StalledError

    def _exited(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _reap(self) -> None:
        if self.status is None:
            self._signal(signal.SIGKILL)
            self.status = self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self.status is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # EPERM: an ssh that changed its owner
                os.killpg(self.pid, number)


@contextlib.asynccontextmanager
async def started(invocation: Invocation) -> AsyncIterator[RunningProgram]:
    """Start a program; when the context ends it is gone, with all that it started.

    Raises:
        OSError: it cannot be started.
    """
    starting = asyncio.get_running_loop().run_in_executor(_STARTERS, _start, invocation)
    program: RunningProgram | None = None
    try:
        program = RunningProgram(await asyncio.shield(starting), invocation)
        yield program
    finally:
        await _left(_end(starting, program, invocation), invocation.grace)


async def _end(starting: asyncio.Future[_Process], program: RunningProgram | None, invocation: Invocation) -> None:
    try:
        process = await starting
    except OSError:  # whoever wanted it knows
        return
    await (program or RunningProgram(process, invocation)).end()


async def _left(end: Coroutine[Any, Any, None], grace: float) -> None:
    """See a program to its end, also when whoever waits for that is cancelled, once or more often."""
    ending = asyncio.ensure_future(end)
    _ending.add(ending)
    ending.add_done_callback(_ending.discard)
    until = monotonic() + grace + _REAPED
    cancelled = False
    while not ending.done() and monotonic() < until:
        try:
            await asyncio.wait((ending,), timeout=until - monotonic())
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    if ending.done():
        ending.result()


async def run(invocation: Invocation, *, limit: int = OUTPUT, deadline: float | None = None) -> ProgramEnd:
    """Run a program to its end; cancelled, it is ended with all that it started.

    Args:
        invocation: what to run.
        limit: bytes of output that are kept; more ends it.
        deadline: seconds in all, or None.

    Raises:
        OSError: it cannot be started.
    """
    out = bytearray()
    ended_for: EndedFor | None = None
    async with started(invocation) as program:
        try:
            async with asyncio.timeout(deadline):
                while ended_for is None and (piece := await program.read()):
                    ended_for = EndedFor.OUTPUT if len(out) + len(piece) > limit else None
                    out += piece[: limit - len(out)]
                if ended_for is None:
                    await program.wait()
        except _StalledError:
            ended_for = EndedFor.STALL
        except TimeoutError:
            ended_for = EndedFor.DEADLINE
    return ProgramEnd(-signal.SIGKILL if program.status is None else program.status, bytes(out), ended_for)


def _start(invocation: Invocation) -> _Process:
    stdin = invocation.stdin
    with contextlib.ExitStack() as opened:
        if stdin and isinstance(stdin, bytes):
            stdin = opened.enter_context(nameless(stdin))
        locks = (opened.enter_context(shared(invocation.folder)),) if invocation.locks else ()
        try:
            process = subprocess.Popen(  # noqa: S603 - no shell; the caller gives arguments one by one
                list(invocation.argv),
                bufsize=0,
                stdin=subprocess.DEVNULL if isinstance(stdin, bytes) else stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if invocation.on_error else subprocess.DEVNULL,
                cwd=invocation.folder,
                env=dict(invocation.env),
                start_new_session=True,
                pass_fds=locks,
            )
        except ValueError as error:  # a NUL in an argument
            raise OSError(errno.EINVAL, str(error)) from error
    if invocation.largest is not None:  # before it starts others, which inherit that
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (invocation.largest, invocation.largest))
    return process


async def _readable(fd: int) -> bool:
    """Wait until a pipe can be read; False when it could not for a while."""
    loop = asyncio.get_running_loop()
    news = loop.create_future()
    loop.add_reader(fd, lambda: None if news.done() else news.set_result(None))
    try:
        return bool((await asyncio.wait((news,), timeout=_TICK))[0])
    finally:
        loop.remove_reader(fd)
