"""What changes on a page, as server-sent events (`/events?lang=en` for that at `/`), at most once a second.

All readers of a language share each message. A reader who does not keep up is disconnected, and loads the page again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, Generic, Protocol, TypeVar

from aiohttp import web

from mirrord.report.words import Words, words
from mirrord.serve.door import while_there
from mirrord.serve.pages.frame import Look
from mirrord.serve.rendered import EVERY
from mirrord.serve.slots import client_of

MOST: Final = 200
"""Readers at a time; others get 503, and see the present when they load the page."""
EACH: Final = 100
"""Readers at one address at a time, so that none takes all places."""
_WAITING: Final = 4  # messages for one reader
_SILENCE: Final = 15.0  # seconds after which a reader gets a sign of life
_SLOW: Final = 30.0  # seconds that a reader may take to read a message
_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would keep messages back
}

_Reader = asyncio.Queue[bytes | None]
"""Messages for a reader; None ends the stream."""


class Numbered(Protocol):
    """What a page shows at one moment; `serial` differs from that of another one that shows something else."""

    serial: str


_Seen = TypeVar("_Seen", bound=Numbered)


class Live(Generic[_Seen]):
    """The readers of a page in all languages."""

    def __init__(
        self,
        seen: Mapping[str, Callable[[], Awaitable[_Seen]]],
        change: Callable[[_Seen, _Seen, Words], str],
    ) -> None:
        """Begin without readers.

        Args:
            seen: return by language what the page shows now.
            change: writes on one line what a reader of the first one needs to see the second one.
        """
        self._seen, self._change = seen, change
        self._readers: dict[str, set[_Reader]] = {language: set() for language in seen}
        self._clients: Counter[str] = Counter()
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Send the serial of the page, and then each change, until the reader leaves."""
        language, client = Look.of(request).language, client_of(request.remote or "")
        if self._stopping:
            return web.Response(status=503, headers={"Retry-After": "5"}, text="mirrord is stopping\n")
        if self._clients.total() >= MOST or self._clients[client] >= EACH:
            return web.Response(status=503, headers={"Retry-After": "60"}, text="too many readers\n")
        answer = web.StreamResponse(headers=_HEADERS)
        if request.method == "HEAD":
            await answer.prepare(request)
            return answer
        reader = _Reader(_WAITING)
        self._readers[language].add(reader)
        self._clients[client] += 1
        try:
            seen = await self._seen[language]()
            self._watch(language, seen)
            await answer.prepare(request)
            with suppress(ConnectionError, TimeoutError):
                await while_there(request, _send(answer, reader, f"event: page\ndata: {seen.serial}\n\n".encode()))
        finally:
            self._readers[language].discard(reader)
            self._clients -= Counter([client])  # addresses of clients are not kept
        return answer

    async def stop(self) -> None:
        """End all streams."""
        self._stopping = True
        for readers in self._readers.values():
            for reader in tuple(readers):
                _tell(reader, None)
        for task in self._watching.values():
            task.cancel()
        if self._watching:
            await asyncio.wait(self._watching.values())

    def _watch(self, language: str, seen: _Seen) -> None:
        task = self._watching.get(language)
        if task is None or task.done():
            self._watching[language] = asyncio.create_task(self._follow(language, seen))

    async def _follow(self, language: str, before: _Seen) -> None:
        """Send what changes, while there are readers."""
        while self._readers[language]:
            await asyncio.sleep(EVERY)
            now = await self._seen[language]()
            if now.serial != before.serial:
                text = await asyncio.to_thread(self._change, before, now, words(language))
                for reader in tuple(self._readers[language]):
                    _tell(reader, f"data: {text}\n\n".encode())
            before = now


async def _send(answer: web.StreamResponse, reader: _Reader, message: bytes | None) -> None:
    while message is not None:
        async with asyncio.timeout(_SLOW):
            await answer.write(message)
        try:
            async with asyncio.timeout(_SILENCE):
                message = await reader.get()
        except TimeoutError:
            message = b":\n\n"


def _tell(reader: _Reader, message: bytes | None) -> None:
    """Give a message to a reader; one who does not keep up gets no more."""
    if reader.full():
        while not reader.empty():
            reader.get_nowait()
        message = None
    reader.put_nowait(message)
