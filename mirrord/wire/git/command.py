"""Runs git: the only place where a git process begins.

With fixed options of our code, `--` before whatever comes from outside, and an environment made from nothing
(`mirrord.wire.git.environment`). The host's addresses are judged before git starts, and git is bound to them (curl's
`--resolve`, ssh's `HostName`). Where that does not reach, a name may still be resolved anew: a git older than 2.37, and
hosts behind a proxy, which resolves for itself.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mirrord import errors, program
from mirrord.events import Events, TrustRefused
from mirrord.program import OUTPUT, EndedFor, Invocation
from mirrord.wire import trust
from mirrord.wire.git.address import Address, check
from mirrord.wire.git.environment import environment, host_port, http_settings, ssh_command
from mirrord.wire.git.failures import classify
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.origin import check_url
from mirrord.wire.secret import redact

LINE: Final = 64 * 2**10  # what a command at an ssh host may write
AT_ONCE: Final = 64  # git processes of runs
_PACKAGES: Final = {"git": "it (2.39 or newer)", "ssh": "openssh-client"}
_BACKSTOP: Final = 10  # times `stall`: longer than whatever curl and ssh can end by themselves


LONGEST: Final = 16 * 1024
"""Characters that are kept of all that one process said (a damaged cache makes git say one line a thousand times)."""
_HEAD: Final = LONGEST // 4  # the first lines tell the cause, the last ones the outcome
_LINE: Final = 2048
_ENDS: Final = re.compile(rb"[\r\n]")
_PROGRESS: Final = re.compile(rb"(?:remote: )?[A-Z][A-Za-z ]+: +\d+% ")


class ErrorText:
    """Collects an error stream; what it holds does not grow with what is said."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._lines: list[bytes] = []
        self._size = 0
        self._rest = b""

    def add(self, piece: bytes) -> None:
        """Take the next bytes of the stream."""
        *lines, self._rest = _ENDS.split(self._rest + piece)
        self._rest = self._rest[:_LINE]
        for line in lines:
            self._take(line)

    def text(self) -> str:
        """Return what was said so far, redacted, lines joined by line feeds."""
        self._take(self._rest)
        self._rest = b""
        return redact("\n".join(map(_read, self._lines)))[:LONGEST]

    def _take(self, line: bytes) -> None:
        if len(line) >= _LINE:
            line = line[:_LINE].rpartition(b" ")[0]  # at a blank: half a secret would not be known as one
        line = line.rstrip()
        if line in self._seen or not line or _PROGRESS.match(line):
            return
        self._seen.add(line)
        self._lines.append(line)
        self._size += len(line) + 1
        while self._size > LONGEST:
            gone = self._lines.pop(self._middle())
            self._seen.discard(gone)
            self._size -= len(gone) + 1

    def _middle(self) -> int:
        """Return the first line beyond the head: that one goes when there are too many."""
        size = 0
        for number, line in enumerate(self._lines):
            size += len(line) + 1
            if size > _HEAD:
                return number
        return 0


def _read(line: bytes) -> str:
    """Decode a line; git takes what a host says without a charset for Latin-1, and writes that as UTF-8 once more."""
    text = line.decode("utf-8", "replace")
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


@dataclass(frozen=True, slots=True)
class Output:
    """How a process ended."""

    status: int  # its exit status
    out: bytes  # what it wrote
    err: str  # what it said: redacted, each line once, at most 16 KiB


