"""The catalog over HTTP: what is mirrored where, as text, JSON and CSV, in pages.

It is made anew when a run has ended, and only when somebody asks; all clients share what was made.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Final

from aiohttp import web

from mirrord.errors import MirrordError
from mirrord.model.catalog import CatalogEntry
from mirrord.report.catalog import FORMS
from mirrord.serve.negotiation import packed, unchanged, wants_gzip, with_vary
from mirrord.serve.pagegroup import Handler, PageGroup
from mirrord.wire.number import whole

PAGE: Final = 20_000
"""Entries of one page: some 6 MB of JSON."""
_TYPES: Final = {
    "txt": "text/plain; charset=utf-8",
    "json": "application/json; charset=utf-8",
    "csv": "text/csv; charset=utf-8; header=present",
}
_KEPT: Final = 4  # pages of one catalog
_FORGOTTEN: Final = 60.0  # seconds after which it is made anew, and takes no memory meanwhile


@dataclass(slots=True)
class _Page:
    body: bytes
    gzipped: bytes
    etag: str


@dataclass(slots=True)
class _Catalog:
    """All entries at one time, and the pages that were asked for since."""

    edition: int
    entries: Sequence[CatalogEntry]
    pages: dict[tuple[str, int], _Page] = field(default_factory=dict)


class CatalogPages(PageGroup):
    """Answers `/api/v1/catalog.{txt,json,csv}?page=N`."""

    def __init__(self, read: Callable[[], Awaitable[Sequence[CatalogEntry]]], edition: Callable[[], int]) -> None:
        """Begin with nothing; `read` returns all entries, `edition` grows when they may have changed."""
        self._read, self._edition = read, edition
        self._made: _Catalog | None = None
        self._making = asyncio.Lock()

    def pages(self) -> Mapping[str, Handler]:
        """Return the handlers of GET and HEAD by raw path."""
        return {f"/api/v1/catalog.{form}": partial(self._answer, form) for form in FORMS}

    async def _answer(self, form: str, request: web.Request) -> web.StreamResponse:
        number = whole(request.query.get("page", "1"), 6)
        if not number:
            return web.Response(status=400, text="page is a number from 1\n")
        try:
            count, page = await self._page(form, number)
        except MirrordError:
            return web.Response(status=503, headers={"Retry-After": "10"}, text="the record cannot be read\n")
        fields = {"Content-Type": _TYPES[form], "Cache-Control": "no-cache", "ETag": page.etag}
        headers = with_vary(fields, "Accept-Encoding")
        if number * PAGE < count:
            headers["Link"] = f'<{request.rel_url.path}?page={number + 1}>; rel="next"'
        small = wants_gzip(request.headers.get("Accept-Encoding"))
        headers = packed(headers) if small else headers
        if unchanged(request.headers.get("If-None-Match"), headers["ETag"]):
            return web.Response(status=304, headers=headers)
        return web.Response(body=page.gzipped if small else page.body, headers=headers)

    async def _page(self, form: str, number: int) -> tuple[int, _Page]:
        """Return the number of all entries, and a page."""
        async with self._making:
            made, edition = self._made, self._edition()
            if made is None or made.edition != edition:
                made = self._made = _Catalog(edition, await self._read())
                asyncio.get_running_loop().call_later(_FORGOTTEN, self._forget, made)
            page = made.pages.get((form, number))
            if page is None:
                entries = made.entries[(number - 1) * PAGE : number * PAGE]
                page = await asyncio.to_thread(_written, entries, form)
                if len(made.pages) >= _KEPT:
                    made.pages.clear()
                made.pages[form, number] = page
            return len(made.entries), page

    def _forget(self, made: _Catalog) -> None:
        if self._made is made:
            self._made = None


def _written(entries: Sequence[CatalogEntry], form: str) -> _Page:
    body = FORMS[form](entries).encode()
    return _Page(body, gzip.compress(body, 1, mtime=0), f'"{sha256(body).hexdigest()[:24]}"')
