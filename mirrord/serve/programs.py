"""Answers requests with the output of programs, without making them wait for slow clients.

A program reads its input from a file, and its output is spooled: it runs as long as its work takes, not as long as
its client reads. Without space it has to wait, but then it does not count as working. Short programs have their own
slots, so that they never wait for long ones. No program outlives its request.
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
    """The limits for one sort of programs: how many work, and how many work or wait for space."""

    working: Slots
    started: Slots


@dataclass(frozen=True, slots=True)
class Job:
    """A requested program, and its input in a file."""

    program: Process
    stdin: BinaryIO | None


class Programs:
    """Runs the programs of a server; `running` counts those that run or are being stopped."""

    def __init__(
        self,
        room: AnswerRoom | None = None,
        *,
        quick: ProgramLimit | None = None,
        slow: ProgramLimit | None = None,
        stall: float = STALL,
    ) -> None:
        """Keep unread output in `room`, and limit the short and the long programs.

        A program that writes nothing, and a client that reads nothing, for `stall` seconds are cut off.
        """
        self._room = room or AnswerRoom()
        self._quick = quick or ProgramLimit(Slots(8, 6), Slots(32, 12))
        self._slow = slow or ProgramLimit(Slots(8, 6), Slots(32, 12))
        self._stall = stall
        self.running = 0

    async def job(self, program: Process) -> Job:
        """Write a program's input to a file, so that waiting needs no memory; BodyError without space."""
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
        """Let a program write an answer; stop it when the client leaves. `broken` is called as by `send_stream`."""
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
            except BrokenError:  # the spooled output cannot be read
                return _refusal(500, _FAILED)
        finally:
            filling.cancel()
            spool.close()
            await asyncio.wait((filling,))

    async def _fill(self, spool: Spooled, job: Job, client: str) -> web.Response | None:
        """Run a program when a slot is free, as `_run`."""
        refusal: web.Response | None = _refusal(500, _FAILED)
        limit = self._quick if job.program.quick else self._slow
        try:
            async with limit.started.slot(client), limit.working.slot(client) as slot:
                refusal = await self._run(spool, job, slot)
        except CutOffError:  # the client has left
            pass
        except FullError:
            refusal = _refusal(503, _BUSY, {"Retry-After": "10"})
        except OSError:
            refusal = _refusal(500, "the program that serves this address cannot be started")
        finally:
            spool.end(whole=refusal is None)
        return refusal

    async def _run(self, spool: Spooled, job: Job, slot: Slot) -> web.Response | None:
        """Spool a program's output; return an error response if it failed without output."""
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
        # After output the status is meaningless: git returns 1 after `--depth` in protocol v0.
        return _refusal(500, _FAILED) if status and not written else None


def _refusal(status: int, reason: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"{reason}\n", headers=headers)
