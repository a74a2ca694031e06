"""Removes charts from `local` that were taken down: from the index, by name, and what is kept of earlier ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from mirrord.blobs.named import UNFINISHED
from mirrord.blobs.purge import purge
from mirrord.blobs.repositories import RepositoryState
from mirrord.errors import ConflictError
from mirrord.files import LocalFile
from mirrord.model.digest import Digest
from mirrord.names.denied import Denied
from mirrord.syncer.values import Mirror, Services
from mirrord.syncers.helm.names import CHARTS, EARLIER, PROVENANCE, item_of, repository_of
from mirrord.syncers.helm.transfer.keeping import listed
from mirrord.syncers.helm.transfer.target import Reading

_OWN: Final = ("", "/published", f"/{EARLIER}", f"/{UNFINISHED}", f"/published/{UNFINISHED}")
"""What a mirror has in `local`."""


async def purge_local(denied: Denied, services: Services, reading: Reading, read_item: Callable[[Path], str]) -> int:
    """Remove from `local` what was taken down, at once; see `TakesDown.purge`.

    `read_item` returns the item that an archive says it is, "" where it cannot be read; it blocks.
    """
    repositories, blobs = services.repositories, services.blobs
    if repositories is None or blobs is None:
        return 0
    gone, whole, places = 0, set[str](), dict[str, Mirror]()
    for mirror in services.mirrors.get("helm", ()):
        name = repository_of(mirror)
        if denied.mirror(mirror.name):
            whole |= {f"{name}{end}" for end in _OWN}
        elif denied.about(mirror.name):
            places |= dict.fromkeys((name, f"{name}/{EARLIER}", f"{name}/{UNFINISHED}"), mirror)
            with suppress(ConflictError):  # somebody published meanwhile
                gone += await _delist(mirror, denied, services, reading)
    if not whole and not places:
        return gone
    earlier: dict[Digest, str] = {}
    for name in places:
        earlier |= await _earlier_items(name, denied, services, read_item)

    def going(name: str, state: RepositoryState) -> tuple[Mapping[str, Digest], Collection[Digest]]:
        if name in whole:
            return state.tags, state.manifests.keys()
        mirror = places.get(name)
        if mirror is None or not name.endswith((EARLIER, UNFINISHED)):
            return {}, ()
        archives = {tag: state.tags.get(tag.removesuffix(PROVENANCE), one) for tag, one in state.tags.items()}
        items = {tag: earlier.get(one) or item_of(tag) for tag, one in archives.items()}
        gone = [tag for tag, item in items.items() if denied.item(mirror.name, item, archives[tag])]
        return {tag: state.tags[tag] for tag in gone}, ()

    return gone + await purge(repositories, blobs, going)


async def _delist(mirror: Mirror, denied: Denied, services: Services, reading: Reading) -> int:
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
        return {path: one for path, one in shown.items() if denied.item(mirror.name, item_of(path), archives[path])}

    files = await asyncio.to_thread(going)
    if not files:
        return 0
    index = await listed(mirror, services, state, reading=reading)
    if index:
        names, lost = await index.drop(files, frozenset(), {}, state.revision)
    else:  # there is none that can be read
        names, lost = await repositories.drop(name, files, expect=state.revision)
    await repositories.remove_unlinked(blobs, lost, repositories.lease())
    return len(names)


async def _earlier_items(
    repository: str, denied: Denied, services: Services, read_item: Callable[[Path], str]
) -> Mapping[Digest, str]:
    """Return what archives are, which are kept by their digest alone, as far as that has to be read."""
    assert services.repositories
    assert services.blobs
    state = await services.repositories.state(f"{repository}/{EARLIER}") or RepositoryState()
    found: dict[Digest, str] = {}
    for tag, digest in state.tags.items():
        if tag.endswith(".tgz") and not denied.manifest("", digest):
            file = await services.blobs.find(digest)
            if isinstance(file, LocalFile):
                found[digest] = await asyncio.to_thread(read_item, file.path)
    return found
