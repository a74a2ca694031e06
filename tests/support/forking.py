"""Commands of the program as forks of one process that has loaded its modules already.

Loading takes 0.6 s of processor time, of the 0.7 s of a short command. A fork begins where that is done. Then it is a
process as any other: own session, folder, environment, streams, end. What is promised of the beginning itself is
tested with programs that begin as a user's do: `Desk.started`, `tests/cli/test_start.py`.

Three processes take part: `server` forks a warden for each command, the warden forks the command and waits for it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_LANG = "C.UTF-8"
_ROOM = 1 << 17  # bytes of what is asked: words and environment
_ONLY_BY_EXEC = ("PYTHON", "LC_", "MIRRORD_FAILPOINTS")  # what is read when the interpreter or a module begins


def forkable(environ: Mapping[str, str]) -> bool:
    """Return whether a fork would see this environment as a new program does."""
    return environ.get("LANG") == _LANG and not any(name.startswith(_ONLY_BY_EXEC) for name in environ)


async def run_fork(words: Sequence[str], folder: Path, environ: Mapping[str, str]) -> tuple[int, bytes, bytes]:
    """Run one command to its end; returns its exit code, as `subprocess` has it, and what it printed.

    Whoever is called off leaves nothing behind: the command is killed with all that it started, and waited for.
    """
    with contextlib.ExitStack() as stack:
        ours, theirs = socket.socketpair()
        pipes = [os.pipe(), os.pipe()]
        starts = [stack.enter_context(os.fdopen(start, "rb")) for start, _ in pipes]
        stack.enter_context(ours)
        try:
            asked = json.dumps([list(words), str(folder), dict(environ)]).encode()
            socket.send_fds(_server(), [asked], [theirs.fileno(), *(end for _, end in pipes)])
        finally:
            theirs.close()
            for _, end in pipes:
                os.close(end)
        ended, asking = await asyncio.open_connection(sock=ours)
        try:
            streams = [await _listen(start) for start in starts]
            out, err, code = await asyncio.gather(*(stream.read() for stream in (*streams, ended)))
            return int(code), out, err
        finally:
            asking.write_eof()
            await ended.read()
            asking.close()


async def _listen(start: Any) -> asyncio.StreamReader:
    stream = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), start)
    return stream


@cache
def _server() -> socket.socket:
    """Start the server of this process of tests; it ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environ = {"PATH": os.environ.get("PATH", ""), "LANG": _LANG, "HOME": "/nonexistent"}
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forking"],
            cwd=ROOT,
            env=environ,
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
        )

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours


# The other side


def _load() -> None:
    import mirrord.cli  # noqa: PLC0415 - the side of the tests need not
    import mirrord.syncers  # noqa: PLC0415 - the same

    for room in (mirrord.cli, mirrord.syncers):
        for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
            importlib.import_module(module.name)


def _serve() -> list[str]:
    """Fork a warden for each message; returns, in the fork that is the command, its words."""
    asking = socket.socket(fileno=os.dup(0))
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - its number is wanted
        os.dup2(nothing.fileno(), 0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for wardens
    while True:
        asked, numbers, _, _ = socket.recv_fds(asking, _ROOM, 3)
        if not asked:
            sys.exit()
        if not os.fork():
            asking.close()
            return _guard(json.loads(asked), *numbers)
        for number in numbers:
            os.close(number)


def _guard(asked: list[Any], back: int, out: int, err: int) -> list[str]:
    """Fork the command and say how it ended; kill it when nobody waits for that any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    command = os.fork()
    if not command:
        os.close(back)
        words, folder, environ = asked
        return _become(words, folder, environ, (out, err))
    os.close(out)
    os.close(err)
    waiting = select.poll()
    waiting.register(ended := os.pidfd_open(command), select.POLLIN)
    waiting.register(back, select.POLLIN)
    if ended not in dict(waiting.poll()):
        for kill in (os.kill, os.killpg):
            with contextlib.suppress(ProcessLookupError):
                kill(command, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
    with contextlib.suppress(OSError):
        os.write(back, str(code).encode())
    os._exit(0)


def _become(words: list[str], folder: str, environ: dict[str, str], streams: tuple[int, int]) -> list[str]:
    os.setsid()
    for stream, number in enumerate(streams, 1):
        os.dup2(number, stream)
        os.close(number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.path[0] = folder
    return words


if __name__ == "__main__":
    _load()
    sys.argv[1:] = _serve()
    importlib.import_module("mirrord.cli").main()
