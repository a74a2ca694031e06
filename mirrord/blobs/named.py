"""Files by name in a repository of the `local` store: brought one by one, shown together.

What was brought and is not shown yet is named beside the repository, where nobody is served from, so that neither a
sweep removes it nor the next run brings it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirrord.blobs.repositories import ManifestRef, Repositories, RepositoryState
from mirrord.blobs.store import BlobStore, Stored, read_stored
from mirrord.model.digest import Digest

UNFINISHED: Final = "unfinished"
"""Names, below that of a repository, what was brought and is not shown yet."""
FEW: Final = 16  # files that a crash may cost


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that is shown.

    Attributes:
        digest: its content.
        media_type: with which it was kept.
        stored: where it is; None when it was lost.
    """

    digest: Digest
    media_type: str
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

    async def exists(self) -> bool:
        """Say whether anything was ever shown."""
        return await self._repositories.exists(self._repository)

    async def find(self, name: str) -> NamedFile | None:
        """Return what is shown under a name."""
        digest = await self._repositories.tag(self._repository, name)
        link = await self._repositories.manifest(self._repository, digest) if digest else None
        return NamedFile(digest, link.media_type, await self._store.find(digest)) if digest and link else None

    async def read(self, name: str) -> bytes | None:
        """Return what is shown under a name, all of it; None when it is not there."""
        found = await self.find(name)
        return await read_stored(found.stored, found.stored.size) if found and found.stored else None

    async def shown(self) -> Mapping[str, Digest]:
        """Return all names that are shown, and what they stand for, lost or not."""
        return (await self._state(self._repository)).tags

    async def waiting(self) -> Mapping[str, Digest]:
        """Return what earlier runs brought and is not shown."""
        return (await self._state(f"{self._repository}/{UNFINISHED}")).tags

    async def lost(self, names: Mapping[str, Digest]) -> frozenset[str]:
        """Return those names whose content is not there."""
        missing = await self._store.missing(names.values())
        return frozenset(name for name, digest in names.items() if digest in missing)

    async def put(self, name: str, data: bytes, media_type: str) -> Digest:
        """Bring something that is in memory, and return its digest."""
        digest = await asyncio.to_thread(Digest.of, data)
        await self._store.put(digest, data)
        self._bring(name, digest, ManifestRef(media_type, len(data)))
        return digest

    async def adopt(self, name: str, digest: Digest, file: Path, link: ManifestRef) -> None:
        """Bring a file, which is linked and not copied: nobody may write to it any more."""
        await self._store.adopt(digest, file)
        self._bring(name, digest, link)
        if len(self._unsaved) >= FEW:
            await self.save()

    def leave_out(self, name: str) -> None:
        """Forget what this run brought under a name."""
        self._brought.pop(name, None)

    async def save(self) -> None:
        """Name what was brought and is not shown yet, so that another run goes on from there. Raises as `show`."""
        names, self._unsaved = self._unsaved, set()
        tags = {name: self._brought[name] for name in names if name in self._brought}
        links = {digest: self._links[digest] for digest in tags.values()}
        try:
            await self._repositories.publish(f"{self._repository}/{UNFINISHED}", links, tags)
        except BaseException:
            self._unsaved |= names
            raise

    async def there(self) -> Sequence[Mapping[str, Digest]]:
        """Return all that may be shown and is not lost: of this run, shown before, brought by earlier runs."""
        known = (self._brought, await self.shown(), await self.waiting())
        missing = await self._store.missing({digest for names in known for digest in names.values()})
        return [{name: digest for name, digest in names.items() if digest not in missing} for names in known]

    async def show(self, names: Mapping[str, Digest]) -> None:
        """Show these files and no others, in one atomic step; all MUST be there. StorageError: the disk said no."""
        old, waiting = await self._state(self._repository), await self._state(f"{self._repository}/{UNFINISHED}")
        links = {**waiting.manifests, **old.manifests, **self._links}
        new = {digest: links[digest] for digest in names.values()}
        await self._repositories.publish(self._repository, new, names, exactly=True, expect=old.revision)
        self._brought.clear()
        self._links.clear()
        self._unsaved.clear()
        if waiting.tags:
            await self._repositories.publish(f"{self._repository}/{UNFINISHED}", {}, {}, exactly=True)

    def _bring(self, name: str, digest: Digest, link: ManifestRef) -> None:
        self._links[digest] = link
        self._brought[name] = digest
        self._unsaved.add(name)

    async def _state(self, repository: str) -> RepositoryState:
        return await self._repositories.state(repository) or RepositoryState()
