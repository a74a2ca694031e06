"""Files by name in a repository of the `local` store: added one by one, published together.

Files that are not published yet are named in a second repository that is not served, so that neither a sweep
removes them nor the next run copies them again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mirrord.blobs.repositories import ManifestRef, Repositories, RepositoryState
from mirrord.blobs.store import BlobStore, Stored, read_stored
from mirrord.model.digest import Digest

UNFINISHED: Final = "unfinished"
"""Name, below that of a repository, of the repository for unpublished files."""
FEW: Final = 16  # files that a crash may cost


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A published file.

    Attributes:
        digest: its content.
        media_type: with which it was kept.
        size: its bytes, as it was kept.
        stored: its location; None if it was lost.
    """

    digest: Digest
    media_type: str
    size: int
    stored: Stored | None


class NamedFiles:
    """One repository whose tags are names of files. One run at a time writes to it."""

    def __init__(self, store: BlobStore, repositories: Repositories, repository: str) -> None:
        """Keep content in `store`, and the names of `repository` in `repositories`."""
        self._store = store
        self._repositories = repositories
        self._repository = repository
        self._brought: dict[str, Digest] = {}
        self._links: dict[Digest, ManifestRef] = {}
        self._unsaved: set[str] = set()
        self._lease = repositories.lease()

    async def exists(self) -> bool:
        """Return whether anything was ever published."""
        return await self._repositories.exists(self._repository)

    async def find(self, name: str, used: Callable[[Digest], None] = lambda _: None) -> NamedFile | None:
        """Return the file published under a name; `used` hears of it before anybody looks whether it is there."""
        digest = await self._repositories.tag(self._repository, name)
        if digest:
            used(digest)
        link = await self._repositories.manifest(self._repository, digest) if digest else None
        if not digest or not link:
            return None
        return NamedFile(digest, link.media_type, link.size, await self._store.find(digest))

    async def read(self, name: str) -> bytes | None:
        """Return the content published under a name, or None; never more bytes than were kept."""
        found = await self.find(name)
        if found is None or found.stored is None:
            return None
        return await read_stored(replace(found.stored, size=min(found.stored.size, found.size)), found.size)

    async def shown(self) -> Mapping[str, Digest]:
        """Return all published names and their files, lost or not."""
        return (await self._state(self._repository)).tags

    async def waiting(self) -> Mapping[str, Digest]:
        """Return the unpublished files of earlier runs."""
        return (await self._state(f"{self._repository}/{UNFINISHED}")).tags

    async def lost(self, names: Mapping[str, Digest]) -> frozenset[str]:
        """Return the names, of those that are published or were added, whose content is missing."""
        await self._lease.hold(names.values())
        missing = await self._store.missing(names.values(), linked=True)
        return frozenset(name for name, digest in names.items() if digest in missing)

    async def put(self, name: str, data: bytes, media_type: str) -> Digest:
        """Add content from memory, and return its digest."""
        digest = await asyncio.to_thread(Digest.of, data)
        await self._lease.hold([digest])
        await self._store.put(digest, data)
        self._bring(name, digest, ManifestRef(media_type, len(data)))
        return digest

    async def adopt(self, name: str, digest: Digest, file: Path, link: ManifestRef) -> None:
        """Add a file by a hard link: it must not be written to any more."""
        await self._lease.hold([digest])
        await self._store.adopt(digest, file)
        self._bring(name, digest, link)
        if len(self._unsaved) >= FEW:
            await self.save()

    def leave_out(self, name: str) -> None:
        """Forget the file that this run added under a name."""
        self._brought.pop(name, None)

    async def save(self) -> None:
        """Name unpublished files, so that the next run resumes from there. Raises as `show`."""
        names, self._unsaved = self._unsaved, set()
        tags = {name: self._brought[name] for name in names if name in self._brought}
        links = {digest: self._links[digest] for digest in tags.values()}
        try:
            await self._repositories.publish(f"{self._repository}/{UNFINISHED}", links, tags)
        except BaseException:
            self._unsaved |= names
            raise

    async def close(self) -> None:
        """Save, and need no content any more, for whoever has published for the last time. Raises as `show`."""
        try:
            await self.save()
        finally:
            self._lease.release()

    async def there(self) -> Sequence[Mapping[str, Digest]]:
        """Return all available files: of this run, published before, added by earlier runs."""
        known = (self._brought, await self.shown(), await self.waiting())
        digests = {digest for names in known for digest in names.values()}
        await self._lease.hold(digests)
        missing = await self._store.missing(digests)
        return [{name: digest for name, digest in names.items() if digest not in missing} for names in known]

    async def show(self, names: Mapping[str, Digest]) -> None:
        """Publish exactly these files in one atomic step; all MUST exist. StorageError: the disk failed."""
        old, waiting = await self._state(self._repository), await self._state(f"{self._repository}/{UNFINISHED}")
        links = {**waiting.manifests, **old.manifests, **self._links}
        new = {digest: links[digest] for digest in names.values()}
        await self._repositories.publish(self._repository, new, names, exactly=True, expect=old.revision)
        self._brought.clear()
        self._links.clear()
        self._unsaved.clear()
        if waiting.tags:
            await self._repositories.publish(f"{self._repository}/{UNFINISHED}", {}, {}, exactly=True)
        self._lease.release()

    def _bring(self, name: str, digest: Digest, link: ManifestRef) -> None:
        self._links[digest] = link
        self._brought[name] = digest
        self._unsaved.add(name)

    async def _state(self, repository: str) -> RepositoryState:
        return await self._repositories.state(repository) or RepositoryState()
