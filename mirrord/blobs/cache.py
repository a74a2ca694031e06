"""The files of a spool: what is on its way, and what was lately, within a budget and within what the disk has left."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mirrord.blobs.source import BlobSource
from mirrord.blobs.spool import Spool
from mirrord.errors import ContentError, DigestError, StorageError
from mirrord.files import storage_errors
from mirrord.model.digest import Digest

Key = tuple[Digest, int, Path | None, int]


def key_of(wanted: BlobSource) -> Key:
    """Return what readers must agree on to share a read."""
    return wanted.digest, wanted.size, wanted.file, wanted.start


@dataclass(eq=False)
class CacheEntry:
    """One blob.

    Attributes:
        spool: its state.
        pins: readers.
        task: fills it; None for what an earlier process left.
        fastest: seconds that the first reader to finish took.
    """

    spool: Spool
    pins: int = 0
    task: asyncio.Task[None] | None = None
    fastest: float = math.inf

    @property
    def key(self) -> Key:
        """What readers must agree on to share it."""
        return key_of(self.spool.wanted)

    @property
    def charged(self) -> int:
        """Bytes of the budget: none for a file that is read in place."""
        return 0 if self.spool.wanted.file else self.spool.wanted.size

    @property
    def stored(self) -> int:
        """Bytes that are on the disk."""
        return self.charged if self.task is None else min(self.charged, self.spool.written)

    @property
    def idle(self) -> bool:
        """Whether nobody reads it, and nobody fills it."""
        return not self.pins and (self.task is None or self.task.done())

    @property
    def alone(self) -> bool:
        """Whether its bytes have no other name (in the store), so that dropping it makes room on the disk."""
        try:
            return self.spool.path.stat().st_nlink < 2
        except OSError:
            return True


class SpoolCache:
    """Whole blobs stay as `<algorithm>-<hex>` until their room is needed, the one used longest ago first.

    Unfinished ones end in `.part`, are taken up by the next reader of the same blob, and swept at start. What an
    earlier process left is hashed before use: nothing here is flushed, so a power cut leaves names over wrong bytes.
    """

    def __init__(self, folder: Path, budget: int, room: Callable[[], int]) -> None:
        """Use at most `budget` bytes of `folder`, and no more than `room` says that its disk has left."""
        self._folder, self._budget, self._room = folder, budget, room
        self._entries: dict[Key, CacheEntry] = {}
        self._named: dict[Digest, Key] = {}  # whose file has the digest's own name
        self.used = 0  # bytes of the budget that are taken or promised

    def __iter__(self) -> Iterator[CacheEntry]:
        """Iterate over all entries, the one used longest ago first."""
        return iter(tuple(self._entries.values()))

    def __contains__(self, entry: CacheEntry) -> bool:
        """Whether an entry is still the one of its blob."""
        return self._entries.get(entry.key) is entry

    def sweep(self) -> None:
        """Remove unfinished blobs and take stock of the others, unverified; call it before the first use."""
        with storage_errors(str(self._folder)):
            for file in sorted(self._folder.iterdir(), key=lambda f: f.lstat().st_mtime):
                try:
                    digest = Digest.parse(file.name.replace("-", ":", 1))
                except ContentError:
                    file.unlink()
                    continue
                entry = CacheEntry(Spool(BlobSource(digest, file.stat().st_size), file, 0.0))
                self._put(entry)
                self._named[digest] = entry.key
        self.trim()

    def find(self, wanted: BlobSource) -> CacheEntry | None:
        """Return what is there or on its way.

        Raises:
            DigestError: the blob is known, and has another size than is wanted.
        """
        named = self._entries.get(self._named[wanted.digest]) if wanted.digest in self._named else None
        if named and named.task and wanted.file is None and named.spool.wanted.size != wanted.size:
            size = named.spool.wanted.size
            raise DigestError(f"{wanted.digest} has {size} bytes, not {wanted.size} as its descriptor says")
        entry = self._entries.get(key_of(wanted))
        if entry is None or entry.spool.error or entry.task is None:
            return None
        self._entries[entry.key] = self._entries.pop(entry.key)  # to the end: used last
        return entry

    def begin(self, wanted: BlobSource, on_bytes: Callable[[int], None]) -> CacheEntry:
        """Add a blob that is to be read; what an earlier attempt or process left of it is taken up."""
        before = self._entries.get(key_of(wanted))
        if before is not None:
            if before.task is None:
                self._recall(before)
            self._forget(before)
        path = wanted.file or self._part(wanted)
        entry = CacheEntry(Spool(wanted, path, asyncio.get_running_loop().time(), on_bytes))
        self._put(entry)
        return entry

    def whole(self, entry: CacheEntry) -> None:
        """Give a blob that was verified the digest's own name."""
        wanted = entry.spool.wanted
        if wanted.file is not None:
            return
        with contextlib.suppress(OSError):  # it serves under its old name as well, and is swept at start
            entry.spool.path = entry.spool.path.replace(self._path(wanted.digest))
            stale = self._entries.get(self._named.get(wanted.digest, entry.key))
            if stale is not None and stale is not entry:  # an earlier process left something else under that name
                self._forget(stale)
        self._named[wanted.digest] = entry.key

    def drop(self, entry: CacheEntry) -> None:
        """Forget an entry that nobody reads; its file goes, unless it is somebody else's."""
        self._forget(entry)
        if entry.spool.wanted.file is None:
            entry.spool.path.unlink(missing_ok=True)

    def trim(self) -> None:
        """Drop idle blobs for which there is no room any more.

        Raises:
            StorageError: the disk said no.
        """
        with storage_errors(str(self._folder)):
            self._make_room(0, 0)

    @property
    def spare(self) -> int:
        """Bytes that the disk has for us, with all that could be dropped for them.

        Raises:
            StorageError: the disk said no.
        """
        return max(0, self._room() + sum(one.stored for one in self if one.idle and one.alone))

    def has_room(self, wanted: BlobSource) -> bool:
        """Drop idle blobs, the one used longest ago first, until one more fits; say whether it does.

        Raises:
            StorageError: it cannot fit, whoever ends.
        """
        if wanted.file is not None or not wanted.size:
            return True
        if wanted.size > self._budget:
            raise StorageError(
                f"{wanted.digest} has {wanted.size} bytes, more than spool.budget ({self._budget}); raise it"
            )
        before, there = self._entries.get(key_of(wanted)), 0
        with contextlib.suppress(OSError):
            there = self._part(wanted).stat().st_size
        with storage_errors(str(self._folder)):
            charge = wanted.size - (before.charged if before else 0)
            if self._make_room(charge, wanted.size - there, keep=before):
                return True
        left = self.spare
        if wanted.size - there > left + sum(one.stored for one in self if not one.idle):
            raise StorageError(
                f"{wanted.digest} has {wanted.size} bytes, and the disk of {self._folder} has {left} for it; make room"
            )
        return False

    def _make_room(self, charge: int, need: int, keep: CacheEntry | None = None) -> bool:
        """Drop idle blobs until `charge` more fits the budget and `need` more the disk; say whether they do."""
        coming = sum(one.charged - one.stored for one in self if not one.idle)
        for entry in self:
            within = self.used + charge <= self._budget
            if within and coming + need <= self._room():
                return True
            if entry.idle and entry is not keep and (entry.alone or not within):
                self.drop(entry)
        return self.used + charge <= self._budget and coming + need <= self._room()

    def _put(self, entry: CacheEntry) -> None:
        self._entries[entry.key] = entry
        self.used += entry.charged

    def _forget(self, entry: CacheEntry) -> None:
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
            self.used -= entry.charged
        if self._named.get(entry.spool.wanted.digest) == entry.key:
            del self._named[entry.spool.wanted.digest]

    def _recall(self, entry: CacheEntry) -> None:
        """Let what an earlier process left be taken up as if it were unfinished, so that it is hashed first."""
        with storage_errors(str(entry.spool.path)), contextlib.suppress(FileNotFoundError):
            entry.spool.path.rename(self._part(entry.spool.wanted))

    def _path(self, digest: Digest) -> Path:
        return self._folder / f"{digest.algorithm}-{digest.hex}"

    def _part(self, wanted: BlobSource) -> Path:
        return self._path(wanted.digest).with_suffix(f".{wanted.size}.part")
