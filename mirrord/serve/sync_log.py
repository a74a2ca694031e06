"""The log of what is where over HTTP: `/log/MIRROR.txt`, and `/log.txt` of all mirrors.

It is sent as fast as a client reads it, and never held as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

from aiohttp import web

from mirrord.errors import StorageError, UsageError
from mirrord.events import AnswerBroken
from mirrord.serve.pagegroup import Handler, PageGroup
from mirrord.serve.slots import FullError, Slots, client_of
from mirrord.serve.status import View
from mirrord.serve.streaming import send_stream

_PREFIX, _SUFFIX = "/log/", ".txt"
AT_ONCE: Final = 8
"""Logs that are sent at the same time."""
_EACH: Final = 2  # to one client
_HEADERS: Final = {
    "Content-Type": "text/plain; charset=utf-8",
    "Cache-Control": "no-cache",
}


class SyncLogs(PageGroup):
    """The handlers of logs."""

    def __init__(self, view: View, patience: float = 20.0) -> None:
        """Show what `view` has; a client waits so many seconds while others get logs."""
        self._view = view
        self._slots = Slots(AT_ONCE, _EACH, waiting=4 * AT_ONCE, patience=patience)

    def pages(self) -> Mapping[str, Handler]:
        """Return the handler of the log of all mirrors."""
        return {f"{_PREFIX[:-1]}{_SUFFIX}": partial(self._answer, ())}

    def below(self) -> Mapping[str, Handler]:
        """Return the handler of the logs of mirrors."""
        return {_PREFIX: self._of_mirror}

    async def _of_mirror(self, request: web.Request) -> web.StreamResponse:
        name = request.path.removeprefix(_PREFIX).removesuffix(_SUFFIX)
        if not request.path.endswith(_SUFFIX) or not name:
            return web.Response(status=404, text="a log is called /log/MIRROR.txt\n")
        return await self._answer((name,), request)

    async def _answer(self, mirrors: Sequence[str], request: web.Request) -> web.StreamResponse:
        answer, pieces = web.StreamResponse(headers=_HEADERS), self._view.sync_log(mirrors)
        try:
            async with self._slots.slot(client_of(request.remote or "")):
                if request.method == "HEAD":
                    async with aclosing(pieces):
                        await anext(pieces, None)
                    return web.Response(headers=_HEADERS)
                return await send_stream(request, answer, pieces, partial(self._broken, request.raw_path))
        except FullError:
            return web.Response(status=503, headers={"Retry-After": "10"}, text="too many logs are being sent\n")
        except UsageError:
            return web.Response(status=404, text="there is no such mirror\n")
        except StorageError:
            return web.Response(status=503, headers={"Retry-After": "10"}, text="the record cannot be read\n")

    def _broken(self, path: str, error: Exception) -> None:
        """Report an answer that was ended, so that no part of a log looks like all of it."""
        self._view.services().events.emit(AnswerBroken(path, str(error) or type(error).__name__))
