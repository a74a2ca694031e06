"""What `local` mirrors serve: `/git/<name>.git` for `git clone`, and `/raw/<name>/<ref>/<path>` for single files.

A run of a mirror with `local` among its targets leaves a file in the cache that holds the name under which it is
served; without that file a cache is not served: it may be a private repository on its way to a private host. The
configuration only tells what is not there yet from what never will be.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from mirrord.errors import MirrordError
from mirrord.syncer.serving import Request, Response, refusal, taken_down
from mirrord.syncer.values import LOCAL, Services
from mirrord.syncers.git.front.clone import clone
from mirrord.syncers.git.front.lfs import PREFIX, lfs
from mirrord.syncers.git.front.raw import raw
from mirrord.syncers.git.front.state import GitFront, front_of
from mirrord.syncers.git.kept.known import state_of
from mirrord.syncers.git.names import FOLDER, MARK, repository_name

prefixes: Final = ("/git/", "/raw/")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


async def respond(request: Request, services: Services) -> Response:
    """Map what follows a prefix to content."""
    if request.prefix == "/raw/" and request.method == "POST":
        return refusal(405, "nothing can be posted here")
    front = services.once(front_of)
    name, _, rest = request.path.partition("/")
    name = name.removesuffix(".git") if request.prefix == "/git/" else name
    try:
        served = await _served_cache(front, services.keep, name)
        if served is None:
            return _missing(name, services)
        denied = taken_down(served[0].name.removesuffix(".git"), services)
        return denied or await _content(request, front, *served, rest)
    except MirrordError:
        return refusal(500, "the cache cannot be read; `mirrord status` says more")


def _missing(name: str, services: Services) -> Response:
    for mirror in services.mirrors.get("git", ()):
        if repository_name(mirror) == name and any(target.name == LOCAL for target in mirror.targets):
            later = refusal(503, "this repository has not been cloned here yet; `mirrord status` says more")
            return taken_down(mirror.name, services) or replace(later, headers={**later.headers, "Retry-After": "30"})
    return refusal(404, "no such repository is served here")


async def _content(request: Request, front: GitFront, cache: Path, state: str, rest: str) -> Response:
    if request.prefix == "/raw/":
        return await raw(front, cache, state, rest)
    if rest.startswith(PREFIX):
        return await lfs(request, cache, rest.removeprefix(PREFIX))
    return await clone(request, front, cache, rest)


async def _served_cache(front: GitFront, keep: Path | None, name: str) -> tuple[Path, str] | None:
    """Return the folder of the cache that is served as `name`, and the state of its refs; or None."""
    if keep is None or not _NAME.fullmatch(name) or ".." in name or name.endswith((".git", ".lock")):
        return None
    likely = keep / FOLDER / f"{name}.git"
    if found := await asyncio.to_thread(_looked, likely, name):
        return found
    # A request for an unknown name must not open a file of every mirror each time.
    names = await front.recent.get(keep, lambda: asyncio.to_thread(_by_name, keep / FOLDER))
    return await asyncio.to_thread(_looked, names.get(name, likely), name)


def _looked(cache: Path, name: str) -> tuple[Path, str] | None:
    return (cache, state_of(cache)) if _served_as(cache) == name else None


def _by_name(folder: Path) -> Mapping[str, Path]:
    """Return all caches that are served; the first of several of one name."""
    named = ((_served_as(cache), cache) for cache in sorted(folder.glob("*.git"), reverse=True))
    return {name: cache for name, cache in named if name is not None}


def _served_as(cache: Path) -> str | None:
    try:
        with (cache / MARK).open("rb") as file:
            return file.read(1024).decode().strip() or cache.name.removesuffix(".git")
    except (OSError, UnicodeDecodeError):
        return None
