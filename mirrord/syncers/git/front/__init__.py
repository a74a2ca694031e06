"""What `local` mirrors serve: `/git/<name>.git` for `git clone`, and `/raw/<name>/<ref>/<path>` for single files."""

from __future__ import annotations

import re
from typing import Final

from mirrord.errors import MirrordError
from mirrord.syncer.serving import Request, Response
from mirrord.syncer.values import Services
from mirrord.syncers.git.front.clone import clone
from mirrord.syncers.git.front.desk import front_of
from mirrord.syncers.git.front.errors import refusal
from mirrord.syncers.git.front.lfs import PREFIX, lfs
from mirrord.syncers.git.front.raw import raw
from mirrord.syncers.git.front.served import served_cache

prefixes: Final = ("/git/", "/raw/")
_CLONE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,254}?)(?:\.git)?(?:/(?P<rest>.*))?")


async def respond(request: Request, services: Services) -> Response:
    """Map what follows a prefix to content."""
    try:
        return await (_clone if request.prefix == "/git/" else _raw)(request, services)
    except MirrordError:
        return refusal(500, "the cache cannot be read; `mirrord status` says more")


async def _clone(request: Request, services: Services) -> Response:
    found = _CLONE.fullmatch(request.path)
    cache = await served_cache(services.once(front_of), services.keep, found["name"]) if found else None
    if found is None or cache is None:
        return refusal(404, "no such repository is served here")
    rest = found["rest"] or ""
    if rest.startswith(PREFIX):
        return lfs(request, cache, rest.removeprefix(PREFIX))
    return clone(request, services.once(front_of), cache, rest)


async def _raw(request: Request, services: Services) -> Response:
    if request.method == "POST":
        return refusal(405, "nothing can be posted here")
    name, _, rest = request.path.partition("/")
    cache = await served_cache(services.once(front_of), services.keep, name)
    if cache is None:
        return refusal(404, "no such repository is served here")
    return await raw(services.once(front_of), cache, rest)
