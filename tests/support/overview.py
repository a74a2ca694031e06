"""The page at `/` of a status, without a server."""

from __future__ import annotations

from mirrord.report.status import Status
from mirrord.serve.pages.frame import Look
from mirrord.serve.pages.listed import listed_of
from mirrord.serve.pages.overview import page
from mirrord.serve.pages.rows import Filter, MirrorRows


def overview(status: Status, rows: MirrorRows | None = None, language: str = "en", **chosen: str) -> str:
    """Return the page for a filter; `rows` are kept from the page before, if there is one."""
    listed = listed_of(status, rows or MirrorRows(language), language, None)
    return page(listed, Look(language), Filter(**chosen)).decode()
