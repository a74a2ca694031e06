"""The control socket, by which commands reach the daemon that holds the state. JSON over HTTP over a Unix socket.

Clients must be able to open the socket (mode 0600, in a folder of mode 0700) and have the same version.
`POST /<name of a command>` with its fields returns one JSON document a line: events of its mirrors as they happen,
then the result in pieces, or `{"error": …}`.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from mirrord import __version__
from mirrord.commands import COMMANDS, Command
from mirrord.errors import BusyError, MirrordError, UsageError
from mirrord.events import BytesRead, BytesSent, Event, Events, Planned, RunSkipped, RunStarted, StepDone, StepSized
from mirrord.model.remote import RunElsewhere
from mirrord.report.documents import PIECE, Document, adapter, event_document, pieces
from mirrord.serve.remote import FOLDER, VERSION, named
from mirrord.wire.secret import redact

_BYTES_EVERY = 0.2  # seconds between two lines about bytes, enough for a progress bar
_BACKLOG = 10_000  # lines kept for a client that does not read


def make_control(carry_out: Callable[[Command[Any]], Awaitable[Any]], events: Events, folder: Path) -> web.Application:
    """Build the application for the control socket; work continues after the client has left.

    Commands that name another folder of configuration than `folder` are refused.
    """
    tasks: set[asyncio.Task[Any]] = set()

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            command = await _command(request, folder)
        except MirrordError as error:
            return web.json_response(_error(error), status=400)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
        progress = _Progress(command.about)
        quiet = events.listen(progress)
        task = asyncio.ensure_future(carry_out(command))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(progress.close)
        try:
            await response.prepare(request)
            async for batch in progress.batches():
                await response.write(await asyncio.to_thread(_lines, batch))
            lines = _answer(task)
            while line := await asyncio.to_thread(next, lines, b""):
                await response.write(line)
        finally:
            quiet()
        return response

    app = web.Application(client_max_size=1024 * 1024)
    app.on_response_prepare.append(_sign)
    app.router.add_route("*", "/{word:.*}", answer)
    return app


async def _command(request: web.Request, folder: Path) -> Command[Any]:
    theirs = request.headers.get(VERSION, "another version")
    if theirs != __version__:
        raise UsageError(f"the daemon is mirrord {__version__}, but this command is {theirs}; use the same version")
    ours = await asyncio.to_thread(named, folder)
    if (wanted := request.headers.get(FOLDER, ours)) != ours:
        reads = (
            f"the process that holds this state reads the configuration in {unquote(ours)}, not in {unquote(wanted)}"
        )
        raise UsageError(f"{reads}; leave --config out, or give another --state")
    kind: Any = COMMANDS.get(request.match_info["word"])
    if kind is None:
        raise UsageError("unknown command")
    try:
        command: Command[Any] = adapter(kind).validate_python(json.loads(await request.read()))
    except ValueError as error:
        raise UsageError(f"invalid command: {error}") from error
    return command


def _line(document: Document) -> bytes:
    return json.dumps(document).encode() + b"\n"


def _lines(batch: Sequence[Event]) -> bytes:
    return b"".join(_line(event_document(event)) for event in batch)


def _answer(task: asyncio.Future[Any]) -> Iterator[bytes]:
    """Encode the result; of a tuple each value in its own line."""
    try:
        answer = task.result()
    except asyncio.CancelledError:
        yield _line(_error(BusyError("stopped because mirrord is shutting down")))
    except MirrordError as error:
        yield _line(_error(error))
    except Exception as error:  # noqa: BLE001 - a bug must reach the client
        yield _line(_error(MirrordError(f"{type(error).__name__}: {error}")))
    else:
        for value in answer if isinstance(answer, tuple) else (answer,):
            yield from map(_line, pieces(value))


def _error(error: MirrordError) -> Document:
    return {"error": {"code": error.code, "message": redact(str(error))}}


class _Progress:
    """Events of some mirrors, or of all if none is named, for one client."""

    def __init__(self, mirrors: frozenset[str]) -> None:
        self._mirrors = mirrors
        self._told = deque[Event]()
        self._more, self._ended = asyncio.Event(), False
        self._bytes_at = 0.0
        self._bytes: dict[tuple[type[object], str], BytesRead | BytesSent] = {}

    def close(self, task: asyncio.Future[Any]) -> None:
        """End the events."""
        if not task.cancelled():
            task.exception()  # the client may have left
        self._ended = True
        self._more.set()

    async def batches(self) -> AsyncIterator[Sequence[Event]]:
        """Yield events until the end, in batches of bounded size."""
        while self._told or not self._ended:
            if not self._told:
                self._more.clear()
                await self._more.wait()
            yield [self._told.popleft() for _ in range(min(PIECE, len(self._told)))]

    def __call__(self, event: Event) -> None:
        match event:
            case BytesRead(target) | BytesSent(target) if self._about(target.partition("/")[0]):
                self._count(event)
            case StepSized(target):
                self._add(target.partition("/")[0], event)
            case RunStarted(mirror=mirror) | RunSkipped(mirror=mirror) | StepDone(mirror=mirror) | RunElsewhere(mirror):
                self._add(mirror, event)
            case Planned(plan):
                self._add(plan.mirror, event)
            case _:
                pass

    def _add(self, mirror: str, event: Event) -> None:
        if self._about(mirror):
            self._flush(event)

    def _about(self, mirror: str) -> bool:
        return mirror in self._mirrors or not self._mirrors

    def _count(self, event: BytesRead | BytesSent) -> None:
        key = (type(event), event.target)
        before = self._bytes.get(key)
        self._bytes[key] = event._replace(fresh=event.fresh + (before.fresh if before else 0))
        time = asyncio.get_running_loop().time()
        if time - self._bytes_at >= _BYTES_EVERY:
            self._bytes_at = time
            self._flush()

    def _flush(self, *more: Event) -> None:
        waiting, self._bytes = self._bytes, {}
        for event in (*waiting.values(), *more):
            if len(self._told) < _BACKLOG:
                self._told.append(event)
        self._more.set()


async def _sign(_: web.Request, response: web.StreamResponse) -> None:
    response.headers[VERSION] = __version__
