"""Brings LFS objects from a server into a cache, and from a cache to a server (git-lfs, docs/api/basic-transfers.md).

Each object on its own: a failure is reported for that one. What may pass is tried again from a new answer of the
server, since addresses in an answer last for minutes; a server that nothing is to be had from is not asked on and on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Final, TypeVar

from mirrord.errors import (
    ContentError,
    DeniedError,
    DigestError,
    MirrordError,
    MissingError,
    RefusedError,
    TransportError,
    UntrustedError,
)
from mirrord.wire.git.lfs.objects import Part, Pointer, ordered, pieces, size_of
from mirrord.wire.git.lfs.server import MEDIA, MOST, LfsAction, LfsAnswer, LfsServer
from mirrord.wire.http.message import MIB, HttpRequest, Upload
from mirrord.wire.http.resume import from_offset
from mirrord.wire.origin import check_url

Tell = Callable[[int], None]
"""Hears of bytes that came or went."""

AT_ONCE: Final = 4  # objects under way from or to one server
SIZES: Final = 4  # that pointers may tell of one object, the largest first: its id says which is right
ROUNDS: Final = 3  # answers of the server for an object that does not come
TRIES: Final = 4  # reads of an object that break without bringing PROGRESS bytes
PROGRESS: Final = MIB
HOPELESS: Final = 8  # objects in a row that the line or the host did not let through, after which no more are tried
_DONE: Final = (200, 201, 202, 203, 204)

_Result = TypeVar("_Result")

Errors = dict[str, MirrordError]
"""What went wrong, by the ids of objects."""


async def download(server: LfsServer, cache: Path, pointers: Collection[Pointer], tell: Tell) -> Errors:
    """Bring objects into a cache; return what went wrong, by id."""

    async def one(pointer: Pointer, answer: LfsAnswer) -> None:
        action = answer.actions.get("download")
        if action is None:
            raise ContentError(f"{server.address.host}: the LFS server gives no address for an object")
        await _bring(server, cache, pointer, action, tell)

    return await _Transfers(server, "download", one, (DeniedError, DigestError)).all(pointers)


async def upload(server: LfsServer, cache: Path, pointers: Collection[Pointer], tell: Tell) -> Errors:
    """Bring objects from a cache to a server, unless it has them; return what went wrong, by id."""

    async def one(pointer: Pointer, answer: LfsAnswer) -> None:
        action, verify = answer.actions.get("upload"), answer.actions.get("verify")
        if action is None:
            return  # it has the object
        await _send(server, cache, pointer, action, tell)
        if verify is not None:
            body = f'{{"oid":"{pointer.oid}","size":{pointer.size}}}'.encode()
            await _fetch(server, verify, HttpRequest("POST", verify.url, server.address.host, body=body), MEDIA)

    sized = await asyncio.to_thread(_as_here, cache, pointers)
    return await _Transfers(server, "upload", one, (DeniedError,)).all(sized)


def _as_here(cache: Path, pointers: Collection[Pointer]) -> Collection[Pointer]:
    """Return pointers with the sizes that their objects have here, whatever they tell."""
    found = ((pointer, size_of(cache, pointer.oid)) for pointer in pointers)
    return [pointer if size is None else replace(pointer, size=size) for pointer, size in found]


@dataclass(slots=True)
class _Transfers:
    """Many objects on their way from or to one server."""

    server: LfsServer  # whom to ask
    operation: str  # as the API calls it
    one: Callable[[Pointer, LfsAnswer], Awaitable[None]]  # carries one object
    # what may be over with a new answer of the server, besides what may be tried again anyway
    passing: tuple[type[MirrordError], ...]
    errors: Errors = field(default_factory=dict)  # what went wrong, by id
    again: list[Pointer] = field(default_factory=list)  # what is tried once more
    hopeless: int = 0  # objects in a row that the line or the host did not let through
    end: MirrordError | None = None  # why no more are tried

    async def all(self, pointers: Collection[Pointer]) -> Errors:
        """Carry them; each object once, however many pointers to it there are, unless they differ in its size."""
        sizes: dict[str, dict[int, Pointer]] = {}
        for pointer in sorted(ordered(pointers), key=attrgetter("size"), reverse=True):
            sizes.setdefault(pointer.oid, {})[pointer.size] = pointer
        ranked = [tuple(one.values())[:SIZES] for _, one in sorted(sizes.items())]
        for turn in range(max(map(len, ranked), default=0)):
            left = [one[turn] for one in ranked if turn < len(one)]
            left = [one for one in left if not turn or one.oid in self.errors]
            for _ in range(ROUNDS):
                self.again = []
                for start in range(0, len(left), MOST):
                    await self._batch(left[start : start + MOST])
                left = self.again
                if not left or self.end:
                    break
        return self.errors

    async def _batch(self, pointers: Sequence[Pointer]) -> None:
        answers: Mapping[str, LfsAnswer] = {}
        try:
            if self.end is None:
                answers = await self.server.batch(self.operation, pointers)
        except MirrordError as error:  # of the server as a whole
            self.end = error
        turns = iter(pointers)

        async def work() -> None:
            for pointer in turns:
                if self.end is None:
                    await self._turn(pointer, answers.get(pointer.oid))
                else:
                    self.errors[pointer.oid] = self.end

        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(pointers))):
                group.create_task(work())

    async def _turn(self, pointer: Pointer, answer: LfsAnswer | None) -> None:
        self.errors.pop(pointer.oid, None)
        if answer is None:
            text = f"{self.server.address.host}: the LFS server did not answer for an object that it was asked for"
            answer = LfsAnswer(error=ContentError(text))
        try:
            if answer.error is not None:
                raise answer.error
            await self.one(pointer, answer)
        except MirrordError as error:
            self.errors[pointer.oid] = error
            if error.retry or (answer.error is None and isinstance(error, self.passing)):
                self.again.append(pointer)
            self.hopeless = self.hopeless + 1 if isinstance(error, TransportError) else 0
            self.end = error if self.hopeless >= HOPELESS else None
        else:
            self.hopeless = 0


class _Turns:
    """Work on one file in threads, one piece of work after the other: a thread goes on when its waiter is cancelled."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def take(self, work: Callable[[], _Result]) -> _Result:
        """Return what `work` returns."""
        return await asyncio.to_thread(self._alone, work)

    def last(self, close: Callable[[], None]) -> None:
        """Close the file as soon as nobody works on it; this waits for nothing, and cannot be cancelled."""
        asyncio.get_running_loop().run_in_executor(None, self._alone, close)

    def _alone(self, work: Callable[[], _Result]) -> _Result:
        with self._lock:
            return work()


