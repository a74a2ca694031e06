"""Runs git: the only module that knows GitPython, and the only place where a git process begins.

GitPython's own guards cover some of its methods and not the one that all of them end in; so this calls that one, with
fixed options of our code, `--` before whatever comes from outside, and an environment made from nothing
(`mirrord.wire.git.environment`). The host's addresses are judged before git starts, and git is bound to them (curl's
`--resolve`, ssh's `HostName`). Where that does not reach, a name may still be resolved anew: a git older than 2.37, and
hosts behind a proxy, which resolves for itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import shlex
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mirrord.errors import (
    DeadlineError,
    DeniedError,
    StalledError,
    StorageError,
    TooLargeError,
    UnreachableError,
    UntrustedError,
)
from mirrord.events import Events, TrustRefused
from mirrord.wire import trust
from mirrord.wire.git.address import Address, check
from mirrord.wire.git.environment import environment, host_port, http_settings, ssh_command
from mirrord.wire.git.failures import classify
from mirrord.wire.git.process import Child, Process, ProcessEnd
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.origin import check_url
from mirrord.wire.secret import redact

OUTPUT: Final = 64 * 2**20
LINE: Final = 64 * 2**10  # what a command at an ssh host may write
AT_ONCE: Final = 64  # git processes of runs; each has a thread, and waits in it
_VERSION: Final = re.compile(r"(?<!\d)\d++(?:\.\d++)++")
_PACKAGES: Final = {"git": "it (2.39 or newer)", "ssh": "openssh-client"}
_BACKSTOP: Final = 10  # times `stall`: longer than whatever curl and ssh can end by themselves


@dataclass(frozen=True, slots=True)
class Output:
    """How a process ended.

    Attributes:
        status: its exit status.
        out: what it wrote.
        err: what it said: redacted, each line once, at most 16 KiB.
    """

    status: int
    out: bytes
    err: str


class Git:
    """Starts git processes, and has so many of them at once."""

    def __init__(self, home: Path, book: HostBook, events: Events | None = None, *, at_once: int = AT_ONCE) -> None:
        """Give git `home`, an empty folder that is made when it is needed, and the rules of `book`."""
        self._home, self._book, self._events = home.absolute(), book, events or Events()
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="git")

    @property
    def book(self) -> HostBook:
        """The rules for hosts."""
        return self._book

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
            largest: longest file that it may write, in bytes, or None; the system ends whoever writes more.
            config: further settings.

        Raises:
            MirrordError: it failed; the kind by what git said (`failures.classify`).
            StalledError: nothing moved any more.
            DeadlineError: it took too long.
            TooLargeError: it wrote more than `limit`.
            UntrustedError: `remote` may not be dialled.
        """
        environ = await self._environ(folder, remote, stall, config or {})
        host = remote.host if remote else ""
        patience = stall * _BACKSTOP if remote else None
        child = Child(lambda: self._start(["git", *args], folder, environ, stdin, largest), limit, patience)
        ended = await self._within(deadline, child, f"{host or folder}: git {args[0]}")
        try:
            return _judged(ended, f"git {args[0]}", ok, limit, host)
        except DeniedError:
            self._book.refused(host)
            raise

    async def ask(self, remote: Address, words: Sequence[str], *, deadline: float = 60.0, limit: int = LINE) -> bytes:
        """Run a command at an ssh host, let in as git is, and return what it writes.

        Args:
            remote: whom to ask.
            words: the command and its arguments; the shell there gets them quoted.
            deadline: seconds in all.
            limit: longest output, in bytes.

        Raises:
            MirrordError: as `run` does; `ssh` or the command failed.
        """
        environ = await self._environ(None, remote, deadline, {})
        name, port = host_port(remote)
        _, *options = shlex.split(environ["GIT_SSH_COMMAND"])
        args = [*options, "-p", str(port), "--", f"{remote.user}@{name}", shlex.join(words)]
        child = Child(lambda: self._start(["ssh", *args], None, environ), limit)
        ended = await self._within(deadline, child, f"{remote.host}: {words[0]}")
        return _judged(ended, words[0], (0,), limit, remote.host).out

    async def _within(self, deadline: float | None, child: Child, what: str) -> ProcessEnd:
        try:
            async with asyncio.timeout(deadline):
                return await self._watched(child)
        except TimeoutError as error:
            raise DeadlineError(f"{what} was not done within {deadline:.0f} s, and was ended") from error

    async def _watched(self, child: Child) -> ProcessEnd:
        """Wait for a child in a thread; when that is cancelled, see it to its end."""
        talking = asyncio.get_running_loop().run_in_executor(self._threads, child.carry_out)
        try:
            ended = await asyncio.shield(talking)
        except asyncio.CancelledError:
            child.stop()
            while not talking.done():  # at most `process.GRACE` a few times; nobody is left behind
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({talking})
            talking.exception()
            raise
        assert ended is not None  # only `stop` could have kept it from starting
        return ended

    def _start(
        self,
        command: Sequence[str],
        folder: Path | None,
        environ: Mapping[str, str],
        stdin: bytes = b"",
        largest: int | None = None,
    ) -> Process:
        """Start `git` or `ssh` through GitPython, in a session of its own; called in a thread."""
        git = _gitpython()
        name, *args = command
        program = shutil.which(name, path=environ.get("PATH"))
        if program is None:
            raise StorageError(f"{name} is not installed; install {_PACKAGES[name]}")
        try:
            self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
            place = folder if folder is not None and folder.is_dir() else self._home
            with tempfile.TemporaryFile() as stream:
                stream.write(stdin)
                stream.seek(0)
                handle = git.cmd.Git(str(place)).execute(
                    [*_without(environ), program, *args],
                    as_process=True,
                    istream=stream,
                    env=dict(environ),
                    shell=False,
                    start_new_session=True,
                )
        except (OSError, ValueError, git.exc.GitCommandNotFound) as error:
            what = f"git {args[0]}" if name == "git" else name
            raise StorageError(f"{what} could not be started: {redact(str(error))[:200]}") from error
        process: Process = handle.proc
        handle.proc = None  # its destructor would end the process
        if largest is not None:  # before it starts others, which inherit that; it has a connection to make first
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (largest, largest))
        return process

    async def _environ(
        self, folder: Path | None, remote: Address | None, stall: float, config: Mapping[str, str]
    ) -> dict[str, str]:
        if remote is None:
            return environment(self._home, folder, os.environ, config)
        policy = self._book.policy(remote.host)
        try:
            check(remote, policy)
            pinned = await _resolved(remote, policy)
        except UntrustedError as error:
            self._events.emit(TrustRefused(remote.host, error.reason))
            raise
        if remote.scheme == "ssh":
            ssh = ssh_command(remote, policy, pinned, stall)
            return environment(self._home, folder, os.environ, config, scheme="ssh", ssh=ssh)
        settings = http_settings(remote, policy, await self._book.credential(remote.host), pinned, stall)
        return environment(self._home, folder, os.environ, {**config, **settings}, scheme=remote.scheme)


