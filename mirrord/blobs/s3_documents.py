"""Documents of repositories in an object store: read by entity tag, replaced by compare and swap."""

from __future__ import annotations

import asyncio
import io
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final, ParamSpec, TypeVar

from mirrord import failpoints
from mirrord.blobs import repository_log
from mirrord.blobs.objects import Objects
from mirrord.blobs.repositories import ABSENT, RepositoryState
from mirrord.blobs.repository_log import DAMAGE, Lines, Links
from mirrord.errors import ConflictError, MirrordError, StorageError
from mirrord.keyedlock import KeyedLock
from mirrord.model.objects import StoredDocument, bounded

FRESH: Final = 1.0
"""Seconds for which a document that was read is assumed to be the newest, for readers."""
ATTEMPTS: Final = 20
"""How often a change is made anew because another writer came first."""
REMEMBERED: Final = 64 << 20
"""Bytes of documents in memory; they take several times as much."""
_FOLDER: Final = "repositories/"
_FILE: Final = "/_links.jsonl"  # no path component of a repository starts with an underscore
_TYPE: Final = "application/jsonl"
_ABSENCE: Final = 1 << 10  # bytes that an absent repository counts: clients may ask for any name
_LONG: Final = 64 << 10  # bytes of a document that is read and written in a thread
_LINE: Final = 1 << 8  # bytes of it that a tag or a manifest has at least
_PAUSE: Final = 0.05  # seconds, at most, before the second attempt
_T = TypeVar("_T")
_P = ParamSpec("_P")


@dataclass(slots=True, eq=False)
class RepositoryDocument:
    """What is in memory of one repository.

    Attributes:
        links: what is in it, None while it does not exist.
        revision: of it.
        etag: of the object, "" for none.
        length: its bytes.
        seen: when it was the newest.
        copy: of its links, if somebody asked for the state.
    """

    links: Links | None
    revision: str
    etag: str
    length: int
    seen: float
    copy: RepositoryState | None = None

    @property
    def state(self) -> RepositoryState | None:
        """All links, or None."""
        if self.copy is None and self.links is not None:
            self.copy = self.links.state(self.revision)
        return self.copy


Change = Callable[[RepositoryDocument, ExitStack], Awaitable[Links | None]]
"""Returns what a document becomes, None for the same. What it enters in the stack is left when that is written."""


