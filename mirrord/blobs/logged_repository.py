"""One repository of the `local` store: its log on the disk, and its state in memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Final

from mirrord import failpoints
from mirrord.blobs import repository_log
from mirrord.blobs.repositories import ABSENT, Addition, ManifestRef, RepositoryState
from mirrord.blobs.repository_log import DAMAGE, Lines, Links
from mirrord.errors import ConflictError, StorageError
from mirrord.files import append_durably, write_durably
from mirrord.model.digest import Digest

FILE: Final = "_links.jsonl"  # no path component of a repository starts with an underscore
DOCUMENT: Final = "_links.json"
"""The file of earlier versions; replaced by a log with the next publication."""
SHORT: Final = 64 << 10  # bytes; a shorter log is never rewritten


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
        with damage(self.file):
            self.view = links = self.view.read()
        return links


class LoggedRepository:
    """One repository. One thread at a time does blocking work; all methods block.

    Attributes:
        turn: its holder may start a thread, so that not all threads wait for one repository.
        log: its state in memory; no other process changes the file.
        absent: whether it was looked for, and does not exist.
    """

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        """Keep the log in `folder`; `clock` is that of the wall, in seconds."""
        self._clock = clock
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
                log.state = log.links().state(log.revision)
            return log.state if log else None

    def publish(
        self, manifests: Mapping[Digest, ManifestRef], tags: Mapping[str, Digest], *, exactly: bool, expect: str | None
    ) -> str:
        """Write what is new, and return the revision."""
        with self._working:
            log = self._read(whole=True)
            revision, old, at = *((log.revision, log.links()) if log else (ABSENT, Links())), int(self._clock())
            if expect not in (None, revision):
                raise ConflictError(f"{self._file.parent}: changed by another writer meanwhile")
            if exactly and (tags, manifests) == (old.tags, old.manifests):
                return revision
            new = {name: digest for name, digest in tags.items() if old.tags.get(name) != digest}
            links = {digest: link for digest, link in manifests.items() if old.manifests.get(digest) != link}
            if exactly:
                return self._rewrite(old.only(tags.keys(), manifests.keys(), at).add(new, links, at), at)
            if not new and not links:
                return revision
            entry = repository_log.line(new, links, at)
            if log is None or not log.begun or log.length + len(entry) > max(SHORT, 2 * log.begun):
                return self._rewrite(old.only(old.tags, old.manifests, at).add(new, links, at), at)
            return self._append(log, entry, lambda: old.add(new, links, at))

    def drop(
        self,
        tags: Collection[str],
        manifests: Collection[Digest],
        expect: str,
        most: int,
        instead: Addition = Addition(),  # noqa: B008 - frozen
    ) -> str:
        """Write the log without some tags and manifests; the newest `most` tags that were dropped are known.

        With nothing to drop, those of unknown time get the present one.
        """
        with self._working:
            log = self._read(whole=True)
            if log is None or log.revision != expect:
                raise ConflictError(f"{self._file.parent}: changed by another writer meanwhile")
            now = int(self._clock())
            return self._rewrite(log.links().without(tags, manifests, now, most, instead), now)

    def remove(self, expect: str) -> None:
        """Remove the files; a power cut may bring them back."""
        with self._working:
            log = self._read(whole=False)
            if log is None or log.revision != expect:
                raise ConflictError(f"{self._file.parent}: changed by another writer meanwhile")
            self.log = None
            with damage(self._file):
                for file in (self._document, self._file):
                    file.unlink(missing_ok=True)

    def _read(self, *, whole: bool) -> _Log | None:
        for file, parse in ((self._file, _log), (self._document, _of_document)):
            if self.log is None:
                with damage(file), contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    self.log = parse(file, file.read_bytes())
        self.absent = self.log is None
        if self.log is not None and whole:
            self.log.links()
        return self.log

    def _append(self, log: _Log, entry: bytes, add: Callable[[], object]) -> str:
        try:
            append_durably(log.file, log.length, entry, written=lambda: failpoints.hit("links.appended"))
        except BaseException:
            self.log = None  # its state must be read from the disk again
            raise
        add()
        log.length, log.state = log.length + len(entry), None
        return log.revision

    def _rewrite(self, links: Links, at: int) -> str:
        """Write a new log; readers see the old one until it is durable."""
        data, hit = repository_log.begin(links, at), failpoints.hit
        self.absent = False
        try:
            write_durably(self._file, data, written=lambda: hit("links.written"), named=lambda: hit("links.renamed"))
            self._document.unlink(missing_ok=True)
        except BaseException:
            self.log = None  # its state must be read from the disk again
            raise
        self.log = replace(_log(self._file, data), view=links)
        return self.log.revision


@contextlib.contextmanager
def damage(file: Path) -> Iterator[None]:
    """Raise StorageError for a log that cannot be read, or is damaged."""
    try:
        yield
    except (OSError, *DAMAGE) as error:
        raise StorageError(f"{file}: {error}") from error


def _log(file: Path, data: bytes) -> _Log:
    data = repository_log.sound(data)
    identity, begun = repository_log.identity(data)
    return _Log(file, identity, len(data), begun, Lines(data))


def _of_document(file: Path, data: bytes) -> _Log:
    identity = hashlib.blake2b(data, digest_size=8).hexdigest()
    return _Log(file, identity, len(data), 0, repository_log.read_document(data))
