"""The catalog over HTTP: what is mirrored where, as text, JSON and CSV, in pages.

It is made anew when a run has ended, and only when somebody asks; all clients share what was made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

from aiohttp import web

from mirrord.errors import MirrordError
from mirrord.model.catalog import CatalogEntry
from mirrord.report.catalog import FORMS
from mirrord.serve.pagegroup import Handler, PageGroup
from mirrord.serve.rendered import Body, Copies, Paced, tagged
from mirrord.wire.number import whole

PAGE: Final = 20_000
"""Entries of one page: some 6 MB of JSON."""
_TYPES: Final = {
    "txt": "text/plain; charset=utf-8",
    "json": "application/json; charset=utf-8",
    "csv": "text/csv; charset=utf-8; header=present",
}
_KEPT: Final = 4  # pages of one catalog
_LASTS: Final = 60.0  # seconds after which it is made anew, and takes no memory meanwhile


class _Catalog:
    """All entries at one time, and the pages that were asked for since."""

    def __init__(self, entries: Sequence[CatalogEntry]) -> None:
        self.entries = entries
        self.pages = Copies[tuple[str, int]](_KEPT)

    async def page(self, form: str, number: int) -> Body:
        """Return a page."""
        entries = self.entries[(number - 1) * PAGE : number * PAGE]
        return await self.pages.get((form, number), lambda: tagged(FORMS[form](entries).encode()))


class CatalogPages(PageGroup):
    """Answers `/api/v1/catalog.{txt,json,csv}?page=N`."""

    def __init__(self, read: Callable[[], Awaitable[Sequence[CatalogEntry]]], edition: Callable[[], int]) -> None:
        """Begin with nothing; `read` returns all entries, `edition` grows when they may have changed."""

        async def made() -> _Catalog:
            return _Catalog(await read())

        self._catalog = Paced(made, edition, lasts=_LASTS)

    def pages(self) -> Mapping[str, Handler]:
        """Return the handlers of GET and HEAD by raw path."""
        return {f"/api/v1/catalog.{form}": partial(self._answer, form) for form in FORMS}

    async def _answer(self, form: str, request: web.Request) -> web.StreamResponse:
        number = whole(request.query.get("page", "1"), 6)
        if not number:
            return web.Response(status=400, text="page is a number from 1\n")
        try:
            catalog = await self._catalog.current()
        except MirrordError:
            return web.Response(status=503, headers={"Retry-After": "10"}, text="the record cannot be read\n")
        fields = {"Content-Type": _TYPES[form]}
        if number * PAGE < len(catalog.entries):
            fields["Link"] = f'<{request.rel_url.path}?page={number + 1}>; rel="next"'
        return await (await catalog.page(form, number)).answer(request, fields)

    async def close(self, _: web.Application) -> None:
        """Stop reading."""
        await self._catalog.close()
