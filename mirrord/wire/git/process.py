"""A git process and all that it starts: read to its end by one thread, or ended as one group.

git works through helpers (`git-remote-https`, `index-pack`, `ssh`) that hold the connection, and outlive it when only
git itself is ended (GitPython issue 895). So each runs in a session of its own, and signals go to the group. Its
leader is reaped last, so that its number cannot be another's by then.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import monotonic, sleep
from typing import BinaryIO, Final, Protocol

from mirrord.wire.git.stderr import ErrorText

GRACE: Final = 3.0
"""Seconds between asking a group to end (git then removes its lock files) and killing it."""
_TICK: Final = 0.25
_PIECE: Final = 1 << 18


class Process(Protocol):
    """What is needed of a started process, the leader of its own group."""

    pid: int
    stdout: BinaryIO
    stderr: BinaryIO

    def wait(self) -> int:
        """Reap it."""
        ...


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """How it ended.

    Attributes:
        status: exit status; negative: the signal that ended it.
        out: what it wrote, at most as much as allowed.
        err: what it said (`ErrorText.text`).
        overflow: it wrote more, and was ended for it.
        quiet: it did nothing for too long, and was ended for it.
    """

    status: int
    out: bytes
    err: str
    overflow: bool = False
    quiet: bool = False


class Child:
    """One process group. `carry_out` belongs to one thread; `stop` may come from any other at any time."""

    def __init__(self, start: Callable[[], Process], limit: int, patience: float | None = None) -> None:
        """Start nothing yet.

        Args:
            start: starts the process.
            limit: bytes of output that are kept; more ends it.
            patience: seconds without a byte between the processes and without work, after which it is ended.
        """
        self._start, self._limit = start, limit
        self._patience = patience
        self._pulse: ProcessStall | None = None
        self._lock = Lock()
        self._process: Process | None = None
        self._kill_at: float | None = None
        self._out = bytearray()
        self._overflow = self._quiet = self._reaped = False

    def stop(self) -> None:
        """Ask the group to end, and have it killed when it does not; what was not started will not be."""
        with self._lock:
            if self._kill_at is None:
                self._kill_at = monotonic() + GRACE
                self._signal(signal.SIGTERM)

    def carry_out(self) -> ProcessEnd | None:
        """Start it, read it, reap it; None when it was stopped before it began. Blocks."""
        with self._lock:
            if self._kill_at is not None:
                return None
            self._process = process = self._start()
        self._pulse = ProcessStall(self._patience) if self._patience else None
        said = ErrorText()
        with selectors.DefaultSelector() as selector, process.stdout, process.stderr:
            for stream, take in ((process.stdout, self._take), (process.stderr, said.add)):
                selector.register(stream, selectors.EVENT_READ, take)
            self._read(selector)
        return ProcessEnd(self._reap(process), bytes(self._out), said.text(), self._overflow, self._quiet)

    def _read(self, selector: selectors.BaseSelector) -> None:
        due = monotonic() + _TICK
        while selector.get_map():
            for key, _ in selector.select(_TICK):
                piece = os.read(key.fd, _PIECE)
                if piece:
                    key.data(piece)
                else:
                    selector.unregister(key.fileobj)
            if monotonic() >= due:
                due = monotonic() + _TICK
                if self._overdue():
                    return

    def _take(self, piece: bytes) -> None:
        room = self._limit - len(self._out)
        self._out += piece[:room]
        if len(piece) > room:
            self._overflow = True
            self.stop()

    def _overdue(self) -> bool:
        """Look after a group that does not end; True when its pipes are held by somebody outside of it."""
        assert self._process is not None
        if self._pulse and self._pulse.stopped(self._process.pid):
            self._quiet = True
            self.stop()
        with self._lock:
            if self._kill_at is None and self._exited():
                self._kill_at = monotonic()  # a leader that died leaves nobody behind
            if self._kill_at is None or monotonic() < self._kill_at:
                return False
            self._signal(signal.SIGKILL)
            return monotonic() > self._kill_at + GRACE

    def _reap(self, process: Process) -> int:
        delay = 0.0005
        while not self._exited():
            self._overdue()
            delay = min(delay * 2, 0.05)
            sleep(delay)
        with self._lock:
            if self._kill_at is not None:
                self._signal(signal.SIGKILL)  # what closed its pipes and still runs
            self._reaped = True
            return process.wait()

    def _exited(self) -> bool:
        assert self._process is not None
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and not self._reaped:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # EPERM: an ssh that changed its owner
                os.killpg(self._process.pid, number)


class ProcessStall:
    """Tells when a tree of processes has stopped: neither reads nor writes, and next to no work.

    A backstop where curl's and ssh's own patience does not reach. Data on sockets does not count on Linux (`recv` is
    no `read`), only what the processes hand each other; so it must be much longer than theirs.
    """

    def __init__(self, patience: float) -> None:
        self._patience, self._since = patience, monotonic()
        self._next = self._since
        self._bytes, self._ticks = 0, 0.0

    def stopped(self, pid: int) -> bool:
        """Whether nothing was done for as long as the patience lasts."""
        now = monotonic()
        if now < self._next:
            return False
        self._next = now + self._patience / 20
        moved, ticks = _activity(pid)
        if moved != self._bytes or abs(ticks - self._ticks) > (now - self._since) * 0.02:
            self._bytes, self._ticks, self._since = moved, ticks, now
        return now - self._since > self._patience


def _activity(pid: int) -> tuple[int, float]:
    """Return bytes read and written, and seconds of work, of a process and its descendants that live (Linux)."""
    moved, work = 0, 0.0
    waiting = [pid]
    while waiting:
        place = Path(f"/proc/{waiting.pop()}")
        with contextlib.suppress(OSError, ValueError, IndexError):
            counts = [int(line.split()[1]) for line in (place / "io").read_text().splitlines()[:2]]
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            moved += sum(counts)
            work += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            waiting += [int(child) for child in (place / "task" / place.name / "children").read_text().split()]
    return moved, work
