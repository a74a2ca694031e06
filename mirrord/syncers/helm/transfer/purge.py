"""Removes charts from `local` that were taken down: from the index, by name, and what is kept of earlier ones."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from mirrord.blobs.named import UNFINISHED
from mirrord.blobs.purge import Going, let_go, purge
from mirrord.blobs.repositories import Repositories, RepositoryState
from mirrord.blobs.store import read_stored
from mirrord.errors import ConflictError
from mirrord.files import LocalFile, storage_errors
from mirrord.model.digest import Digest
from mirrord.model.takedown import UNRECORDED, LeftName
from mirrord.names.denied import Denied
from mirrord.syncer.takedown import Purged
from mirrord.syncer.values import LOCAL, Mirror, Services
from mirrord.syncers.helm.names import CHARTS, EARLIER, LONGEST_ARCHIVE, PROVENANCE, item_of, repository_of
from mirrord.syncers.helm.transfer.keeping import listed
from mirrord.syncers.helm.transfer.target import Reading

_OWN: Final = ("", "/published", f"/{UNFINISHED}", f"/published/{UNFINISHED}")
"""What a mirror has in `local`, beside what is kept of earlier archives."""


async def purge_local(
    denied: Denied,
    services: Services,
    brought: Collection[str] | None,
    reading: Reading,
    read_item: Callable[[Path], str],
) -> Purged:
    """Remove from `local` what was taken down, at once; see `TakesDown.purge`.

    `read_item` returns the item that an archive says it is, "" where it cannot be read; it blocks.
    """
    repositories, blobs = services.repositories, services.blobs
    if repositories is None or blobs is None:
        return Purged()
    gone, whole, places, left = 0, set[str](), dict[str, Mirror](), list[LeftName]()
    for mirror in services.mirrors.get("helm", ()):
        name = repository_of(mirror)
        if not (denied.mirror(mirror.name) or denied.about(mirror.name)):
            continue
        stays = await _unrecorded(mirror, denied, repositories, brought)
        left += (LeftName(mirror.name, LOCAL, item, UNRECORDED) for item in sorted(stays))
        places |= dict.fromkeys((f"{name}/{EARLIER}", f"{name}/{UNFINISHED}"), mirror)
        if denied.mirror(mirror.name) and not stays:
            whole |= {f"{name}{end}" for end in _OWN}
            continue
        with suppress(ConflictError):  # somebody published meanwhile
            gone += await _delist(mirror, denied, services, brought, reading)
    if not places:
        return Purged(gone, left)
    earlier: dict[Digest, str] = {}
    for place in places:
        if place.endswith(EARLIER):
            earlier |= await _earlier_items(place, denied, services, read_item)
    going = _going(whole, places, denied, brought, earlier=earlier, left=left)
    gone += await purge(repositories, blobs, going, services.spools.cache.give_up)
    return Purged(gone, left)


def _going(
    whole: Collection[str],
    places: Mapping[str, Mirror],
    denied: Denied,
    brought: Collection[str] | None,
    *,
    earlier: Mapping[Digest, str],
    left: list[LeftName],
) -> Going:
    """Return what says what goes of whole repositories, and of what is kept beside an index; `left` gets the rest."""

    def going(name: str, state: RepositoryState) -> tuple[Mapping[str, Digest], Collection[Digest]]:
        if name in whole:
            return state.tags, state.manifests.keys()
        mirror = places.get(name)
        if mirror is None:
            return {}, ()
        archives = {tag: state.tags.get(tag.removesuffix(PROVENANCE), one) for tag, one in state.tags.items()}
        items = {tag: earlier.get(one) or item_of(tag) for tag, one in archives.items()}
        gone = [tag for tag, item in items.items() if denied.item(mirror.name, item, archives[tag])]
        if brought is not None and name.endswith(EARLIER):  # what a run has not finished is in no ledger
            stays = {tag for tag in gone if archives[tag] not in brought}
            shown = (tag for tag in sorted(stays) if not tag.endswith(PROVENANCE))
            left.extend(LeftName(mirror.name, LOCAL, f"{items[tag]} ({tag})", UNRECORDED) for tag in shown)
            gone = [tag for tag in gone if tag not in stays]
        return {tag: state.tags[tag] for tag in gone}, ()

    return going


async def _unrecorded(
    mirror: Mirror, denied: Denied, repositories: Repositories, brought: Collection[str] | None
) -> Collection[str]:
    """Return the items of a mirror that were taken down, and whose archives the ledger does not have."""
    if brought is None:
        return ()
    state = await repositories.state(repository_of(mirror)) or RepositoryState()
    archives = {path: one for path, one in state.tags.items() if path.startswith(f"{CHARTS}/") and one not in brought}
    items = {item_of(path): one for path, one in archives.items() if path.endswith(".tgz")}
    return {item for item, one in items.items() if denied.item(mirror.name, item, one)}


async def _delist(
    mirror: Mirror, denied: Denied, services: Services, brought: Collection[str] | None, reading: Reading
) -> int:
    """Show an index without what was taken down, and drop its files.

    Raises:
        ConflictError: somebody published meanwhile, or needs one of the files now.
    """
    repositories, blobs, name = services.repositories, services.blobs, repository_of(mirror)
    assert repositories
    assert blobs
    state = await repositories.state(name) or RepositoryState()

    def going() -> dict[str, Digest]:
        shown = {path: one for path, one in state.tags.items() if path.startswith(f"{CHARTS}/")}
        archives = {path: shown.get(path.removesuffix(PROVENANCE), one) for path, one in shown.items()}
        gone = {path: one for path, one in shown.items() if denied.item(mirror.name, item_of(path), archives[path])}
        return gone if brought is None else {path: one for path, one in gone.items() if archives[path] in brought}

    files = await asyncio.to_thread(going)
    if not files:
        return 0
    index = await listed(mirror, services, state, reading=reading)
    if index:
        names, lost = await index.drop(files, frozenset(), {}, state.revision)
    else:  # there is none that can be read
        names, lost = await repositories.drop(name, files, expect=state.revision)
    await let_go(repositories, blobs, lost, services.spools.cache.give_up)
    return len(names)


async def _earlier_items(
    place: str, denied: Denied, services: Services, read_item: Callable[[Path], str]
) -> Mapping[Digest, str]:
    """Return what archives are, which are kept by their digest alone, as far as that has to be read."""
    assert services.repositories
    assert services.blobs
    state = await services.repositories.state(place) or RepositoryState()
    found: dict[Digest, str] = {}
    for tag, digest in state.tags.items():
        if tag.endswith(".tgz") and not denied.manifest("", digest):
            stored = await services.blobs.find(digest)
            if isinstance(stored, LocalFile):
                found[digest] = await asyncio.to_thread(read_item, stored.path)
            elif stored is not None:
                copy = services.scratch / f"{digest.hex}.{secrets.token_hex(4)}"  # others may look at the same one
                try:
                    with storage_errors(copy):
                        await asyncio.to_thread(copy.write_bytes, await read_stored(stored, LONGEST_ARCHIVE))
                    found[digest] = await asyncio.to_thread(read_item, copy)
                finally:
                    copy.unlink(missing_ok=True)
    return found
