"""Answers requests with CGI programs (RFC 3875): streams both ways, and lets no program outlive its client.

A program gets `PATH` and what RFC 3875 §4.1 says, nothing else of this process's environment, and of the request's
headers those that are named here: a header `Proxy` must never become `HTTP_PROXY` (CVE-2016-5385). Request bodies come
out of their transfer coding, but keep their content coding: what is compressed is expanded by the program, if at all.
Only where somebody must admit a body before the program gets it, it is read whole and handed on plain.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping

from aiohttp import web

from mirrord.serve.bodies import admitted
from mirrord.serve.door import departure
from mirrord.serve.variables import environment
from mirrord.serving import Program

_PIECE = 256 * 1024
_LONGEST_LINE = 8192
_REAPED = 5.0  # seconds for a killed program to be gone; what it started elsewhere may keep its output open
_MOST_LINES = 64
_KEPT_BACK = {"status", "connection", "keep-alive", "transfer-encoding", "content-length"}
_KINDLY = {"Retry-After": "10"}


class _HeadError(Exception):
    """What came is not the head of an answer; or nothing came."""


class Programs:
    """Runs some programs at once; lets some more requests wait for a moment, and sends the others away.

    Attributes:
        running: programs that run, or are being ended.
    """

    def __init__(
        self,
        *,
        at_once: int = 8,
        waiting: int = 64,
        patience: float = 30.0,
        stall: float = 120.0,
        largest: int = 16 * 1024 * 1024,
    ) -> None:
        """Set the limits.

        Args:
            at_once: programs that run.
            waiting: requests that wait for one to end; the next gets 503.
            patience: seconds that they wait before they get 503, too.
            stall: seconds in which nothing moved, in either direction, after which a program is ended.
            largest: bytes of a request.
        """
        self._free = asyncio.Semaphore(at_once)
        self._most_waiting, self._patience = waiting, patience
        self._stall, self._largest = stall, largest
        self._waiting = 0
        self.running = 0

    async def answer(self, request: web.Request, program: Program, headers: Mapping[str, str]) -> web.StreamResponse:
        """Let `program` answer; `headers` are sent besides its own. It ends when the client leaves."""
        if (request.content_length or 0) > self._largest:
            return _refusal(413, f"a request may have {self._largest} bytes")
        work = asyncio.create_task(self._in_turn(request, program, headers))
        gone = asyncio.create_task(departure(request))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.wait((work, gone))
        return _refusal(400, "the client left") if work.cancelled() else work.result()

    async def _in_turn(self, request: web.Request, program: Program, headers: Mapping[str, str]) -> web.StreamResponse:
        if not await self._enter():
            return _refusal(503, "too many programs are running; try again later", _KINDLY)
        self.running += 1
        try:
            return await self._run(request, program, headers)
        finally:
            self.running -= 1
            self._free.release()

    async def _enter(self) -> bool:
        if self._free.locked() and self._waiting >= self._most_waiting:
            return False
        self._waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return True

    async def _run(self, request: web.Request, program: Program, headers: Mapping[str, str]) -> web.StreamResponse:
        body: bytes | None = None
        if program.admit is not None:
            judged = await admitted(request, program.admit, self._largest, self._stall)
            if isinstance(judged, web.Response):
                return judged
            body = judged
        stdin = PIPE if request.body_exists else DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                *program.argv,
                stdin=stdin,
                stdout=PIPE,
                stderr=DEVNULL,
                env={**environment(request, body), **program.env},
                cwd="/",
                start_new_session=True,
                limit=_PIECE,
            )
        except OSError:
            return _refusal(500, "the program behind this address cannot be started")
        try:
            return await _Exchange(request, process, headers, self._largest, body).run(self._stall)
        finally:
            await _end(process)


class _Exchange:
    """One program that runs for one request."""

    def __init__(
        self, request: web.Request, process: Process, headers: Mapping[str, str], largest: int, body: bytes | None
    ) -> None:
        self._request, self._process, self._headers, self._largest = request, process, headers, largest
        self._body = body
        self._response: web.StreamResponse | None = None
        self._fault: web.Response | None = None

    async def run(self, stall: float) -> web.StreamResponse:
        """Move bytes both ways until the program has ended."""
        feeding: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(stall) as watch:
                self._watch, self._stall = watch, stall
                if self._process.stdin is not None:
                    feeding = asyncio.create_task(self._feed(self._process.stdin))
                return await self._pump()
        except TimeoutError:
            return self._broken(_refusal(504, "the program behind this address does not go on"))
        except (_HeadError, ConnectionError):  # the latter: the client has gone
            return self._broken(_refusal(502, "the program behind this address failed"))
        finally:
            if feeding is not None:
                feeding.cancel()
                await asyncio.wait((feeding,))

    def _moved(self) -> None:
        if not self._watch.expired():
            self._watch.reschedule(asyncio.get_running_loop().time() + self._stall)

    async def _pieces(self) -> AsyncIterator[bytes]:
        if self._body is None:
            async for piece in self._request.content.iter_any():
                yield piece
            return
        for start in range(0, len(self._body), _PIECE):
            yield self._body[start : start + _PIECE]

    async def _feed(self, stdin: asyncio.StreamWriter) -> None:
        count = 0
        try:
            async for piece in self._pieces():
                count += len(piece)
                if count > self._largest:
                    self._refuse(_refusal(413, f"a request may have {self._largest} bytes"))
                    return
                stdin.write(piece)
                await stdin.drain()
                self._moved()
        except web.RequestPayloadError:
            self._refuse(_refusal(400, "the request's body cannot be read"))
        except OSError:
            pass  # the program has read enough, or the client is gone, which others notice too
        finally:
            stdin.close()

    def _refuse(self, answer: web.Response) -> None:
        self._fault = answer
        _kill(self._process)

    async def _pump(self) -> web.StreamResponse:
        out = self._process.stdout
        assert out is not None
        status, fields = await _head(out)
        self._moved()
        plain = {"X-Content-Type-Options": "nosniff", **self._headers}
        named = {key.lower() for key in fields}
        headers = {**{key: value for key, value in plain.items() if key.lower() not in named}, **fields}
        self._response = web.StreamResponse(status=status, headers=headers)
        await self._response.prepare(self._request)
        if self._request.method == "HEAD":
            return self._response
        while piece := await out.read(_PIECE):
            self._moved()
            await self._response.write(piece)
            self._moved()
        if await self._process.wait() < 0:  # cut off; other statuses say nothing: git's is 1 after `--depth` in v0
            return self._broken(_refusal(502, "the program behind this address was ended"))
        return self._response

    def _broken(self, answer: web.Response) -> web.StreamResponse:
        """Answer, or when that has begun already, make sure that it is not taken for whole."""
        if self._response is None:
            return self._fault or answer
        if self._request.transport is not None:
            self._request.transport.abort()
        return self._response


async def _head(out: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Read the head of a program's answer (RFC 3875 §6.3): status, and the fields to pass on."""
    fields: dict[str, str] = {}
    for _ in range(_MOST_LINES):
        try:
            line = await out.readline()
        except ValueError as error:
            raise _HeadError from error
        if not line.endswith(b"\n") or len(line) > _LONGEST_LINE:
            raise _HeadError
        text = line.decode("latin-1").strip()
        if not text:
            break
        name, colon, value = text.partition(":")
        if not colon or not name.replace("-", "").isalnum():
            raise _HeadError
        fields[name.lower()] = value.strip()
    else:
        raise _HeadError
    status = fields.get("status", "302" if "location" in fields else "200")[:3]
    if not fields or not status.isdecimal() or not 200 <= int(status) <= 599:
        raise _HeadError
    return int(status), {name.title(): value for name, value in fields.items() if name not in _KEPT_BACK}


def _kill(process: Process) -> None:
    """End a program and all that it started, which is in its process group."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def _end(process: Process) -> None:
    _kill(process)
    reaping = asyncio.create_task(_reap(process))
    try:
        await asyncio.shield(reaping)
    except asyncio.CancelledError:
        await asyncio.wait((reaping,), timeout=_REAPED)
        raise


async def _reap(process: Process) -> None:
    while process.stdout is not None and await process.stdout.read(_PIECE):
        pass  # a pipe that is not read to its end is never closed
    if await process.wait() < 0:
        await asyncio.to_thread(_reap_orphans, process.pid)


def _reap_orphans(group: int) -> None:
    """Take leave of what a program had started: as the first process of a container we are its parent now."""
    with contextlib.suppress(ChildProcessError):  # they are somebody else's
        while True:
            os.waitpid(-group, 0)


def _refusal(status: int, reason: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"{reason}\n", headers=headers)
