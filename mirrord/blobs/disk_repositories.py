"""Names of the `local` targets on a disk: one log per repository (`repository_log`), without a database."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from mirrord import failpoints
from mirrord.blobs import repository_log
from mirrord.blobs.repositories import ABSENT, ManifestRef, RepositoryState
from mirrord.blobs.repository_log import Lines, Links
from mirrord.errors import ConflictError, ContentError, StorageError
from mirrord.files import append_durably, write_durably
from mirrord.model.digest import Digest

FILE: Final = "_links.jsonl"  # no path component of a repository starts with an underscore
DOCUMENT: Final = "_links.json"
"""The file of earlier versions; replaced by a log with the next publication."""
SHORT: Final = 64 << 10  # bytes; a shorter log is never rewritten
LOOKS: Final = 8  # single lookups in a log before all of it is read
REMEMBERED: Final = 64 << 20  # bytes of logs; they take several times as much memory
MISSED: Final = 4096  # repositories known to be absent; clients may ask for any name
_DAMAGE: Final = (ValueError, KeyError, TypeError, AttributeError, ContentError)
_T = TypeVar("_T")


class DiskRepositories:
    """The embedded default; implements `Repositories`. One process owns the folder (the state lock)."""

    def __init__(self, folder: Path) -> None:
        """Keep the logs below `folder`, which is created with the first name."""
        self._folder = folder
        self._known: WeakValueDictionary[str, _Repository] = WeakValueDictionary()
        self._recent: OrderedDict[str, _Repository] = OrderedDict()
        self._missed: OrderedDict[str, _Repository] = OrderedDict()

    async def exists(self, repository: str) -> bool:
        """Look for its log."""
        return bool(await self._ask(repository, lambda _: True))

    async def tag(self, repository: str, name: str) -> Digest | None:
        """Look for one tag."""
        return await self._ask(repository, lambda log: log.tag(name))

    async def manifest(self, repository: str, digest: Digest) -> ManifestRef | None:
        """Look for one manifest."""
        return await self._ask(repository, lambda log: log.manifest(digest))

    async def links(self, repository: str, digest: Digest) -> bool:
        """Look whether something is linked."""
        return bool(await self._ask(repository, lambda log: log.links(digest)))

    async def state(self, repository: str) -> RepositoryState | None:
        """Read all of a log."""
        kept = self._repository(repository)
        if (log := kept.log) is not None and (state := log.state) is not None:
            return state
        async with kept.turn:
            state = await asyncio.to_thread(kept.state)
        self._remember(repository, kept)
        return state

    async def names(self) -> Sequence[str]:
        """Look for files."""
        return await asyncio.to_thread(self._names)

    async def linked(self) -> frozenset[Digest]:
        """Read all logs."""

        def read() -> frozenset[Digest]:
            logs = (_Repository(self._folder / name).read(whole=True) for name in self._names())
            return frozenset().union(*(log.links().content for log in logs if log))

        return await asyncio.to_thread(read)

    async def publish(
        self,
        repository: str,
        manifests: Mapping[Digest, ManifestRef],
        tags: Mapping[str, Digest],
        *,
        exactly: bool = False,
        expect: str | None = None,
    ) -> str:
        """Append a line; rewrite a log that is new, replaced or twice as long as when it was written."""
        kept = self._repository(repository)
        async with kept.turn:  # a cancelled caller leaves its thread running: it has a lock of its own
            revision = await asyncio.to_thread(kept.publish, manifests, tags, exactly=exactly, expect=expect)
        self._remember(repository, kept)
        return revision

    async def remove(self, repository: str, *, expect: str) -> None:
        """Remove a repository that nobody needs any more, if it is at the revision `expect`; raises as `publish`."""
        kept = self._repository(repository)
        async with kept.turn:
            await asyncio.to_thread(kept.remove, expect)
        self._recent.pop(repository, None)

    def sweep(self) -> None:
        """Remove leftovers of a crash; call it before the first use."""
        for file in (FILE, DOCUMENT):
            for stray in self._folder.rglob(f".{file}.*.tmp"):
                stray.unlink(missing_ok=True)
        for log in self._folder.rglob(FILE):
            log.with_name(DOCUMENT).unlink(missing_ok=True)

    async def _ask(self, repository: str, question: Callable[[Links | Lines], _T]) -> _T | None:
        """Query a log; after several queries all of it is read."""
        kept = self._repository(repository)
        log = kept.log
        if kept.absent:
            return None
        if log is None or (isinstance(log.view, Lines) and log.looks >= LOOKS):
            async with kept.turn:
                log = await asyncio.to_thread(kept.read, whole=log is not None)
            self._remember(repository, kept)
        if log is None:
            return None
        log.looks += 1
        view = log.view
        if isinstance(view, Links):
            return question(view)
        with _damage(log.file):
            return await asyncio.to_thread(question, view)

    def _repository(self, repository: str) -> _Repository:
        known = self._known.get(repository)
        return known or self._known.setdefault(repository, _Repository(self._folder / repository))

    def _remember(self, repository: str, kept: _Repository) -> None:
        group, other = (self._missed, self._recent) if kept.log is None else (self._recent, self._missed)
        group[repository] = kept
        group.move_to_end(repository)
        other.pop(repository, None)
        while len(self._missed) > MISSED:
            self._missed.popitem(last=False)
        while len(self._recent) > 1 and sum(one.log.length for one in self._recent.values() if one.log) > REMEMBERED:
            self._recent.popitem(last=False)

    def _names(self) -> list[str]:
        files = (file for name in (FILE, DOCUMENT) for file in self._folder.rglob(name))
        return sorted({file.parent.relative_to(self._folder).as_posix() for file in files})


@dataclass(slots=True)
class _Log:
    """The state of the log `file` in memory.

    Attributes:
        identity: distinguishes it from other logs.
        length: its valid bytes.
        begun: its bytes when it was last rewritten; 0 for an earlier version's document.
        view: of its lines, until all of it was read.
        state: all links, if they were requested since the last publication.
        looks: number of lookups.
    """

    file: Path
    identity: str
    length: int
    begun: int
    view: Links | Lines
    state: RepositoryState | None = None
    looks: int = 0

    @property
    def revision(self) -> str:
        return f"{self.identity}-{self.length}"

    def links(self) -> Links:
        """Read all of it, once."""
        with _damage(self.file):
            self.view = links = self.view.read()
        return links


class _Repository:
    """One repository. One thread at a time does blocking work.

    Attributes:
        turn: its holder may start a thread, so that not all threads wait for one repository.
        log: its state in memory; no other process changes the file.
        absent: whether it was looked for, and does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._file, self._document = folder / FILE, folder / DOCUMENT
        self._working = Lock()
        self.turn = asyncio.Lock()
        self.log: _Log | None = None
        self.absent = False

    def read(self, *, whole: bool) -> _Log | None:
        """Return the log, None when there is none; with `whole`, all of it was read."""
        with self._working:
            return self._read(whole=whole)

    def state(self) -> RepositoryState | None:
        """Return everything."""
        with self._working:
            log = self._read(whole=True)
            if log is not None and log.state is None:
                links = log.links()
                log.state = RepositoryState(dict(links.tags), dict(links.manifests), log.revision)
            return log.state if log else None

    def publish(
        self, manifests: Mapping[Digest, ManifestRef], tags: Mapping[str, Digest], *, exactly: bool, expect: str | None
    ) -> str:
        """Write what is new, and return the revision."""
        with self._working:
            log = self._read(whole=True)
            revision, old = (log.revision, log.links()) if log else (ABSENT, Links())
            if expect not in (None, revision):
                raise ConflictError(f"{self._file.parent}: changed by another writer meanwhile")
            if exactly and (tags, manifests) == (old.tags, old.manifests):
                return revision
            if not exactly:
                tags = {name: digest for name, digest in tags.items() if old.tags.get(name) != digest}
                manifests = {digest: link for digest, link in manifests.items() if old.manifests.get(digest) != link}
                if not tags and not manifests:
                    return revision
            self.absent = False
            try:
                self.log = self._write(log, old, tags, manifests, exactly=exactly)
            except BaseException:
                self.log = None  # its state must be read from the disk again
                raise
            return self.log.revision

    def remove(self, expect: str) -> None:
        """Remove the files; a power cut may bring them back."""
        with self._working:
            log = self._read(whole=False)
            if log is None or log.revision != expect:
                raise ConflictError(f"{self._file.parent}: changed by another writer meanwhile")
            self.log = None
            with _damage(self._file):
                for file in (self._document, self._file):
                    file.unlink(missing_ok=True)

    def _read(self, *, whole: bool) -> _Log | None:
        for file, parse in ((self._file, _log), (self._document, _of_document)):
            if self.log is None:
                with _damage(file), contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    self.log = parse(file, file.read_bytes())
        self.absent = self.log is None
        if self.log is not None and whole:
            self.log.links()
        return self.log

    def _write(
        self,
        log: _Log | None,
        old: Links,
        tags: Mapping[str, Digest],
        manifests: Mapping[Digest, ManifestRef],
        *,
        exactly: bool,
    ) -> _Log:
        """Append a publication, or rewrite the log; readers see the old state until it is durable."""
        entry = repository_log.line(tags, manifests)
        if exactly or log is None or not log.begun or log.length + len(entry) > max(SHORT, 2 * log.begun):
            links = Links() if exactly else Links().add(old.tags, old.manifests)
            data = repository_log.begin(links.add(tags, manifests))
            hit = failpoints.hit
            write_durably(self._file, data, written=lambda: hit("links.written"), named=lambda: hit("links.renamed"))
            self._document.unlink(missing_ok=True)
            return replace(_log(self._file, data), view=links)
        append_durably(log.file, log.length, entry, written=lambda: failpoints.hit("links.appended"))
        old.add(tags, manifests)
        log.length, log.state = log.length + len(entry), None
        return log


@contextlib.contextmanager
def _damage(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, *_DAMAGE) as error:
        raise StorageError(f"{file}: {error}") from error


def _log(file: Path, data: bytes) -> _Log:
    data = repository_log.sound(data)
    identity, begun = repository_log.identity(data)
    return _Log(file, identity, len(data), begun, Lines(data))


def _of_document(file: Path, data: bytes) -> _Log:
    identity = hashlib.blake2b(data, digest_size=8).hexdigest()
    return _Log(file, identity, len(data), 0, repository_log.read_document(data))
