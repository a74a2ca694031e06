"""What `local` mirrors serve: `/git/<name>.git` for `git clone`, and `/raw/<name>/<ref>/<path>` for single files."""

from __future__ import annotations

import re
from typing import Final

from mirrord.errors import MirrordError
from mirrord.serving import Asked, Content
from mirrord.syncer import Services
from mirrord.syncers.git.front.clone import clone
from mirrord.syncers.git.front.desk import desk_of
from mirrord.syncers.git.front.errors import refusal
from mirrord.syncers.git.front.lfs import PREFIX, lfs
from mirrord.syncers.git.front.raw import raw
from mirrord.syncers.git.front.served import served_cache

PREFIXES: Final = ("/git/", "/raw/")
_CLONE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,254}?)(?:\.git)?(?:/(?P<rest>.*))?")


async def content(asked: Asked, services: Services) -> Content:
    """Map what follows a prefix to content."""
    try:
        return await (_clone if asked.prefix == "/git/" else _raw)(asked, services)
    except MirrordError:
        return refusal(500, "the cache cannot be read; `mirrord status` says more")


async def _clone(asked: Asked, services: Services) -> Content:
    found = _CLONE.fullmatch(asked.path)
    cache = await served_cache(desk_of(services), services.keep, found["name"]) if found else None
    if found is None or cache is None:
        return refusal(404, "no such repository is served here")
    rest = found["rest"] or ""
    if rest.startswith(PREFIX):
        return lfs(asked, cache, rest.removeprefix(PREFIX))
    return clone(asked, desk_of(services), cache, rest)


async def _raw(asked: Asked, services: Services) -> Content:
    if asked.method == "POST":
        return refusal(405, "nothing can be posted here")
    name, _, rest = asked.path.partition("/")
    cache = await served_cache(desk_of(services), services.keep, name)
    if cache is None:
        return refusal(404, "no such repository is served here")
    return await raw(desk_of(services), cache, rest)
