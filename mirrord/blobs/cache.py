"""The files of a spool: blobs in transfer and recent blobs, within a budget and the free space of the disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from mirrord.blobs.idle import CacheEntry, IdleEntries
from mirrord.blobs.recent import ReaderMemory
from mirrord.blobs.reserve import OtherContent
from mirrord.blobs.source import BlobSource
from mirrord.blobs.source_queue import SourceQueue
from mirrord.blobs.spool import Spool
from mirrord.blobs.spool_folder import SpoolFolder
from mirrord.errors import DigestError, StorageError
from mirrord.files import storage_errors
from mirrord.model.digest import Digest

AT_ONCE: Final = 500  # blobs dropped in one turn, so that others can work in between


class SpoolCache:
    """Complete blobs stay as `<algorithm>-<hex>` until their space is needed, least recently used first.

    Unfinished ones end in `.part`. The next reader of the blob resumes them; a start removes them. Files of an earlier
    process are hashed before use: nothing here is flushed, so a power cut may leave wrong bytes under a name.
    """

    def __init__(self, folder: Path, budget: int, room: Callable[[], int]) -> None:
        """Use at most `budget` bytes of `folder`, and no more than `room` returns as free."""
        self._files, self._budget, self.room = SpoolFolder(folder), budget, room
        self._entries: dict[object, CacheEntry] = {}
        self._idle, self._memory = IdleEntries(), ReaderMemory()
        self._busy: dict[CacheEntry, None] = {}  # with a reader or writer
        self._filling: dict[CacheEntry, None] = {}  # those of them that are incomplete
        self._named: dict[Digest, object] = {}  # entries whose file is named by the digest
        self._shared: dict[CacheEntry, None] = {}  # busy ones whose file a store has, too: they need no budget
        self.others: list[OtherContent] = []
        self.used = 0  # bytes of the budget, used or reserved
        self.dropping = False  # whether more has to be dropped: call again

    @property
    def busy(self) -> Collection[CacheEntry]:
        """Return the entries that are being read or written."""
        return tuple(self._busy)

    def __contains__(self, entry: CacheEntry) -> bool:
        """Whether an entry is still the current one of its blob."""
        return self._entries.get(entry.key) is entry

    def sweep(self) -> None:
        """Remove unfinished blobs and list the complete ones, unverified; call it before the first use."""
        for file, digest, size in self._files.sweep():
            source = BlobSource(digest, size)
            self._idle.add(entry := self._put(Spool(source, file, 0.0, memory=self._memory), source.key))
            self._named[digest] = entry.key
        self.trim()

    def find(self, source: BlobSource) -> CacheEntry | None:
        """Return the entry of a blob that is stored or in transfer.

        Raises:
            DigestError: the blob is known with a different size.
        """
        found = list(map(self._entries.get, source.keys))
        named = self._complete(source)
        if named and named.task:
            size = named.spool.size
            if source.size not in (None, size):
                raise DigestError(f"{source.digest} has {size} bytes, not {source.size} as its descriptor says")
            found = [named]
        return next((entry for entry in found if entry and entry.open_to(source)), None)

    def claim(self, entry: CacheEntry, source: BlobSource) -> None:
        """Keep sources of other origins out of a transfer of mirrors that `source` joins, if it demands that."""
        if source.same_origin and not entry.spool.verified and entry.key != source.key:
            if (left := self._entries.get(source.key)) is not None:  # a partial file of an earlier attempt
                self.drop(left)
            self._rename(entry, source.key)

    def begin(self, source: BlobSource, on_bytes: Callable[[int], None], *, streamed: bool = False) -> CacheEntry:
        """Add a blob to read; a partial file of an earlier attempt or process is resumed, other content is linked.

        A `streamed` one takes no space and is not shared.
        """
        key, now = object() if streamed else source.key, asyncio.get_running_loop().time()
        before = None if streamed else self._before(source)
        path, origins = source.file or self._files.unfinished(source.digest), set[str]()
        if before is not None and (source.digest is None or source.file):
            self.drop(before)  # it cannot be resumed
        elif before is not None:
            path = before.spool.path if before.task else self._files.recall(before.spool.path, source.digest)
            origins = before.spool.queue.origins
            self._forget(before)
        if source.digest and source.size and not (source.file or streamed or path.exists()):
            any(other.link(source.digest, source.size, path) for other in self.others)
        spool = Spool(source, path, now, on_bytes, SourceQueue(origins), memory=self._memory)
        if streamed:
            spool.stream()
        self._busy[entry := self._put(spool, key)] = None
        self._filling[entry] = None
        return entry

    def settle(self, entry: CacheEntry) -> None:
        """Update the entry's lists after a reader or writer began or ended."""
        if entry not in self:
            return
        if entry.task is None or entry.task.done():
            self._filling.pop(entry, None)
        if not entry.idle:
            self._idle.discard(entry)
            self._busy[entry] = None
            if entry.kept and entry.charged:
                self._shared[entry] = None
        elif entry.kept and not entry.charged:
            self.drop(entry)
        elif entry not in self._idle:
            del self._busy[entry]
            self._shared.pop(entry, None)
            self._idle.add(entry)

    def finish(self, entry: CacheEntry) -> None:
        """Name a verified blob by its digest, unless it is streamed, or another one is verified or being read."""
        spool, digest = entry.spool, entry.spool.digest
        if entry not in self or spool.source.file or spool.streamed or digest is None or spool.size is None:
            return
        key = BlobSource(digest, spool.size).key
        other = self._entries.get(key, entry)
        if other is not entry:
            if not other.idle or other.spool.verified:
                return
            self.drop(other)
        with contextlib.suppress(OSError):  # the old name works as well; a start removes it
            spool.path = spool.path.replace(self._files.complete(digest))
            stale = self._entries.get(self._named.get(digest), entry)
            if stale is not entry:  # a file of an earlier process has that name
                self._forget(stale)
        self._rename(entry, key)
        self._charge(entry, spool.size)
        self._named[digest] = key

    def stays(self, entry: CacheEntry) -> bool:
        """Whether a blob stays without readers: when it is complete or can be resumed."""
        spool = entry.spool
        if spool.source.file is not None or spool.streamed:
            return False
        if spool.error is not None:
            return bool(spool.written and spool.source.digest) and not isinstance(spool.error, StorageError)
        return not spool.verified or (spool.digest is not None and self._named.get(spool.digest) == entry.key)

    def stream(self, entry: CacheEntry) -> None:
        """Continue a blob's readers from memory: no space is left for it, and no reader may join."""
        self._rename(entry, object())
        with contextlib.suppress(OSError):
            entry.spool.path = entry.spool.path.rename(self._files.unfinished(entry.spool.digest))
        entry.spool.stream()

    def drop(self, entry: CacheEntry) -> None:
        """Remove an entry without readers, and its file unless it belongs to somebody else."""
        self._forget(entry)
        if entry.spool.source.file is None:
            entry.spool.path.unlink(missing_ok=True)

    def trim(self) -> None:
        """Drop idle blobs that exceed the space.

        Raises:
            StorageError: the disk failed.
        """
        with storage_errors(str(self._files.path)):
            self._make_room(0, 0)

    def spare(self, need: int) -> int:
        """Return how many bytes the disk has for us, including idle blobs that can be dropped, counted up to `need`.

        Raises:
            StorageError: the disk failed.
        """
        left = self.room()
        return max(0, left + self._idle.stored(lambda found: left + found >= need))

    async def make_way(self, need: int) -> None:
        """Let other content make way for `need` bytes where dropping idle blobs is not enough, and all of it is."""
        most = sum(other.evictable for other in self.others)
        for other in self.others if 0 < need <= self._budget else ():
            with contextlib.suppress(StorageError):  # whoever uses the space reports it
                if 0 < (lack := self._coming + need - self.spare(self._coming + need)) <= most:
                    await other.evict(lack)

    def give_up(self, digest: Digest) -> None:
        """Drop a blob without readers, whose bytes would stay on the disk when others remove their file of it."""
        entry = self._entries.get(self._named.get(digest))
        if entry is not None and entry in self._idle:
            self.drop(entry)

    def has_room(self, source: BlobSource) -> bool:
        """Drop idle blobs, least recently used first, until another one fits; return whether it does.

        Raises:
            StorageError: it can never fit.
        """
        if source.file is not None or not source.size:
            return True
        before = self._before(source)
        charge = source.size - (before.charged if before else 0)
        return self._fits(source, source.size, charge, source.size - (before.begun if before else 0), before)

    def grow(self, entry: CacheEntry, size: int) -> bool:
        """Reserve `size` bytes for a blob in transfer, as `has_room` does; return whether that succeeded."""
        more = size - entry.charged
        if more > 0 and self._fits(entry.spool.source, size, more, more, entry):
            self._charge(entry, size)
        return size <= entry.charged

    def release(self, entry: CacheEntry, size: int) -> int:
        """Release the space of a dropped blob; return what may be reserved for `size` later."""
        self._charge(entry, 0)
        return min(size, self._budget)

    def _complete(self, source: BlobSource) -> CacheEntry | None:
        """Return the entry whose file is named by a blob's digest; one without a task is unverified."""
        return self._entries.get(self._named.get(source.digest)) if source.digest and source.file is None else None

    def _before(self, source: BlobSource) -> CacheEntry | None:
        """Return the entry to resume: with a partial file, or with a complete one of an earlier process."""
        before, named = self._entries.get(source.key), self._complete(source)
        if before is None and named and named.task is None and named.spool.size == source.size:
            return named
        return before

    def _fits(self, source: BlobSource, size: int, charge: int, need: int, keep: CacheEntry | None) -> bool:
        what = source.digest or source
        if size > self._budget:
            raise StorageError(f"{what} has {size} bytes, more than spool.budget ({self._budget}); raise it")
        with storage_errors(str(self._files.path)):
            if self._make_room(charge, need, keep):
                return True
        if self.dropping:
            return False
        left, busy = self.spare(need), self.used - self._idle.charged - self._coming
        busy -= keep.stored if keep is not None and keep not in self._idle else 0
        busy += sum(other.evictable for other in self.others)
        if need > left + busy:
            raise StorageError(
                f"{what} has {size} bytes, and the disk of {self._files.path} has {left} free; free some space"
            )
        return False

    @property
    def _coming(self) -> int:
        return sum(entry.charged - entry.stored for entry in self._filling)

    def _make_room(self, charge: int, need: int, keep: CacheEntry | None = None) -> bool:
        """Drop idle blobs until the budget has `charge` and the disk `need` bytes free; return whether they have.

        The blob to read again (`keep`) stays, because its partial file will be resumed.
        """
        coming, self.dropping = self._coming, False
        for _ in range(AT_ONCE):
            if self.used + charge > self._budget:
                entry = self._idle.oldest(keep)
                if entry is None and self._shared:
                    self._charge(self._shared.popitem()[0], 0)  # its file goes with its last reader
                    continue
            elif coming + need > self.room():
                entry = self._idle.removable(keep)
            else:
                return True
            if entry is None:
                return False
            self.drop(entry)
        self.dropping = True
        return False

    def _put(self, spool: Spool, key: object) -> CacheEntry:
        entry = self._entries[key] = CacheEntry(spool, key)
        self._charge(entry, 0 if spool.source.file or spool.streamed else spool.size or 0)
        return entry

    def _charge(self, entry: CacheEntry, size: int) -> None:
        self.used += size - entry.charged
        entry.charged = size

    def _rename(self, entry: CacheEntry, key: object) -> None:
        del self._entries[entry.key]
        entry.key = key
        self._entries[key] = entry

    def _forget(self, entry: CacheEntry) -> None:
        if entry in self:
            del self._entries[entry.key]
            self._idle.discard(entry)
            for entries in (self._busy, self._filling, self._shared):
                entries.pop(entry, None)
            self.used -= entry.charged
        if entry.spool.digest and self._named.get(entry.spool.digest) == entry.key:
            del self._named[entry.spool.digest]
