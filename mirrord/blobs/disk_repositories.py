"""Names of the `local` targets on a disk: one log per repository (`repository_log`), right without any database."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from mirrord import failpoints
from mirrord.blobs import repository_log
from mirrord.blobs.repositories import ABSENT, ManifestRef, RepositoryState
from mirrord.blobs.repository_log import Links
from mirrord.errors import ConflictError, ContentError, StorageError
from mirrord.files import append_durably, write_durably
from mirrord.model.digest import Digest

FILE: Final = "_links.jsonl"  # no path component of a repository starts with an underscore
DOCUMENT: Final = "_links.json"
"""What versions before this one wrote; replaced by a log when something is published."""
SHORT: Final = 64 << 10  # bytes of a log for which it is never written anew
LOOKS: Final = 8  # single things that are looked for in a log before all of it is read
REMEMBERED: Final = 64 << 20  # bytes of logs, of which the memory takes some times as much
_DAMAGE: Final = (ValueError, KeyError, TypeError, AttributeError, ContentError)
_T = TypeVar("_T")
_W = TypeVar("_W", bound=str)


class DiskRepositories:
    """The embedded default; fulfils `Repositories`. One process owns the folder (the state lock)."""

    def __init__(self, folder: Path) -> None:
        """Keep the logs below `folder`, which is made when the first name comes."""
        self._folder = folder
        self._known: WeakValueDictionary[str, _Repository] = WeakValueDictionary()
        self._recent: OrderedDict[str, _Repository] = OrderedDict()

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
        return bool(await self._ask(repository, lambda log: log.linked(digest)))

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
        return await asyncio.to_thread(self._linked)

    async def publish(
        self,
        repository: str,
        manifests: Mapping[Digest, ManifestRef],
        tags: Mapping[str, Digest],
        *,
        exactly: bool = False,
        expect: str | None = None,
    ) -> str:
        """Append a line; a log that is new, replaced or twice as long as at its beginning is written anew."""
        kept = self._repository(repository)
        async with kept.turn:  # who is called off leaves a thread behind: that has a lock of its own
            revision = await asyncio.to_thread(kept.publish, manifests, tags, exactly=exactly, expect=expect)
        self._remember(repository, kept)
        return revision

    def sweep(self) -> None:
        """Remove what a crash left; call it before the first use."""
        for file in (FILE, DOCUMENT):
            for stray in self._folder.rglob(f".{file}.*.tmp"):
                stray.unlink(missing_ok=True)
        for log in self._folder.rglob(FILE):
            log.with_name(DOCUMENT).unlink(missing_ok=True)

    async def _ask(self, repository: str, question: Callable[[_Log], _T]) -> _T | None:
        """Ask a log; all of it is read for who asks one thing after the other."""
        kept = self._repository(repository)
        log = kept.log
        if log is None or (log.links is None and log.looks >= LOOKS):
            async with kept.turn:
                log = await asyncio.to_thread(kept.read, whole=log is not None)
            self._remember(repository, kept)
        if log is None:
            return None
        log.looks += 1
        return question(log) if log.links is not None else await asyncio.to_thread(question, log)

    def _repository(self, repository: str) -> _Repository:
        kept = self._known.get(repository)
        if kept is None:
            kept = self._known[repository] = _Repository(self._folder / repository)
        return kept

    def _remember(self, repository: str, kept: _Repository) -> None:
        if kept.log is not None:
            self._recent[repository] = kept
            self._recent.move_to_end(repository)
        while len(self._recent) > 1 and sum(one.log.length for one in self._recent.values() if one.log) > REMEMBERED:
            self._recent.popitem(last=False)

    def _names(self) -> list[str]:
        files = (file for name in (FILE, DOCUMENT) for file in self._folder.rglob(name))
        return sorted({file.parent.relative_to(self._folder).as_posix() for file in files})

    def _linked(self) -> frozenset[Digest]:
        logs = (_Repository(self._folder / name).read(whole=True) for name in self._names())
        return frozenset().union(*(log.links.content for log in logs if log and log.links))


@dataclass(slots=True)
class _Log:
    """What is known of a log: its bytes until all of it was read, then what it says.

    Attributes:
        file: where it is.
        identity: tells it from others.
        length: its bytes that count.
        begun: its bytes when it was begun; 0 for an earlier version's document.
        data: all of them, or nothing when `links` has what they say.
        looks: how often something was looked for.
    """

    file: Path
    identity: str
    length: int
    begun: int
    data: bytes
    links: Links | None = None
    state: RepositoryState | None = None
    looks: int = 0

    @property
    def revision(self) -> str:
        """What changes with each publication."""
        return f"{self.identity}-{self.length}"

    def tag(self, name: str) -> Digest | None:
        """Return what a tag names."""
        data, links = self.data, self.links  # in this order: another thread may be reading all of it
        return links.tags.get(name) if links else self._search(repository_log.find_tag, data, name)

    def manifest(self, digest: Digest) -> ManifestRef | None:
        """Return a manifest."""
        data, links = self.data, self.links
        return links.manifests.get(digest) if links else self._search(repository_log.find_manifest, data, digest)

    def linked(self, digest: Digest) -> bool:
        """Say whether something is linked."""
        data, links = self.data, self.links
        return digest in links.content if links else self._search(repository_log.find_link, data, digest)

    def _search(self, find: Callable[[bytes, _W], _T], data: bytes, what: _W) -> _T:
        with _damage(self.file):
            return find(data, what)

    def parse(self) -> Links:
        """Read all of it."""
        if self.links is None:
            with _damage(self.file):
                self.links = repository_log.read(self.data)
            self.data = b""
        return self.links


class _Repository:
    """One repository. What blocks is done by one thread at a time.

    Attributes:
        turn: who has it may start a thread, so that not all threads wait for one repository.
        log: what is in memory; no other process changes the file.
    """

    def __init__(self, folder: Path) -> None:
        self._file, self._document = folder / FILE, folder / DOCUMENT
        self._working = Lock()
        self.turn = asyncio.Lock()
        self.log: _Log | None = None

    def read(self, *, whole: bool) -> _Log | None:
        """Return the log, None when there is none; with `whole`, all of it was read."""
        with self._working:
            return self._read(whole=whole)

    def state(self) -> RepositoryState | None:
        """Return everything."""
        with self._working:
            log = self._read(whole=True)
            if log is not None and log.state is None:
                links = log.parse()
                log.state = RepositoryState(dict(links.tags), dict(links.manifests), log.revision)
            return log.state if log else None

    def publish(
        self, manifests: Mapping[Digest, ManifestRef], tags: Mapping[str, Digest], *, exactly: bool, expect: str | None
    ) -> str:
        """Write what is new, and return the revision."""
        with self._working:
            log = self._read(whole=True)
            revision = log.revision if log else ABSENT
            if expect not in (None, revision):
                raise ConflictError(f"{self._file.parent}: was changed by somebody else meanwhile")
            old, new = log.parse() if log else Links(), Links()
            new.add(tags, manifests)
            if exactly and (new.tags, new.manifests) == (old.tags, old.manifests):
                return revision
            if not exactly:
                tags, manifests = old.new(tags, manifests)
                if not tags and not manifests:
                    return revision
            self.log = None  # whatever goes wrong from here on, the disk knows what came of it
            entry = repository_log.line(tags, manifests)
            if exactly or log is None or not log.begun or log.length + len(entry) > max(SHORT, 2 * log.begun):
                self.log = self._replace(new if exactly else repository_log.both(old, new))
            else:
                append_durably(log.file, log.length, entry, written=lambda: failpoints.hit("links.appended"))
                old.add(tags, manifests)
                log.length, log.state = log.length + len(entry), None
                self.log = log
            return self.log.revision

    def _read(self, *, whole: bool) -> _Log | None:
        if self.log is None:
            self.log = self._load()
        if self.log is not None and whole:
            self.log.parse()
        return self.log

    def _load(self) -> _Log | None:
        for file, load in ((self._file, _log), (self._document, _of_document)):
            with _damage(file), contextlib.suppress(FileNotFoundError, NotADirectoryError):
                return load(file, file.read_bytes())
        return None

    def _replace(self, links: Links) -> _Log:
        data = repository_log.begin(links)
        write_durably(
            self._file,
            data,
            written=lambda: failpoints.hit("links.written"),
            named=lambda: failpoints.hit("links.renamed"),
        )
        self._document.unlink(missing_ok=True)
        log = _log(self._file, data)
        log.links, log.data = links, b""
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
    return _Log(file, identity, len(data), begun, data)


def _of_document(file: Path, data: bytes) -> _Log:
    links = repository_log.read_document(data)
    return _Log(file, hashlib.blake2b(data, digest_size=8).hexdigest(), len(data), 0, b"", links)
