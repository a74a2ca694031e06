"""The page for users of the registry front, `/front/clients`: the files with which their clients ask it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from aiohttp import web

from mirrord.errors import UsageError
from mirrord.names.book import begins_path
from mirrord.pointing.client.clients import CLIENTS
from mirrord.pointing.client.mirror import ClientMirror, ClientSetup
from mirrord.report.front import in_use
from mirrord.report.status import Status
from mirrord.serve.pagegroup import Handler, PageGroup
from mirrord.serve.pages.frame import HEADERS, Frame, Look
from mirrord.serve.pages.templates import render
from mirrord.serve.rendered import Body, Copies, Paced
from mirrord.serve.status import View

PATH: Final = "/front/clients"
_EVERY: Final = 10.0  # seconds between two looks at the allow list, whatever readers ask for


class ClientPages(PageGroup):
    """Answers `/front/clients`."""

    def __init__(self, view: View) -> None:
        """Render nothing yet."""
        self._view = view
        self._shown = Paced(self._read, view.edition, _EVERY)

    def pages(self) -> Mapping[str, Handler]:
        """Return the handler."""
        return {PATH: self._answer}

    async def close(self, _: web.Application) -> None:
        """Stop reading."""
        await self._shown.close()

    async def _read(self) -> tuple[Status, ClientMirror | None, Copies[Look]]:
        return await self._view.status(), await self._view.pointed(), Copies()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        look, (status, mirror, copies) = Look.of(request), await self._shown.current()
        body = await copies.get(look, lambda: Body(page(status, mirror, look).encode()))
        answer = await body.answer(request, HEADERS)
        look.remember(request, answer)
        return answer


def page(status: Status, mirror: ClientMirror | None, look: Look) -> str:
    """Render the page for a reader."""
    frame = Frame(look, status.now, status.version, PATH, front=in_use(status.front), about=status.about)
    mirror = mirror and public(mirror)
    return render("clients.html", frame=frame, mirror=mirror, setups=setups(mirror) if mirror else {})


def public(mirror: ClientMirror) -> ClientMirror:
    """Return the mirror with the registries that strangers may know: a port is the sign of one that an alias hides."""
    known = tuple(one for one in mirror.registries if one.place and begins_path(one.registry))
    return replace(mirror, registries=known)


def setups(mirror: ClientMirror) -> Mapping[str, ClientSetup]:
    """Return what each client needs that can use the mirror, the usual ones first."""
    found: dict[str, ClientSetup] = {}
    for name in dict.fromkeys(("docker", "containerd", "podman", *CLIENTS)):
        try:
            found[name] = CLIENTS[name].setup(mirror, None)
        except UsageError:
            continue  # it uses other registries than those
    return found if mirror.registries else {}
