"""A daemon that tells what it costs and what keeps its event loop: `mirrord serve`, watched from inside.

`open_daemon` runs it in a process of its own. It is the real one: configuration, record, schedule, doors.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

from sqlalchemy import Engine, event

from mirrord import garbage
from mirrord.commands import Sync
from mirrord.daemon.loop import run
from mirrord.daemon.main import serve
from mirrord.model.run import Result
from mirrord.serve.remote import ControlClient

TICK = 0.002  # seconds between two beats
CALM, PATIENCE = 0.5, 60  # seconds in which a daemon at rest does nothing, and how often that is waited for
MARK = "@"  # begins a line of ours between those of the daemon's log
Cost = dict[str, float | str]


class LoopWatch:
    """Says what kept the event loop longest between two of its turns, in CPU seconds of its thread, and where it was.

    CPU seconds, since on a busy machine every thread is late; besides, how late it was by the clock, which also tells
    of other threads that keep the interpreter.
    """

    def __init__(self) -> None:
        """Look at nothing yet."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._beat, self._used = time.monotonic(), time.thread_time()
        self._seen, self._collecting = "", 0.0
        self.reset()
        gc.callbacks.append(self._collected)
        threading.Thread(target=self._look, daemon=True).start()
        self._tick()

    def reset(self) -> None:
        """Begin anew."""
        self.longest, self.late, self.during = 0.0, 0.0, ""

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        """Tell of a look for garbage that took long, in whichever thread: the loop waits for it."""
        now = time.monotonic()
        if phase == "start":
            self._collecting = now
        elif now - self._collecting > TICK * 10:
            self._seen = f"a look for garbage of generation {info['generation']}"

    def _tick(self) -> None:
        now, used = time.monotonic(), time.thread_time()
        self.late = max(self.late, now - self._beat - TICK)
        if used - self._used > self.longest:
            self.longest, self.during = used - self._used, self._seen
        self._beat, self._used, self._seen = now, used, ""
        self._loop.call_later(TICK, self._tick)

    def _look(self) -> None:
        while True:
            time.sleep(TICK * 5)
            if not self._seen and time.monotonic() - self._beat > TICK * 10:
                stack = traceback.extract_stack(sys._current_frames()[self._thread])  # noqa: SLF001 - the only way
                ours = [one for one in stack if "mirrord" in one.filename] or stack
                self._seen = " < ".join(f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in ours[:-4:-1])


def used() -> float:
    """Return the CPU seconds of this process and of its children that ended."""
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)


def _tell(watch: LoopWatch, began: float) -> None:
    """Answer each line of standard input with what was used since the last one."""
    statements: list[None] = []
    event.listen(Engine, "before_cursor_execute", lambda *_: statements.append(None))
    for _ in sys.stdin:
        now = used()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        told = {"cpu": now - began, "longest": watch.longest, "late": watch.late, "during": watch.during, "peak": peak}
        print(MARK + json.dumps({**told, "statements": len(statements)}), flush=True)
        began = now
        watch.reset()
        statements.clear()


async def _serve(conf: Path, state: Path) -> int:
    watch = LoopWatch()
    threading.Thread(target=_tell, args=(watch, 0.0), daemon=True).start()
    return await serve(conf, state)


class WatchedDaemon:
    """A daemon in a process of its own.

    Attributes:
        url: where it listens.
        started: what its start took, until it was at rest.
    """

    def __init__(self, process: asyncio.subprocess.Process, state: Path) -> None:
        """Use `ready` before anything else."""
        self._process, self._client = process, ControlClient(state)
        self._told: asyncio.Queue[Cost] = asyncio.Queue()
        self.url, self.started = "", Cost()

    async def ready(self) -> None:
        """Wait until it serves."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            if b"daemon.ready" in line:
                self.url = f"http://{json.loads(line)['address']}"
                break
        assert self.url, "the daemon ended"
        self._reading = asyncio.create_task(self._read())
        self.started = await self.cost()
        for _ in range(PATIENCE):  # what it does by itself after its start belongs to that
            await asyncio.sleep(CALM)
            more = await self.cost()
            self.started["cpu"] = float(self.started["cpu"]) + float(more["cpu"])
            if float(more["cpu"]) < CALM / 20:
                break

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            if line.startswith(MARK.encode()):
                self._told.put_nowait(json.loads(line[1:]))

    async def cost(self) -> Cost:
        """Return what was used since this was asked last."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return await self._told.get()

    async def sync(self, *names: str) -> Cost:
        """Run mirrors, one after the other, and return what that took."""
        await self.cost()
        for name in names:
            (ended,) = await self._client.carry_out(Sync((name,)))
            assert ended.result in (Result.SUCCESS, Result.NOOP), (ended.error, ended.counts)
        return await self.cost()


@contextlib.asynccontextmanager
async def open_daemon(conf: Path, state: Path) -> AsyncIterator[WatchedDaemon]:
    """Start a daemon, wait until it serves, and end it."""
    argv = [sys.executable, "-m", "bench.watched", str(conf), str(state)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, limit=16 << 20)
    try:
        daemon = WatchedDaemon(process, state)
        await daemon.ready()
        yield daemon
        process.terminate()
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def main() -> None:
    """Serve what the arguments say: a folder of configuration and one for state."""
    garbage.look_briefly()  # as the command does
    conf, state = map(Path, sys.argv[1:])
    os._exit(run(_serve(conf, state)))


if __name__ == "__main__":
    main()
