"""The control socket: how other commands reach the daemon that holds the state. JSON over HTTP over a Unix socket.

Only who may open the socket (mode 0600, in a folder of mode 0700) may ask. `POST /sync`, `/publish` and `/plan`
answer with one JSON document a line: the mirrors in their order, events as they happen, and `{"run": …}`, `{"plan": …}`
or `{"error": …}` for each mirror when it is through, with its long lists in pieces before it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from aiohttp import web

from mirrord.errors import BusyError, MirrordError, UsageError
from mirrord.events import BytesRead, BytesSent, Event, Planned, RunSkipped, RunStarted, StepDone
from mirrord.model.plan import Plan
from mirrord.model.run import Run
from mirrord.report.documents import Document, backup_document, event_document, plan_pieces, run_pieces
from mirrord.serve.view import Commands
from mirrord.syncer.values import Publication
from mirrord.wire.secret import redact

_BYTES_EVERY = 0.2  # seconds between two lines about bytes: a progress bar needs no more
_BACKLOG = 10_000  # lines kept for a client that does not read

_Told = Document | Plan | Run


def make_control(commands: Commands) -> web.Application:
    """Build the application that answers on the control socket."""
    control = _Control(commands)
    app = web.Application(middlewares=[_errors], client_max_size=1024 * 1024)
    app.add_routes(
        [
            web.get("/status", control.status),
            web.post("/sync", control.sync),
            web.post("/plan", control.plan),
            web.post("/publish", control.publish),
            web.post("/backups", control.backups),
            web.post("/restore", control.restore),
            web.post("/reload", control.reload),
        ]
    )
    return app


class _Control:
    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._tasks: set[asyncio.Task[_Told]] = set()

    async def status(self, _: web.Request) -> web.Response:
        return web.json_response(await self._commands.status())

    async def reload(self, _: web.Request) -> web.Response:
        await self._commands.reload()
        return web.json_response({"reloaded": True})

    async def sync(self, request: web.Request) -> web.StreamResponse:
        asked = await _asked(request)
        names, allow = self._commands.known(_names(asked)), asked.get("allow") is True

        async def run(name: str) -> Run:
            return await self._commands.sync(name, allow=allow)

        return await self._stream(request, names, run)

    async def plan(self, request: web.Request) -> web.StreamResponse:
        names = self._commands.known(_names(await _asked(request)))
        return await self._stream(request, names, self._commands.plan)

    async def publish(self, request: web.Request) -> web.StreamResponse:
        asked = await _asked(request)
        match asked:
            case {"mirror": str(mirror), "source": str(source), "names": [str(), *_] as tags}:
                tags = tuple(str(tag) for tag in tags)
                publication = Publication(source, tags, if_newest=asked.get("if_newest") is True)
            case _:
                raise UsageError("publish wants {mirror, source, names}")
        names = self._commands.known([mirror])

        async def run(name: str) -> Run:
            return await self._commands.publish(name, publication)

        return await self._stream(request, names, run)

    async def backups(self, request: web.Request) -> web.Response:
        (name,) = self._commands.known([str((await _asked(request)).get("mirror"))])
        return web.json_response({"backups": [backup_document(one) for one in await self._commands.backups(name)]})

    async def restore(self, request: web.Request) -> web.StreamResponse:
        asked = await _asked(request)
        match asked:
            case {"mirror": str(mirror), "backup": str(backup)}:
                release = asked.get("release") is True
            case _:
                raise UsageError("restore wants {mirror, backup}")

        async def run(name: str) -> Run:
            return await self._commands.restore(name, backup, release=release)

        return await self._stream(request, self._commands.known([mirror]), run)

    async def _stream(
        self, request: web.Request, names: Sequence[str], work: Callable[[str], Awaitable[Plan | Run]]
    ) -> web.StreamResponse:
        """Work on the mirrors, some at once, and tell what happens; work goes on when nobody listens any more."""
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
        feed = _Feed(frozenset(names))
        quiet = self._commands.events.listen(feed)
        try:
            free = asyncio.Semaphore(self._commands.parallel)
            tasks = [asyncio.create_task(_settled(name, work, free)) for name in names]
            for task in tasks:
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                task.add_done_callback(lambda done: feed.put(done.result()))
            await response.prepare(request)
            await response.write(_line({"mirrors": list(names)}))
            async for told in feed.documents(len(tasks)):
                if isinstance(told, dict):
                    await response.write(_line(told))
                    continue
                lines = _lines(told)
                while line := await asyncio.to_thread(next, lines, b""):
                    await response.write(line)
        finally:
            quiet()
        return response


def _line(document: Document) -> bytes:
    return json.dumps(document).encode() + b"\n"


def _lines(told: Plan | Run) -> Iterator[bytes]:
    """Write a plan or a run piece by piece: one of 100 000 steps takes seconds."""
    yield from map(_line, run_pieces(told) if isinstance(told, Run) else plan_pieces(told))


async def _settled(name: str, work: Callable[[str], Awaitable[Plan | Run]], free: asyncio.Semaphore) -> _Told:
    try:
        async with free:
            return await work(name)
    except asyncio.CancelledError:  # not ours: the run was stopped because the daemon ends
        stopped = BusyError("stopped because mirrord is shutting down; the next run goes on from there")
        return {"error": error_document(stopped), "mirror": name}
    except MirrordError as error:
        return {"error": error_document(error), "mirror": name}
    except Exception as error:  # noqa: BLE001 - a bug in one mirror's work must reach whoever asked, not vanish
        return {"error": {"code": "error", "message": redact(f"{type(error).__name__}: {error}")}, "mirror": name}


class _Feed:
    """Events of some mirrors, as documents, for one client."""

    def __init__(self, mirrors: frozenset[str]) -> None:
        self._mirrors = mirrors
        self._queue: asyncio.Queue[_Told] = asyncio.Queue()
        self._bytes_at = 0.0
        self._bytes: dict[tuple[str, str], BytesRead | BytesSent] = {}

    def put(self, told: _Told) -> None:
        self._queue.put_nowait(told)

    def __call__(self, event: Event) -> None:
        match event:
            case BytesRead(digest=digest):
                self._count(("", digest), event)
            case BytesSent(target=target, digest=digest):
                self._count((target, digest), event)
            case RunStarted(mirror=mirror) | RunSkipped(mirror=mirror) | StepDone(mirror=mirror):
                self._tell(mirror, event)
            case Planned(plan):
                self._tell(plan.mirror, event)
            case _:
                pass

    def _tell(self, mirror: str, event: Event) -> None:
        if mirror in self._mirrors and self._queue.qsize() < _BACKLOG:
            self._flush()
            self.put(event_document(event))

    def _count(self, key: tuple[str, str], event: BytesRead | BytesSent) -> None:
        before = self._bytes.get(key)
        self._bytes[key] = event._replace(fresh=event.fresh + (before.fresh if before else 0))
        time = asyncio.get_running_loop().time()
        if time - self._bytes_at >= _BYTES_EVERY:
            self._bytes_at = time
            self._flush()

    def _flush(self) -> None:
        waiting, self._bytes = self._bytes, {}
        if self._queue.qsize() < _BACKLOG:
            for event in waiting.values():
                self.put(event_document(event))

    async def documents(self, results: int) -> AsyncIterator[_Told]:
        """Yield what is to be told until `results` of it were no events."""
        while results:
            told = await self._queue.get()
            results -= not (isinstance(told, dict) and "event" in told)
            yield told


async def _asked(request: web.Request) -> Mapping[str, Any]:
    try:
        asked = json.loads(await request.read() or b"{}")
    except ValueError as error:
        raise UsageError("the request is not JSON") from error
    if not isinstance(asked, dict):
        raise UsageError("the request is not a JSON object")
    return asked


def _names(asked: Mapping[str, Any]) -> list[str]:
    names = asked.get("mirrors", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError("mirrors: want a list of names")
    return names


def error_document(error: MirrordError) -> Document:
    """Write an error as a document."""
    return {"code": error.code, "message": redact(str(error))}


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except MirrordError as error:
        return web.json_response({"error": error_document(error)}, status=400)
