"""The style sheet, script and pictures of the pages. A path has the hash of the content, so that it never changes."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from aiohttp import web

from mirrord.serve.negotiation import packed, unchanged, wants_gzip, with_vary
from mirrord.serve.pagegroup import Handler, PageGroup

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
    """A file: its path on the server, its bytes, its gzip form, its headers."""

    path: str
    body: bytes
    gzipped: bytes
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
        "ETag": f'"{mark}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",  # of a picture that is opened
    }
    return StaticFile(
        f"{PREFIX}{mark}/{name}", body, gzip.compress(body, 9, mtime=0), with_vary(fields, "Accept-Encoding")
    )


def asset(name: str) -> str:
    """Return the path of a file, for a template."""
    return static_files()[name].path


class StaticFiles(PageGroup):
    """Answers `/static/HASH/NAME`."""

    def __init__(self) -> None:
        """Read the files."""
        self._files = {file.path: file for file in static_files().values()}

    def below(self) -> Mapping[str, Handler]:
        """Return the handler of all files."""
        return {PREFIX: self._answer}

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        file = self._files.get(request.path)
        if file is None:
            return web.Response(status=404, text="no such page\n")
        small = wants_gzip(request.headers.get("Accept-Encoding"))
        headers = packed(file.headers) if small else dict(file.headers)
        if unchanged(request.headers.get("If-None-Match"), headers["ETag"]):
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.gzipped if small else file.body, headers=headers)