async def _bring(server: LfsServer, cache: Path, pointer: Pointer, action: LfsAction, tell: Tell) -> None:
    """Download one object, going on where it broke."""
    call = HttpRequest("GET", action.url, server.address.host, issued=action.headers)
    part, turns, tries = Part(cache, pointer), _Turns(), 0
    try:
        await turns.take(part.open)
        while part.size < pointer.size:
            before = part.size
            try:
                await _stream(server, call, part, turns, tell)
                break
            except TransportError as error:
                tries = 1 if part.size - before >= PROGRESS else tries + 1
                if not error.retry or part.size == before or tries >= TRIES:
                    raise
        await turns.take(part.finish)
    finally:
        turns.last(part.close)


async def _stream(server: LfsServer, call: HttpRequest, part: Part, turns: _Turns, tell: Tell) -> None:
    """Add to a part what comes, in pieces that are worth a thread."""
    kept = bytearray()

    async def keep() -> None:
        piece = bytes(kept)
        kept.clear()
        await turns.take(partial(part.add, piece))
        tell(len(piece))

    try:
        async with from_offset(server.http, call, part.size) as (_, chunks):
            try:
                async for chunk in chunks:
                    kept += chunk
                    if len(kept) >= MIB:
                        await keep()
            finally:
                await keep()
    except (RefusedError, UntrustedError) as error:
        if isinstance(error, RefusedError) and error.status == 416 and part.size:
            await turns.take(part.drop)  # what was kept is no part of what is there
            raise DigestError(f"{server.address.host}: an LFS object is shorter than what was kept of it") from error
        raise _explained(server, call, error) from error


async def _send(server: LfsServer, cache: Path, pointer: Pointer, action: LfsAction, tell: Tell) -> None:
    if await asyncio.to_thread(size_of, cache, pointer.oid) != pointer.size:
        raise MissingError(f"the LFS object {pointer.oid[:12]} is not here")

    async def content() -> AsyncIterator[bytes]:
        held, turns = pieces(cache, pointer), _Turns()
        try:
            while piece := await turns.take(partial(next, held, b"")):
                yield piece
                tell(len(piece))
        finally:
            turns.last(held.close)

    call = HttpRequest("PUT", action.url, server.address.host, body=Upload(pointer.size, content))
    await _fetch(server, action, call, "application/octet-stream")


async def _fetch(server: LfsServer, action: LfsAction, call: HttpRequest, media: str) -> None:
    """Do what an action says, with its headers, and in the media type of the API unless they say another."""
    says = any(name.lower() == "content-type" for name in action.headers)
    headers = {} if says else {"Content-Type": media}
    try:
        await server.http.fetch(replace(call, headers=headers, issued=action.headers, ok=_DONE, cap=MIB))
    except (RefusedError, UntrustedError) as error:
        raise _explained(server, call, error) from error


def _explained(server: LfsServer, call: HttpRequest, error: RefusedError | UntrustedError) -> MirrordError:
    """Say of a refusal whose it is: addresses of objects are often another host's, for which we have no credential."""
    if isinstance(error, UntrustedError):
        return server.elsewhere(error)
    status, _, words = str(error).partition(": status ")[2].partition(": ")
    said = f": {words}" if words and not isinstance(error, DeniedError) else ""
    who = check_url(call.url).authority
    of = "" if who == server.address.host else f", which {server.address.host} names for it,"
    verb = {"GET": "give", "PUT": "take"}.get(call.method, "verify")
    return type(error)(f"{who}{of} does not {verb} an LFS object: status {status[:3]}{said}", error.status)
