"""`/api/v1/`: mirrors, and what the record has of each, as JSON in parts; read-only.

What many clients ask for is made at most once a second, and its tag is made of its bytes: who has it already gets 304.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from urllib.parse import quote, unquote

from aiohttp import web

from mirrord.errors import MirrordError
from mirrord.report.openapi import OPENAPI_PATH
from mirrord.report.rows import LISTS, MOST, NUMBERED, RowsAsked, rows_document
from mirrord.report.schemas import STATUS_PATH, status_schema
from mirrord.serve.description import description
from mirrord.serve.pagegroup import Handler, PageGroup
from mirrord.serve.problem import API, problem
from mirrord.serve.rendered import Body, Fragments, Paced, tagged
from mirrord.serve.status import View, line_of
from mirrord.wire.number import whole

USUAL: Final = 100
"""Rows of a part, unless a request says how many."""
_MIRRORS: Final = "/api/v1/mirrors"
_FIELDS: Final = {"Content-Type": "application/json; charset=utf-8"}
_KEPT: Final = 32  # parts that are kept for a second, and until they are asked for again
_KEPT_MIRRORS: Final = 8  # parts of the list of mirrors, likewise
_AT_ONCE: Final = 4  # parts that are read at the same time


@dataclass(frozen=True, slots=True)
class _Mirrors:
    """The document of each mirror by its name, in the order of names, and the first parts that were asked for."""

    lines: Mapping[str, bytes]
    parts: dict[tuple[int, str], tuple[Body, str]] = field(default_factory=dict)

    def part(self, limit: int, after: str) -> tuple[Body, str]:
        """Return a part of the list, and the name after which the next one begins."""
        made = self.parts.get((limit, after))
        if made is None:
            found = [name for name in self.lines if name > after]
            body = b'{"mirrors": [\n%s\n]}\n' % b",\n".join(self.lines[name] for name in found[:limit])
            made = tagged(body), found[limit - 1] if len(found) > limit else ""
            if len(self.parts) < _KEPT_MIRRORS:
                self.parts[limit, after] = made
        return made


class ApiPages(PageGroup):
    """The handlers of the API."""

    def __init__(self, view: View) -> None:
        """Begin with nothing made."""
        self._view = view
        self._lines = Fragments(line_of)
        self._mirrors = Paced(self._written_mirrors, view.edition)
        self._parts: OrderedDict[RowsAsked, Paced[tuple[Body, str]]] = OrderedDict()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._made: dict[str, Body] = {}

    def pages(self) -> Mapping[str, Handler]:
        """See `PageGroup.pages`."""
        made = {STATUS_PATH: status_schema, OPENAPI_PATH: description}
        described = {path: partial(self._described, path, make) for path, make in made.items()}
        return {_MIRRORS: self._list, **described}

    def below(self) -> Mapping[str, Handler]:
        """See `PageGroup.below`."""
        return {API: self._answer}

    async def close(self, _: web.Application) -> None:
        """See `PageGroup.close`."""
        await self._mirrors.close()
        for part in self._parts.values():
            await part.close()

    async def _described(self, path: str, make: Callable[[], object], request: web.Request) -> web.StreamResponse:
        """Send what describes this API; it is made once, when somebody asks for it."""
        if path not in self._made:
            self._made[path] = tagged(await asyncio.to_thread(_pretty, make))
        return await self._made[path].answer(request, _FIELDS)

    async def _written_mirrors(self) -> _Mirrors:
        status = await self._view.status()
        lines = await asyncio.to_thread(self._lines.of, status.mirrors)
        return _Mirrors(dict(sorted(zip((mirror.name for mirror in status.mirrors), lines, strict=True))))

    async def _list(self, request: web.Request) -> web.StreamResponse:
        asked = _asked(request, "", "mirrors")
        if isinstance(asked, str):
            return problem(400, asked)
        body, after = (await self._mirrors.current()).part(asked.limit, asked.after)
        return await _sent(request, body, asked, after)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if not path.startswith(f"{_MIRRORS}/"):
            return problem(404, f"no such path; {OPENAPI_PATH} has them all")
        name, slash, what = unquote(path.removeprefix(f"{_MIRRORS}/")).partition("/")
        line = (await self._mirrors.current()).lines.get(name)
        if line is None:
            return problem(404, f"no mirror is called so; {_MIRRORS} lists them")
        if not slash:
            return await tagged(line + b"\n").answer(request, _FIELDS)
        if what not in LISTS:
            return problem(404, f"no such list; there are {', '.join(LISTS)}")
        return await self._rows(request, name, what)

    async def _rows(self, request: web.Request, name: str, what: str) -> web.StreamResponse:
        asked = _asked(request, name, what)
        if isinstance(asked, str):
            return problem(400, asked)
        try:
            body, after = await self._part(asked).current()
        except MirrordError:
            return problem(503, "the record cannot be read; /readyz?verbose says why", {"Retry-After": "10"})
        return await _sent(request, body, asked, after)

    def _part(self, asked: RowsAsked) -> Paced[tuple[Body, str]]:
        found = self._parts.get(asked)
        if found is None:
            found = self._parts[asked] = Paced(partial(self._read, asked), self._view.edition)
        self._parts.move_to_end(asked)
        if len(self._parts) > _KEPT:
            self._parts.popitem(last=False)  # whoever waits for it still gets it
        return found

    async def _read(self, asked: RowsAsked) -> tuple[Body, str]:
        async with self._turns:
            found = await self._view.rows(asked)
            return tagged(await asyncio.to_thread(rows_document, asked.what, found.rows)), found.next


def _asked(request: web.Request, mirror: str, what: str) -> RowsAsked | str:
    """Return what a request asks for, or what is wrong with it."""
    limit, after = whole(request.query.get("limit", str(USUAL)), 6), request.query.get("after", "")
    if not limit or limit > MOST:
        return f"limit is a number from 1 to {MOST}"
    if what in NUMBERED and after and whole(after, 18) is None:
        return "after is the id of a row; follow the Link field of an answer"
    name = request.query.get("name", "") if what == "ledger" else ""
    if not (after + name).isprintable():
        return "after or name has a character that no name has; follow the Link field of an answer"
    return RowsAsked(mirror, what, limit, after, name)


async def _sent(request: web.Request, body: Body, asked: RowsAsked, after: str) -> web.StreamResponse:
    """Send a part; `Link` leads to the next one."""
    path = request.raw_path.partition("?")[0]
    query = f"limit={asked.limit}&after={quote(after, safe='')}"
    query += f"&name={quote(asked.name, safe='')}" if asked.name else ""
    return await body.answer(request, {**_FIELDS, **({"Link": f'<{path}?{query}>; rel="next"'} if after else {})})


def _pretty(make: Callable[[], object]) -> bytes:
    return json.dumps(make(), indent=2).encode() + b"\n"