def version() -> tuple[int, ...]:
    """Return the version of the git that is installed; () when there is none. Blocks."""
    git = _gitpython()
    program = shutil.which("git")
    if program is None:
        return ()
    try:
        told = str(git.cmd.Git().execute([program, "version"]))
    except (git.exc.GitCommandError, OSError):
        return ()
    found = _VERSION.search(told)
    return tuple(map(int, found[0].split("."))) if found else ()


def _gitpython() -> Any:
    """Import GitPython, which 60 ms of import and a `git version` make too dear for those who mirror no Git."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # a machine without git gets our error, not an ImportError
    import git  # noqa: PLC0415 - see above

    return git


def _judged(ended: ProcessEnd, what: str, ok: tuple[int, ...], limit: int, host: str) -> Output:
    if ended.overflow:
        raise TooLargeError(f"{host or 'git'}: {what} wrote more than {limit} bytes, and was ended")
    if ended.quiet:
        raise StalledError(f"{host}: {what} did nothing any more, and was ended")
    if ended.status not in ok:
        raise classify(ended.status, ended.err, host)
    return Output(ended.status, ended.out, ended.err)


def _without(environ: Mapping[str, str]) -> list[str]:
    """Return a command that takes our own environment away, which GitPython hands on whole: it may hold secrets."""
    return ["env", *(f"--unset={name}" for name in os.environ if name and name not in environ), "--"]


async def _resolved(remote: Address, policy: HostPolicy) -> tuple[str, ...]:
    """Look up the host, judge its addresses, and return them: git shall dial no others (DNS rebinding)."""
    host, port = host_port(remote)
    reach = trust.reach_of(policy)
    if policy.proxy and remote.scheme != "ssh":
        trust.check_literal(check_url(remote.url), reach)
        return ()
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        text = f"{remote.host}: its address cannot be found ({error.strerror}); check the name, and DNS here"
        raise UnreachableError(text) from error
    addresses = tuple(dict.fromkeys(str(one[4][0]) for one in found))
    trust.check_addresses(host, addresses, reach)
    return addresses
