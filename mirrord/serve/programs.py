"""Answers requests by programs whose output is the body, and lets no program wait for a slow client.

A program reads its input from a file, and what it writes is spooled: it runs as long as its work takes, not as long as
its client does. Where there is no room left it has to wait, but then it does not count as one that works. What takes
milliseconds has slots of its own, so that it never waits for what takes minutes. No program outlives its request.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

from aiohttp import web

from mirrord.errors import BrokenError
from mirrord.files import nameless
from mirrord.program import Invocation, started
from mirrord.serve.bodies import BodyError
from mirrord.serve.sending import STALL
from mirrord.serve.slots import FullError, Slot, Slots, client_of
from mirrord.serve.spooled import AnswerRoom, CutOffError, Spooled
from mirrord.serve.streaming import attended, send_stream
from mirrord.syncer.serving import Process

_BUSY: Final = "too many programs are running; try again later"
_FAILED: Final = "the program that serves this address failed"


@dataclass(frozen=True, slots=True)
class ProgramLimit:
    """How many programs of one sort there may be: that work, and that work or wait for room."""

    working: Slots
    started: Slots


@dataclass(frozen=True, slots=True)
class Job:
    """A program that is wanted, and its input in a file."""

    program: Process
    stdin: BinaryIO | None


class Programs:
    """Runs the programs of a server; `running` are those that run, or are being ended."""

    def __init__(
        self,
        room: AnswerRoom | None = None,
        *,
        quick: ProgramLimit | None = None,
        slow: ProgramLimit | None = None,
        stall: float = STALL,
    ) -> None:
        """Run nothing yet; keep what clients have not read in `room`, and run so many that take milliseconds, or more.

        A program that writes nothing, and a client that takes nothing, for `stall` seconds are ended.
        """
        self._room = room or AnswerRoom()
        self._quick = quick or ProgramLimit(Slots(8, 6), Slots(32, 12))
        self._slow = slow or ProgramLimit(Slots(8, 6), Slots(32, 12))
        self._stall = stall
        self.running = 0

    async def job(self, program: Process) -> Job:
        """Put a program's input into a file, so that waiting needs no memory; BodyError when there is no room."""
        if not program.stdin:
            return Job(program, None)
        try:
            stdin = await asyncio.to_thread(nameless, program.stdin, self._room.folder)
        except OSError as error:
            raise BodyError(503, "not enough space for a request of this size; try again later") from error
        return Job(replace(program, stdin=b""), stdin)

    async def answer(
        self, request: web.Request, job: Job, answer: web.StreamResponse, broken: Callable[[Exception], None]
    ) -> web.StreamResponse:
        """Let a program write an answer; it ends when the client leaves. `broken` is told as by `send_stream`."""
        answer.headers.setdefault("X-Content-Type-Options", "nosniff")
        try:
            return await attended(request, self._answer(request, job, answer, broken))
        finally:
            if job.stdin is not None:
                job.stdin.close()

    async def _answer(
        self, request: web.Request, job: Job, answer: web.StreamResponse, broken: Callable[[Exception], None]
    ) -> web.StreamResponse:
        spool = Spooled(self._room)
        filling = asyncio.create_task(self._fill(spool, job, client_of(request.remote or "")))
        try:
            try:
                return await send_stream(request, answer, spool.pieces(), broken, self._stall)
            except CutOffError:  # before the first piece
                return await filling or _refusal(500, _FAILED)
            except BrokenError:  # it was kept, and cannot be read
                return _refusal(500, _FAILED)
        finally:
            filling.cancel()
            spool.close()
            await asyncio.wait((filling,))

    async def _fill(self, spool: Spooled, job: Job, client: str) -> web.Response | None:
        """Run a program when its turn has come, as `_run`."""
        refusal: web.Response | None = _refusal(500, _FAILED)
        limit = self._quick if job.program.quick else self._slow
        try:
            async with limit.started.slot(client), limit.working.slot(client) as slot:
                refusal = await self._run(spool, job, slot)
        except CutOffError:  # nobody is there any more
            pass
        except FullError:
            refusal = _refusal(503, _BUSY, {"Retry-After": "10"})
        except OSError:
            refusal = _refusal(500, "the program that serves this address cannot be started")
        finally:
            spool.end(whole=refusal is None)
        return refusal

    async def _run(self, spool: Spooled, job: Job, slot: Slot) -> web.Response | None:
        """Keep what a program writes; return what to say when that is nothing, and should be something."""
        written = 0
        self.running += 1
        try:
            environ = {"PATH": os.environ.get("PATH", os.defpath), **job.program.env}
            program = Invocation(job.program.argv, environ, job.stdin or b"", grace=0)
            async with started(program) as process:
                while True:
                    async with asyncio.timeout(self._stall):
                        piece = await process.read()
                    if not piece:
                        break
                    while not await spool.put(piece if written else job.program.begin + piece):
                        slot.leave()
                        await self._room.change()
                    written += len(piece)
                async with asyncio.timeout(self._stall):
                    status = await process.wait()
        except TimeoutError:
            return _refusal(504, "the program that serves this address stalled")
        finally:
            self.running -= 1
        if status < 0:
            return _refusal(502, "the program that serves this address was terminated")
        # Behind an answer the status says nothing: that of git is 1 after `--depth` in protocol v0.
        return _refusal(500, _FAILED) if status and not written else None


def _refusal(status: int, reason: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"{reason}\n", headers=headers)
