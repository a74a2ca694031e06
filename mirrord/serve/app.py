"""The application with all routes. Other paths go to the front, and unknown ones get 404."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote, unquote_to_bytes

from aiohttp import web

from mirrord.serve.api import ApiPages
from mirrord.serve.asking import AskPages, takes
from mirrord.serve.badges import Badges
from mirrord.serve.bodies import Bodies
from mirrord.serve.catalog import CatalogPages
from mirrord.serve.door import signed
from mirrord.serve.front import Front, oci_error
from mirrord.serve.gate import GRANTS, TokenGate, unauthorized
from mirrord.serve.hooks import HOOKS, IssueHooks
from mirrord.serve.incoming import origin_of, seen_through
from mirrord.serve.pagegroup import Handler, PageGroup
from mirrord.serve.pages.clients import ClientPages
from mirrord.serve.pages.front import FrontPages
from mirrord.serve.pages.mirror import MirrorPages
from mirrord.serve.pages.overview import OverviewPages
from mirrord.serve.pages.static import StaticFiles
from mirrord.serve.problem import API, problem
from mirrord.serve.programs import Programs
from mirrord.serve.status import StatusPages, View
from mirrord.serve.sync_log import SyncLogs

LONGEST = 4096
"""Characters of a path; the longest valid one, a 255-character name and a sha512 digest, has about 400."""
_SEGMENTS = 64
_PLAIN = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._:+~@-]*)+/?")
"""Matches nearly all requests: nothing to decode, and no segment that begins with a dot."""
_PLAIN_LONGEST = 2 * _SEGMENTS  # characters; a shorter path cannot exceed the segments
_FORBIDDEN = re.compile(rb"[\x00-\x1f\x7f\\]")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def page_groups(view: View) -> Sequence[PageGroup]:
    """Return the groups of pages."""
    catalog = CatalogPages(view.catalog, view.edition)
    pages = OverviewPages(view), MirrorPages(view), FrontPages(view), ClientPages(view)
    lists = Badges(view), SyncLogs(view), ApiPages(view)
    return StatusPages(view), *pages, catalog, *lists, StaticFiles()


def make_app(
    view: View,
    programs: Programs | None = None,
    bodies: Bodies | None = None,
    *,
    gate: TokenGate | None = None,
    hooks: IssueHooks | None = None,
    asking: AskPages | None = None,
) -> web.Application:
    """Build the application for the public address; `programs` and `bodies` are those of the fronts.

    `gate` knows the clients of registries, and refuses those that need a token; `hooks` answers the forges, and of
    `asking` clients ask for images.
    """
    groups = page_groups(view)
    pages = {path: page for group in groups for path, page in group.pages().items()}
    below = {path: page for group in groups for path, page in group.below().items()}
    front = Front(view.fronts, view.services, programs, bodies)

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        received, request = request, seen_through(request, view.proxies())
        path = raw_path(request)
        refused = refusal(path)
        if refused is not None:
            return _refused(path, *refused)
        if hooks is not None and path.startswith(HOOKS):
            return await hooks.answer(request, path)
        token = None
        if gate is not None and (path == "/v2" or path.startswith("/v2/")):
            if path == GRANTS:
                return await gate.grant(request)
            token = await gate.holder(request)
            if not gate.admits(token):
                return unauthorized(path, origin_of(received, view.proxies()))
        plain = unquote(path) if "%" in path else path
        asks = asking if asking is not None and takes(path) else None
        page = None if asks else pages.get(plain) or below.get(plain[: plain.find("/", 1) + 1])
        found = await asks.answer(request) if asks else None if page else await front.answer(request, path, token)
        if found is None and request.method not in ("GET", "HEAD"):
            found = _error(path, 405, "read-only; use GET or HEAD")
            found.headers["Allow"] = "GET, HEAD"
        return await (page or handler)(request) if found is None else found

    app = web.Application(middlewares=[answer], client_max_size=64 * 1024)
    app.on_response_prepare.append(signed)
    app.on_shutdown.extend(group.stop for group in groups)
    app.on_cleanup.extend((*(group.close for group in groups), front.close))
    app.router.add_route("*", "/{rest:.*}", _nothing)
    return app


async def _nothing(_: web.Request) -> web.StreamResponse:
    return web.Response(status=404, text="no such page\n")


def raw_path(request: web.BaseRequest) -> str:
    """Return the path exactly as the client sent it."""
    return request.raw_path.partition("?")[0]


def _error(path: str, status: int, reason: str) -> web.Response:
    return problem(status, reason) if path.startswith(API) else web.Response(status=status, text=f"{reason}\n")


def _refused(path: str, status: int, reason: str) -> web.Response:
    """Reject an invalid target before any use: in the format of a registry, of the API, or as plain text."""
    answer = _error(path, status, reason)
    if path.startswith("/v2"):
        answer = web.Response(status=status, body=oci_error("NAME_INVALID", reason), content_type="application/json")
    answer.force_close()
    return answer


def refusal(path: str) -> tuple[int, str] | None:
    """Return the status and reason to reject a raw path (without query), or None if it is valid.

    It is checked before anything is decoded or joined. A path that could leave a folder, name another host or hide
    a character is rejected, whatever the syncer would do with it (bad inputs 21, 22 and 32).
    """
    if len(path) > LONGEST:
        return 414, f"path is longer than {LONGEST} characters"
    if len(path) <= _PLAIN_LONGEST and _PLAIN.fullmatch(path):
        return None
    plain = unquote_to_bytes(path)
    segments = plain.split(b"/")[1:]
    rules = (
        (path.startswith("/"), "request target must be a path"),
        (not _BROKEN_ESCAPE.search(path), "path holds a broken escape"),
        ("%2f" not in path.lower(), "path holds an escaped slash"),
        (not _FORBIDDEN.search(plain), "path holds a control character or a backslash"),
        (b"" not in segments[:-1], "path holds an empty segment"),
        (b"." not in segments and b".." not in segments, "path holds a dot segment"),
        (len(segments) <= _SEGMENTS, f"path has more than {_SEGMENTS} segments"),
    )
    return next(((400, reason) for good, reason in rules if not good), None)
