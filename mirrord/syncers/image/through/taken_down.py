"""What was taken down is answered by 451 (RFC 7725) with the reason: by its name, or by the digest of what is there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mirrord.blobs.content_cache import ContentCache
from mirrord.blobs.purge import Going, purge
from mirrord.events import FrontRefused
from mirrord.names.denied import Denied, DeniedEntry
from mirrord.names.naming import BUILT_IN
from mirrord.syncer.serving import Request, Response
from mirrord.syncer.values import Services
from mirrord.syncers.image.front.answers import refusal
from mirrord.syncers.image.front.path import RegistryPath
from mirrord.syncers.image.kept.purge import denied_in
from mirrord.syncers.image.through.asked import Asked
from mirrord.syncers.image.through.clients import client_of
from mirrord.syncers.image.through.covered import CoveredNames
from mirrord.syncers.image.through.failures import warning
from mirrord.wire.oci.reference import Reference

WORD = "taken_down"
_REFS = ("manifests", "blobs", "referrers")


async def denying(
    asked: Asked, reference: Reference | None, covered: CoveredNames, services: Services
) -> DeniedEntry | None:
    """Return the entry that denies what a request asks for, before anybody looks for it.

    Args:
        asked: the request.
        reference: the repository at a registry that it means, as `CoveredNames.meant` says.
        covered: says what the repositories of `local` are copies of.
        services: in use.
    """
    denied, path = services.denied, asked.path
    if not denied:
        return None
    names = [reference.name] if reference else []
    for local in await covered.names(asked, reference, services):
        owner = await covered.owner(local, services)
        names += owner.sources
        entries = [denied.mirror(mirror) for mirror in owner.mirrors]
        if entries and all(entries):
            return entries[0]
    return next(_matches(denied, path, names), None)


def _matches(denied: Denied, path: RegistryPath, names: list[str]) -> Iterator[DeniedEntry]:
    ref = path.ref if path.verb in _REFS else ""
    for name in names or [""]:
        entry = (denied.manifest(name, ref) if ref else None) or denied.repository(name)
        if entry:
            yield entry


async def checked(request: Request, answer: Response, asked: Asked, services: Services) -> Response:
    """Return the answer, unless its content was taken down under another name; of a list of tags the rest."""
    denied, path = services.denied, asked.path
    if not denied or answer.status != 200:
        return answer
    if path.verb == "tags" and isinstance(answer.body, bytes):
        name = asked.reference.name if asked.reference else ""
        return await asyncio.to_thread(_without, answer, name, denied)
    entry = denied.manifest("", answer.headers.get("Docker-Content-Digest", ""))
    return answer if entry is None else taken_down(request, entry, asked, services)


def _without(answer: Response, name: str, denied: Denied) -> Response:
    assert isinstance(answer.body, bytes)
    listed = json.loads(answer.body)
    tags = [tag for tag in listed["tags"] if not denied.manifest(name, tag)]
    return replace(answer, body=json.dumps({**listed, "tags": tags}).encode())


def taken_down(request: Request, entry: DeniedEntry, asked: Asked, services: Services) -> Response:
    """Return the answer 451; one to HEAD has no body, so a header says why, too."""
    path, called = asked.path, asked.called.name
    shown = path.ref if path.verb in _REFS else ""
    what = f"{called}{'@' if path.digest else ':'}{shown}" if shown else called
    client = client_of(request.client, request.token).name
    services.events.emit(FrontRefused(WORD, client, asked.reference.name if asked.reference else called, path.ref))
    text = f"{what} was taken down: {entry.reason}{services.objection}"
    return replace(refusal(451, "DENIED", text, warning(text)), outcome=WORD)


def going_from_cache(denied: Denied) -> Going:
    """Return what says what of a cache was taken down."""

    def sources(name: str) -> Sequence[str]:
        reference = BUILT_IN["path"].source(name)
        return (reference.name,) if reference else ()

    return denied_in(denied, sources)


class PurgedCache:
    """Removes from the cache on this disk what was taken down, also at another replica: once for each entry."""

    def __init__(self, cache: ContentCache) -> None:
        """Know of no entry."""
        self._cache, self._done, self._turn = cache, frozenset[DeniedEntry](), asyncio.Lock()

    async def follow(self, denied: Denied | None) -> None:
        """Remove what is denied now and was not before.

        Raises:
            StorageError: the disk failed; the next time tries it again.
        """
        entries = denied.entries if denied else ()
        async with self._turn:
            if fresh := [entry for entry in entries if entry not in self._done]:
                await purge(self._cache.repositories, self._cache.store, going_from_cache(Denied(fresh)))
            self._done = frozenset(entries)
