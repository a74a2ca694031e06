"""Badges over HTTP: `/badge/MIRROR.svg`, `/badge.svg` for all, and `.json` for shields.io.

Proxies for pictures, such as GitHub's, ask again by ETag after `max-age`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from typing import Final

from aiohttp import web

from mirrord.report.badge import SECONDS, Badge, badge_of, overall, shield, svg
from mirrord.report.status import MirrorStatus, Status
from mirrord.report.words import negotiated, words
from mirrord.serve.negotiation import unchanged
from mirrord.serve.pagegroup import Handler, PageGroup
from mirrord.serve.status import View

_PREFIX: Final = "/badge/"
_EVERY: Final = 1.0  # seconds between two looks at the status, however many ask


def _endpoint(badge: Badge) -> bytes:
    return f"{json.dumps(shield(badge), ensure_ascii=False)}\n".encode()


_FORMS: Final[Mapping[str, tuple[str, Callable[[Badge], bytes]]]] = {
    "svg": ("image/svg+xml; charset=utf-8", svg),
    "json": ("application/json; charset=utf-8", _endpoint),
}


class Badges(PageGroup):
    """The handlers of badges."""

    def __init__(self, view: View) -> None:
        """Show what `view` has."""
        self._view = view
        self._looked = 0.0
        self._status: Status | None = None
        self._mirrors: Mapping[str, MirrorStatus] = {}
        self._looking = asyncio.Lock()

    def pages(self) -> Mapping[str, Handler]:
        """Return the handlers of the badge of all mirrors."""
        return {f"/badge.{form}": partial(self._answer, "", form) for form in _FORMS}

    def below(self) -> Mapping[str, Handler]:
        """Return the handler of the badges of mirrors."""
        return {_PREFIX: self._of_mirror}

    async def _of_mirror(self, request: web.Request) -> web.StreamResponse:
        name, _, form = request.path.removeprefix(_PREFIX).rpartition(".")
        if name and form in _FORMS:
            return await self._answer(name, form, request)
        return web.Response(status=404, text="a badge is called /badge/MIRROR.svg or /badge/MIRROR.json\n")

    async def _answer(self, name: str, form: str, request: web.Request) -> web.StreamResponse:
        status = await self._present()
        said = words(negotiated("", request.query.get("lang", "")))
        mirror = self._mirrors.get(name)
        if name and mirror is None:
            return web.Response(status=404, text="there is no such mirror\n")
        badge = badge_of(mirror, said) if mirror else overall(status, said)
        kind, write = _FORMS[form]
        body = write(badge)
        headers = {
            "Content-Type": kind,
            "Cache-Control": f"max-age={SECONDS}, s-maxage={SECONDS}",
            "ETag": f'"{sha256(body).hexdigest()[:24]}"',
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'",
        }
        if unchanged(request.headers.get("If-None-Match"), headers["ETag"]):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, headers=headers)

    async def _present(self) -> Status:
        """Return the status, which is at most a second old."""
        async with self._looking:
            now, status = asyncio.get_running_loop().time(), self._status
            if status is None or now - self._looked >= _EVERY:
                self._looked, self._status = now, (status := await self._view.status())
                self._mirrors = {mirror.name: mirror for mirror in status.mirrors}
            return status
