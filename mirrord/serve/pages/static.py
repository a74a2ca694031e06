"""The style sheet, script and pictures of the pages. A path has the hash of the content, so that it never changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from aiohttp import web

from mirrord.serve.pagegroup import Handler, PageGroup
from mirrord.serve.rendered import Body

PREFIX: Final = "/static/"
FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_YEAR: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file: its path on the server, its tag, its bytes, its headers."""

    path: str
    etag: str
    body: bytes
    headers: Mapping[str, str]


@cache
def static_files() -> Mapping[str, StaticFile]:
    """Return all files by name; they are read once."""
    return {file.name: _file(file.name, file.read_bytes()) for file in sorted(FOLDER.iterdir())}


def _file(name: str, body: bytes) -> StaticFile:
    mark = sha256(body).hexdigest()[:16]
    fields = {
        "Content-Type": _TYPES[Path(name).suffix],
        "Cache-Control": _YEAR,
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",  # of a picture that is opened
    }
    return StaticFile(f"{PREFIX}{mark}/{name}", f'"{mark}"', body, fields)


def asset(name: str) -> str:
    """Return the path of a file, for a template."""
    return static_files()[name].path


class StaticFiles(PageGroup):
    """Answers `/static/HASH/NAME`."""

    def __init__(self) -> None:
        """Read the files."""
        self._files = {file.path: (Body(file.body, file.etag), file.headers) for file in static_files().values()}

    def below(self) -> Mapping[str, Handler]:
        """Return the handler of all files."""
        return {PREFIX: self._answer}

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        found = self._files.get(request.path)
        if found is None:
            return web.Response(status=404, text="no such page\n")
        body, fields = found
        return await body.answer(request, fields)
