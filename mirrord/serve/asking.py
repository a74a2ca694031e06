"""`POST /api/v1/sync`: people ask for an image, and follow it until it is there. Needs a token with the scope `ask`.

The answer is a stream of states, one document each time something changes: JSON lines, or server-sent events for who
accepts those. Who leaves stops nothing; `GET /api/v1/sync/ID` says how far it is.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Address, IPv6Network
from typing import Any, Final

from aiohttp import web

from mirrord.asking.asked import AskedImage, AskRefusal, AskState, ImageAsker
from mirrord.errors import MirrordError
from mirrord.events import AnswerBroken, Events
from mirrord.report.documents import adapter
from mirrord.serve.bodies import PATIENCE, Bodies, BodyError
from mirrord.serve.gate import TokenGate
from mirrord.serve.incoming import address_in
from mirrord.serve.problem import problem
from mirrord.serve.sending import STALL
from mirrord.serve.slots import FullError, Slots
from mirrord.serve.streaming import send_stream
from mirrord.tokens import ASK, ClientToken

SYNC_PATH: Final = "/api/v1/sync"
"""Where images are asked for."""
ALIVE: Final = 15.0
"""Seconds after which something is sent though nothing has changed, so that no proxy ends the answer."""
FOLLOWED: Final = 50
"""Images that are followed at a time with one token; who follows more gets the state of now."""
_ALL_FOLLOWED: Final = 500  # with all tokens
LARGEST: Final = 64 * 1024
"""Bytes of a question."""
LINES, EVENTS, JSON = "application/x-ndjson", "text/event-stream", "application/json"
STATUS: Final = {
    AskRefusal.OFF: 404,
    AskRefusal.NOT_AN_IMAGE: 400,
    AskRefusal.PLATFORM: 400,
    AskRefusal.NOT_ALLOWED: 403,
    AskRefusal.TAKEN_DOWN: 403,
    AskRefusal.MISSING: 404,
    AskRefusal.RATE: 429,
    AskRefusal.FULL: 429,
    AskRefusal.STOPPING: 503,
}
"""What is answered to refusals."""
_EXAMPLE: Final = '{"image": "docker.io/library/nginx:1.25", "platforms": ["linux/amd64"]}'
_BROKEN: Final = "the record cannot be read or written; /readyz?verbose says why"


@dataclass(frozen=True, slots=True)
class _Question:
    """What a client asks for."""

    image: str
    platforms: tuple[str, ...] = ()


class AskPages:
    """The handlers of `SYNC_PATH` and what is below it."""

    def __init__(
        self,
        asker: ImageAsker,
        gate: TokenGate,
        on: Callable[[], bool],
        events: Events,
        *,
        alive: float = ALIVE,
        patience: float = PATIENCE,
        stall: float = STALL,
        followed: int = FOLLOWED,
    ) -> None:
        """Let clients ask while `on` says that somebody may; see `ALIVE`, `PATIENCE`, `STALL` and `FOLLOWED`."""
        self._asker, self._gate, self._on, self._events = asker, gate, on, events
        self._alive, self._stall = alive, stall
        self._bodies, self._streams = Bodies(patience), Slots(_ALL_FOLLOWED, followed, patience=0.0)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request for a path that `takes` accepts."""
        if not self._on():
            return problem(404, "nobody may ask for images here: there is no `asking:` in the configuration")
        token = await self._gate.token(request)
        if token is None or ASK not in token.scopes:
            return _forbidden(token)
        number = request.raw_path.partition("?")[0].removeprefix(SYNC_PATH).removeprefix("/")
        methods = ("GET", "HEAD") if number else ("POST",)
        if request.method not in methods:
            return problem(405, f"use {methods[0]}", {"Allow": ", ".join(methods)})
        try:
            return await (self._look(request, number, token) if number else self._ask(request, token))
        except MirrordError:
            return problem(503, _BROKEN, {"Retry-After": "10"})

    async def _ask(self, request: web.Request, token: ClientToken) -> web.StreamResponse:
        try:
            async with self._bodies.whole(request, LARGEST) as body:
                question = _question(body)
        except BodyError as error:
            status, reason = error.args
            answer = problem(status, f"{reason}; write {_EXAMPLE}")
            answer.force_close()  # the rest of the body may be anything
            return answer
        if isinstance(question, web.Response):
            return question
        who = (f"token {token.name}", _network(request.remote or ""))
        asked = await self._asker.ask(question.image, question.platforms, who)
        if asked.state is AskState.REFUSED:
            return _refused(asked)
        if "respond-async" in request.headers.get("Prefer", "").lower():
            return _whole(asked, 202)
        if asked.over:
            return _whole(asked, 200, EVENTS if _accepts(request, EVENTS) else LINES)
        return await self._follow(request, asked, EVENTS if _accepts(request, EVENTS) else LINES, token)

    async def _look(self, request: web.Request, number: str, token: ClientToken) -> web.StreamResponse:
        found = await self._asker.find(number)
        if found is None:
            return problem(404, "nothing of this id was asked for here, or too long ago")
        for kind in (EVENTS, LINES):
            if _accepts(request, kind) and request.method == "GET":
                return await self._follow(request, found, kind, token)
        return _whole(found, 200)

    async def _follow(
        self, request: web.Request, asked: AskedImage, kind: str, token: ClientToken
    ) -> web.StreamResponse:
        try:
            async with self._streams.slot(token.name):
                return await self._stream(request, asked.id, kind)
        except FullError:
            return _whole(asked, 202)

    async def _stream(self, request: web.Request, number: str, kind: str) -> web.StreamResponse:
        fields = {"Content-Type": kind, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        answer = web.StreamResponse(headers={**fields, "Location": f"{SYNC_PATH}/{number}"})
        pieces, broken = self._pieces(number, kind), partial(self._broken, request.raw_path)
        return await send_stream(request, answer, pieces, broken, self._stall, prompt=True)

    async def _pieces(self, number: str, kind: str) -> AsyncGenerator[bytes, None]:
        """Yield what is sent of one that is followed."""
        last = b""
        async with aclosing(_paced(self._asker.follow(number), self._alive)) as states:
            async for one in states:
                if one is not None:
                    last = _event(one) if kind == EVENTS else _line(one)
                yield last if one is not None or kind == LINES else b": still there\n\n"

    def _broken(self, path: str, error: Exception) -> None:
        """Report an answer that was ended before the image was."""
        self._events.emit(AnswerBroken(path, str(error) or type(error).__name__))


def takes(path: str) -> bool:
    """Whether a raw path, without query, is one of those."""
    return path == SYNC_PATH or path.startswith(f"{SYNC_PATH}/")


def _forbidden(token: ClientToken | None) -> web.Response:
    if token is None:
        fields = {"WWW-Authenticate": 'Bearer realm="mirrord"'}
        return problem(401, "send a token: `mirrord token add NAME --ask` makes one", fields)
    only = ", ".join(token.scopes)
    return problem(403, f"this token is for {only} only; `mirrord token add NAME --ask` makes one", reason="scope")


def _question(body: bytes) -> _Question | web.Response:
    """Read what a client asks for, or return what is wrong with it."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return problem(400, f"the body is not JSON; write {_EXAMPLE}")
    image = found.get("image") if isinstance(found, dict) else None
    platforms = found.get("platforms") if isinstance(found, dict) else None
    listed = [] if platforms is None else platforms
    if not isinstance(image, str) or not image.strip():
        return problem(400, f"image is missing, or no text; write {_EXAMPLE}")
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        return problem(400, f"platforms is no list of texts; write {_EXAMPLE}")
    if strange := sorted({*found} - {"image", "platforms"}):
        return problem(400, f"{strange[0][:60]!r} is an unknown key; write {_EXAMPLE}")
    return _Question(image, tuple(listed))


def _refused(asked: AskedImage) -> web.Response:
    reason = AskRefusal(asked.reason)
    fields = {"Retry-After": str(math.ceil(asked.after))} if asked.after else {}
    about = asked.text if asked.image in asked.text or not asked.image else f"{asked.image} {asked.text}"
    return problem(STATUS[reason], about, fields, reason=reason.value)


def _document(asked: AskedImage) -> dict[str, Any]:
    """Return what clients read of one; `after` is for refusals alone."""
    document: dict[str, Any] = adapter(AskedImage).dump_python(asked, mode="json", exclude={"after"})
    return document


def _line(asked: AskedImage) -> bytes:
    return json.dumps(_document(asked)).encode() + b"\n"


def _event(asked: AskedImage) -> bytes:
    return b"event: " + asked.state.encode() + b"\ndata: " + _line(asked) + b"\n"


def _whole(asked: AskedImage, status: int, kind: str = JSON) -> web.Response:
    fields = {"Content-Type": kind, "Cache-Control": "no-store", "Location": f"{SYNC_PATH}/{asked.id}"}
    return web.Response(status=status, body=_event(asked) if kind == EVENTS else _line(asked), headers=fields)


def _accepts(request: web.Request, kind: str) -> bool:
    return any(kind in field.lower() for field in request.headers.getall("Accept", ()))


def _network(address: str) -> str:
    """Return who has an address: of IPv6 everybody has a whole network."""
    found = address_in(address)
    return str(IPv6Network((found, 64), strict=False)) if isinstance(found, IPv6Address) else str(found or address)


async def _paced(states: AsyncIterator[AskedImage], alive: float) -> AsyncGenerator[AskedImage | None, None]:
    """Yield the states, and None after each time without one."""
    waiting = asyncio.ensure_future(anext(states, None))
    try:
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=alive)
            if not done:
                yield None
            elif (state := waiting.result()) is None:
                return
            else:
                yield state
                waiting = asyncio.ensure_future(anext(states, None))
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