class Git:
    """Starts git processes, and has so many of them at once.

    Attributes:
        book: the rules for hosts.
        older_hosts: those that were asked for what git knows since 2.31, and did not understand.
        vacant: repositories in which no git of an earlier process works any more.
    """

    def __init__(self, home: Path, book: HostBook, events: Events | None = None, *, at_once: int = AT_ONCE) -> None:
        """Give git `home`, an empty folder that is made when it is needed, and the rules of `book`."""
        self._home, self.book, self._events = home.absolute(), book, events or Events()
        self._free = asyncio.Semaphore(at_once)
        self.older_hosts, self.vacant = set[str](), set[Path]()

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a process that a caller starts itself, and that connects nowhere."""
        return environment(self._home, None, os.environ, settings)

    async def run(
        self,
        args: Sequence[str],
        *,
        folder: Path | None = None,
        remote: Address | None = None,
        stdin: bytes = b"",
        ok: tuple[int, ...] = (0,),
        stall: float = 60.0,
        deadline: float | None = None,
        limit: int = OUTPUT,
        largest: int | None = None,
        config: Mapping[str, str] | None = None,
    ) -> Output:
        """Run `git ARGS` to its end; cancelled or late, it is ended with all processes that it started.

        Args:
            args: options of our own; `--` before whatever comes from outside.
            folder: the bare repository, or None.
            remote: whom it will speak with; without one no transport works at all.
            stdin: what it reads.
            ok: exit statuses that are answers.
            stall: seconds that a connection may carry nothing.
            deadline: seconds in all, or None.
            limit: longest output, in bytes.
            largest: longest file that it may write, in bytes, or None; the system ends a process that writes more.
            config: further settings.

        Raises:
            MirrordError: it failed; the kind by what git said (`failures.classify`).
            StalledError: nothing moved any more.
            DeadlineError: it took too long.
            TooLargeError: it wrote more than `limit`.
            UntrustedError: `remote` may not be dialled.
        """
        environ = await self._environ(folder, remote, stall, config or {})
        patience = stall * _BACKSTOP if remote else None
        wanted = Invocation(["git", *args], environ, stdin, folder or self._home, None, patience, largest, locks=True)
        host = remote.host if remote else ""
        try:
            return await self._run(wanted, f"git {args[0]}", host, limit=limit, deadline=deadline, ok=ok)
        except errors.DeniedError:
            self.book.refused(host)
            raise

    @asynccontextmanager
    async def piped(
        self, args: Sequence[str], *, folder: Path, stdin: bytes
    ) -> AsyncIterator[Callable[[], Awaitable[bytes]]]:
        """Run `git ARGS` in a repository; what it writes is read piece by piece (b"" at its end), and as fast as it is.

        Reading raises MirrordError when git fails. Raises as `run`.
        """
        wanted = Invocation(["git", *args], await self._environ(folder, None, 0.0, {}), stdin, folder, locks=True)
        said = ErrorText()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._free)
            await asyncio.to_thread(self.prepared, wanted)
            with starting(wanted.argv[0]):
                running = await stack.enter_async_context(program.started(replace(wanted, on_error=said.add)))

            async def read() -> bytes:
                piece = await running.read()
                if not piece and (status := await running.wait()):
                    raise classify(status, said.text(), "")
                return piece

            yield read

    async def ask(self, remote: Address, words: Sequence[str], *, deadline: float = 60.0, limit: int = LINE) -> bytes:
        """Run a command at an ssh host, let in as git is; return what it writes. Raises as `run`.

        The shell there gets the command and its arguments (`words`) quoted. It may take `deadline` seconds, and write
        `limit` bytes.
        """
        wanted = await self.over_ssh(remote, shlex.join(words), deadline)
        return (await self._run(wanted, words[0], remote.host, limit=limit, deadline=deadline)).out

    async def over_ssh(self, remote: Address, command: str, stall: float) -> Invocation:
        """Return what runs a command at an ssh host, let in as git is, when it is `prepared`.

        The connection may carry nothing for `stall` seconds. Raises UntrustedError: the host may not be dialled.
        """
        environ = await self._environ(None, remote, stall, {})
        name, port = host_port(remote)
        _, *options = shlex.split(environ["GIT_SSH_COMMAND"])
        args = ["ssh", *options, "-p", str(port), "--", f"{remote.user}@{name}", command]
        return Invocation(args, environ, folder=self._home, patience=stall * _BACKSTOP)

    async def _run(
        self,
        wanted: Invocation,
        what: str,
        host: str,
        *,
        limit: int,
        deadline: float | None,
        ok: tuple[int, ...] = (0,),
    ) -> Output:
        """Run it when it is its turn, and say what its end means; `what` and `host` are for people."""
        said = ErrorText()
        try:
            async with asyncio.timeout(deadline), self._free:
                folder = await asyncio.to_thread(self.prepared, wanted)
                with starting(what):
                    end = await program.run(replace(wanted, folder=folder, on_error=said.add), limit=limit)
        except TimeoutError as error:
            message = f"{host or wanted.folder}: {what} was not done within {deadline or 0:.0f} s, and was ended"
            raise errors.DeadlineError(message) from error
        if end.ended_for is EndedFor.OUTPUT:
            raise errors.TooLargeError(f"{host or 'git'}: {what} wrote more than {limit} bytes, and was ended")
        if end.ended_for is EndedFor.STALL:
            raise errors.StalledError(f"{host}: {what} did nothing any more, and was ended")
        stderr = said.text()
        if end.status not in ok:
            raise classify(end.status, stderr, host)
        return Output(end.status, end.out, stderr)

    def prepared(self, wanted: Invocation) -> Path:
        """Return where a program can run. Blocks; raises StorageError: it is not installed."""
        name, folder = wanted.argv[0], Path(wanted.folder)
        if shutil.which(name, path=wanted.env.get("PATH")) is None:
            raise errors.StorageError(f"{name} is not installed; install {_PACKAGES[name]}")
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder if folder.is_dir() else self._home

    async def _environ(
        self, folder: Path | None, remote: Address | None, stall: float, config: Mapping[str, str]
    ) -> dict[str, str]:
        if remote is None:
            return environment(self._home, folder, os.environ, config)
        policy = self.book.policy(remote.host)
        try:
            check(remote, policy)
            pinned = await _resolved(remote, policy)
        except errors.UntrustedError as error:
            self._events.emit(TrustRefused(remote.host, error.reason))
            raise
        if remote.scheme == "ssh":
            ssh = ssh_command(remote, policy, pinned, stall)
            return environment(self._home, folder, os.environ, config, scheme="ssh", ssh=ssh)
        settings = http_settings(remote, policy, await self.book.credential(remote.host), pinned, stall)
        return environment(self._home, folder, os.environ, {**config, **settings}, scheme=remote.scheme)


@contextmanager
def starting(what: str) -> Iterator[None]:
    """Raise StorageError when a program cannot be started."""
    try:
        yield
    except OSError as error:
        raise errors.StorageError(f"{what} could not be started: {redact(str(error))[:200]}") from error


async def _resolved(remote: Address, policy: HostPolicy) -> tuple[str, ...]:
    """Look up the host, judge its addresses, and return them: git must dial no others (DNS rebinding)."""
    host, port = host_port(remote)
    reach = trust.reach_of(policy)
    if policy.proxy and remote.scheme != "ssh":
        trust.check_literal(check_url(remote.url), reach)
        return ()
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        text = f"{remote.host}: its address cannot be found ({error.strerror}); check the name, and DNS here"
        raise errors.UnreachableError(text) from error
    addresses = tuple(dict.fromkeys(str(one[4][0]) for one in found))
    trust.check_addresses(remote.host, addresses, reach)
    return addresses
