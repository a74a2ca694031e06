"""Badges over HTTP: `/badge/MIRROR.svg`, `/badge.svg` for all, and `.json` for shields.io.

Proxies for pictures, such as GitHub's, ask again by ETag after `max-age`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from aiohttp import web

from mirrord.report.badge import SECONDS, Badge, badge_of, deep_badge, overall, shield, svg
from mirrord.report.words import negotiated, words
from mirrord.serve.pagegroup import Handler, PageGroup
from mirrord.serve.rendered import Paced, tagged
from mirrord.serve.status import View

_PREFIX: Final = "/badge/"
_DEEP: Final = "/deep"  # after the name of a mirror: what its last verification found


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
        self._status = Paced(view.status, view.edition)

    def pages(self) -> Mapping[str, Handler]:
        """Return the handlers of the badge of all mirrors."""
        return {f"/badge.{form}": partial(self._answer, "", form) for form in _FORMS}

    def below(self) -> Mapping[str, Handler]:
        """Return the handler of the badges of mirrors."""
        return {_PREFIX: self._of_mirror}

    async def close(self, _: web.Application) -> None:
        """Stop looking at the status."""
        await self._status.close()

    async def _of_mirror(self, request: web.Request) -> web.StreamResponse:
        name, _, form = request.path.removeprefix(_PREFIX).rpartition(".")
        if name and form in _FORMS:
            return await self._answer(name, form, request)
        return web.Response(status=404, text="a badge is called /badge/MIRROR.svg or /badge/MIRROR.json\n")

    async def _answer(self, name: str, form: str, request: web.Request) -> web.StreamResponse:
        status = await self._status.current()
        said = words(negotiated("", request.query.get("lang", "")))
        wanted, deep = name.removesuffix(_DEEP), name.endswith(_DEEP)
        mirror = next((one for one in status.mirrors if one.name == wanted), None)
        if name and mirror is None:
            return web.Response(status=404, text="there is no such mirror\n")
        badge = (deep_badge if deep else badge_of)(mirror, said) if mirror else overall(status, said)
        kind, write = _FORMS[form]
        fields = {"Content-Type": kind, "Cache-Control": f"max-age={SECONDS}, s-maxage={SECONDS}"}
        return await tagged(write(badge)).answer(request, fields)