class RepositoryDocuments:
    """The documents of all repositories, those that were used last in memory."""

    def __init__(
        self,
        objects: Objects,
        clock: Callable[[], float],
        ticks: Callable[[], float],
        damaged: Callable[[str], None] | None = None,
    ) -> None:
        """Keep them in `objects`.

        Args:
            objects: of the bucket.
            clock: of the wall.
            ticks: says how old what was read is.
            damaged: is told of a document that cannot be understood, which counts as empty then, and is written anew
                with the next change. Without it that is an error.
        """
        self._objects, self._clock, self._ticks, self._damaged = objects, clock, ticks, damaged
        self._known = OrderedDict[str, RepositoryDocument]()
        self._length = 0  # of all that are known
        self._failed: dict[str, tuple[float, StorageError]] = {}  # when a document could not be read, and why
        self._reading, self._writing = KeyedLock(), KeyedLock()

    async def names(self) -> list[str]:
        """List the documents."""
        found = list[str]()
        async for page in self._objects.listed(_FOLDER):
            found += [key[len(_FOLDER) : -len(_FILE)] for key in page if key.endswith(_FILE)]
        return sorted(found)

    async def get(self, repository: str) -> RepositoryDocument:
        """Return a document that was the newest a moment ago; those who wait for one that cannot be read share that."""
        if (known := self._fresh(repository)) is not None:
            return known
        async with self._reading.hold(repository):
            at, why = self._failed.pop(repository, (-FRESH, StorageError()))
            if self._ticks() < at + FRESH:
                self._failed[repository] = at, why
                raise type(why)(str(why))
            try:
                return self._fresh(repository) or await self.fetch(repository)
            except StorageError as error:
                now = self._ticks()
                self._failed = {name: one for name, one in self._failed.items() if now < one[0] + FRESH}
                self._failed[repository] = now, error
                raise

    def _fresh(self, repository: str) -> RepositoryDocument | None:
        known = self._known.get(repository)
        if known is None or self._ticks() >= known.seen + FRESH:
            return None
        self._known.move_to_end(repository)
        return known

    async def fetch(self, repository: str) -> RepositoryDocument:
        """Return the newest document; one that is known is not sent again."""
        known, now = self._known.get(repository), self._ticks()
        found = await self._objects.read(_key(repository), known.etag if known else "")
        if known is not None and found is not None and found.etag == known.etag:
            known.seen = max(known.seen, now)
            return known
        document = await self._parsed(repository, found, now) if found else _absent(now)
        if self._known.get(repository) is known:  # else a change of ours was written meanwhile, and is newer
            self._remember(repository, document)
        return document

    async def change(self, repository: str, change: Change) -> RepositoryDocument:
        """Change a document, on what is known of it first, and on the newest if that is not the newest.

        Raises:
            MirrordError: what `change` raises, about the newest one.
            ConflictError: other writers came first again and again.
        """
        async with self._writing.hold(repository):
            document, newest = self._known.get(repository), False
            for attempt in range(ATTEMPTS):
                if document is None:
                    document, newest = await self.fetch(repository), True
                with ExitStack() as held:
                    try:
                        links = await change(document, held)
                    except MirrordError:
                        if newest:
                            raise
                        links = None
                    if links is not None:
                        with suppress(ConflictError):
                            return await self._write(repository, links, document.etag)
                        await asyncio.sleep(random.random() * _PAUSE * attempt)  # noqa: S311 - so that two part
                    elif newest:
                        return document
                document = None
            raise ConflictError(f"{repository}: other writers came first {ATTEMPTS} times; try again later")

    async def delete(self, repository: str) -> None:
        """Delete a document, whatever it says by now."""
        now = self._ticks()
        await self._objects.delete([_key(repository)])
        self._remember(repository, _absent(now))

    async def _parsed(self, repository: str, found: StoredDocument, now: float) -> RepositoryDocument:
        def parse() -> tuple[str, Links]:
            log = found.data()
            for line in io.BytesIO(log):
                bounded(line)
            return repository_log.identity(log)[0], Lines(log).read()

        try:
            revision, links = await threaded(found.size, parse)
        except DAMAGE as error:
            why = f"{self._objects}/{_key(repository)}: {error}"
            if self._damaged is None:
                raise StorageError(why) from error
            self._damaged(why)
            return RepositoryDocument(None, ABSENT, found.etag, _ABSENCE, now)
        return RepositoryDocument(links, revision, found.etag, found.size, now)

    async def _write(self, repository: str, links: Links, over: str) -> RepositoryDocument:
        """Write a document over another one."""
        now, key, length = self._ticks(), _key(repository), (len(links.tags) + len(links.manifests)) * _LINE
        data = await threaded(length, repository_log.begin, links, int(self._clock()))
        failpoints.hit("links.written")
        try:
            etag = await self._objects.write(key, data, _TYPE, over)
        except ConflictError:
            found = await self._objects.read(key)
            if found is None or found.content != data:
                raise
            etag = found.etag  # it is ours: the answer was lost, and the request repeated
        failpoints.hit("links.renamed")
        document = RepositoryDocument(links, repository_log.identity(data)[0], etag, len(data), now)
        self._remember(repository, document)
        return document

    def _remember(self, repository: str, document: RepositoryDocument) -> None:
        if (old := self._known.pop(repository, None)) is not None:
            self._length -= old.length
        self._known[repository] = document
        self._length += document.length
        while self._length > REMEMBERED and len(self._known) > 1:
            self._length -= self._known.popitem(last=False)[1].length


async def threaded(length: int, work: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T:
    """Do what takes long in a thread: what is about many bytes."""
    return await asyncio.to_thread(work, *arguments, **options) if length > _LONG else work(*arguments, **options)


def _absent(now: float) -> RepositoryDocument:
    return RepositoryDocument(None, ABSENT, "", _ABSENCE, now)


def _key(repository: str) -> str:
    return f"{_FOLDER}{repository}{_FILE}"
