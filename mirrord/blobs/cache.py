"""The files of a spool: what is on its way, and what was lately, within a budget and within what the disk has left."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mirrord.blobs.reader import SpoolReader
from mirrord.blobs.source import BlobSource
from mirrord.blobs.spool import Spool
from mirrord.errors import ContentError, DigestError, StorageError
from mirrord.files import storage_errors
from mirrord.model.digest import Digest


def key_of(source: BlobSource) -> object:
    """Return what readers must agree on to share a read: content that nobody knows is that of one opener."""
    if source.digest is None and source.file is None:
        return source.open
    return source.digest, source.size, source.file, source.start


@dataclass(eq=False)
class CacheEntry:
    """One blob.

    Attributes:
        spool: its state.
        key: what readers must agree on to share it.
        charged: bytes of the budget: none for a file that is read in place.
        holders: readers that it has to stay for.
        task: fills it; None for what an earlier process left.
        fastest: seconds that the first reader to finish took.
        kept: whether somebody keeps it, in the store.
    """

    spool: Spool
    key: object
    charged: int = 0
    holders: set[SpoolReader] = field(default_factory=set)
    task: asyncio.Task[None] | None = None
    fastest: float = math.inf
    kept: bool = False

    @property
    def stored(self) -> int:
        """Bytes that are on the disk."""
        return self.charged if self.task is None else min(self.charged, self.spool.written)

    @property
    def idle(self) -> bool:
        """Whether nobody reads it, and nobody fills it."""
        return not self.holders and (self.task is None or self.task.done())

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
        self._entries: dict[object, CacheEntry] = {}
        self._named: dict[Digest, object] = {}  # whose file has the digest's own name
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
                source = BlobSource(digest, file.stat().st_size)
                self._named[digest] = self._put(Spool(source, file, 0.0), key_of(source)).key
        self.trim()

    def find(self, source: BlobSource) -> CacheEntry | None:
        """Return what is there or on its way.

        Raises:
            DigestError: the blob is known, and has another size than is wanted.
        """
        entry = self._entries.get(key_of(source))
        named = self._entries.get(self._named.get(source.digest)) if source.digest and source.file is None else None
        if named and named.task:
            size = named.spool.size
            if source.size not in (None, size):
                raise DigestError(f"{source.digest} has {size} bytes, not {source.size} as its descriptor says")
            entry = named
        if entry is None or entry.spool.error or entry.spool.streamed or entry.task is None:
            return None
        self._entries[entry.key] = self._entries.pop(entry.key)  # to the end: used last
        return entry

    def begin(self, source: BlobSource, on_bytes: Callable[[int], None], *, streamed: bool = False) -> CacheEntry:
        """Add a blob that is to be read; what an earlier attempt or process left of it is taken up.

        One that is `streamed` takes no room and is shared with nobody.
        """
        key, now = object() if streamed else key_of(source), asyncio.get_running_loop().time()
        before = self._entries.get(key)
        if before is not None:
            if before.task is None:
                self._recall(before)
            self._forget(before)
            if source.digest is None:  # what is left of it cannot be taken up
                before.spool.path.unlink(missing_ok=True)
        path = source.file or (self._unnamed() if streamed else self._part(source))
        spool = Spool(source, path, now, on_bytes)
        if streamed:
            spool.stream()
        return self._put(spool, key)

    def finish(self, entry: CacheEntry) -> None:
        """Give a blob that was verified the digest's own name, unless it is streamed, or another one is being read."""
        spool, digest = entry.spool, entry.spool.digest
        if entry not in self or spool.source.file or spool.streamed or digest is None or spool.size is None:
            return
        key = digest, spool.size, None, 0
        other = self._entries.get(key, entry)
        if other is not entry:
            if not other.idle:
                return
            self.drop(other)
        with contextlib.suppress(OSError):  # it serves under its old name as well, and is swept at start
            spool.path = spool.path.replace(self._path(digest))
            stale = self._entries.get(self._named.get(digest), entry)
            if stale is not entry:  # an earlier process left something else under that name
                self._forget(stale)
        self._rename(entry, key)
        self._charge(entry, spool.size)
        self._named[digest] = key

    def stays(self, entry: CacheEntry) -> bool:
        """Whether a blob is kept when nobody reads it: when it is whole, or what is there of it can be taken up."""
        spool = entry.spool
        if spool.source.file is not None or spool.streamed:
            return False
        if spool.error is not None:
            return bool(spool.written and spool.source.digest) and not isinstance(spool.error, StorageError)
        return not spool.verified or (spool.digest is not None and self._named.get(spool.digest) == entry.key)

    def stream(self, entry: CacheEntry) -> None:
        """Let those who read a blob go on from memory: there is no room for more of it, and nobody else may join."""
        self._rename(entry, object())
        with contextlib.suppress(OSError):
            entry.spool.path = entry.spool.path.rename(self._unnamed())
        entry.spool.stream()

    def drop(self, entry: CacheEntry) -> None:
        """Forget an entry that nobody reads; its file goes, unless it is somebody else's."""
        self._forget(entry)
        if entry.spool.source.file is None:
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

    def has_room(self, source: BlobSource) -> bool:
        """Drop idle blobs, the one used longest ago first, until one more fits; say whether it does.

        Raises:
            StorageError: it cannot fit, whoever ends.
        """
        if source.file is not None or not source.size:
            return True
        before, there = self._entries.get(key_of(source)), 0
        with contextlib.suppress(OSError):
            there = self._part(source).stat().st_size
        charge = source.size - (before.charged if before else 0)
        return self._fits(source, source.size, charge, source.size - there, before)

    def grow(self, entry: CacheEntry, size: int) -> bool:
        """Take room for `size` bytes of a blob that is on its way, as `has_room` does; say whether there is."""
        more = size - entry.charged
        if more > 0 and self._fits(entry.spool.source, size, more, more, entry):
            self._charge(entry, size)
        return size <= entry.charged

    def release(self, entry: CacheEntry, size: int) -> int:
        """Give up the room of a blob that was dropped; return what may be taken in place of `size` later."""
        self._charge(entry, 0)
        return min(size, self._budget)

    def _fits(self, source: BlobSource, size: int, charge: int, need: int, keep: CacheEntry | None) -> bool:
        what = source.digest or source
        if size > self._budget:
            raise StorageError(f"{what} has {size} bytes, more than spool.budget ({self._budget}); raise it")
        with storage_errors(str(self._folder)):
            if self._make_room(charge, need, keep):
                return True
        left = self.spare
        if need > left + sum(one.stored for one in self if not one.idle and one is not keep):
            raise StorageError(f"{what} has {size} bytes, and the disk of {self._folder} has {left} for it; make room")
        return False

    def _make_room(self, charge: int, need: int, keep: CacheEntry | None = None) -> bool:
        """Drop idle blobs until `charge` more fits the budget and `need` more the disk; say whether they do."""
        if self.used + charge <= self._budget and self.used + need <= self._room():
            return True  # whatever is still to come was taken, so nobody has to look at each of many
        coming = sum(one.charged - one.stored for one in self if not one.idle)
        for entry in self:
            within = self.used + charge <= self._budget
            if within and coming + need <= self._room():
                return True
            if entry.idle and entry is not keep and (entry.alone or not within):
                self.drop(entry)
        return self.used + charge <= self._budget and coming + need <= self._room()

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
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
            self.used -= entry.charged
        if entry.spool.digest and self._named.get(entry.spool.digest) == entry.key:
            del self._named[entry.spool.digest]

    def _recall(self, entry: CacheEntry) -> None:
        """Let what an earlier process left be taken up as if it were unfinished, so that it is hashed first."""
        with storage_errors(str(entry.spool.path)), contextlib.suppress(FileNotFoundError):
            entry.spool.path.rename(self._part(entry.spool.source))

    def _path(self, digest: Digest) -> Path:
        return self._folder / f"{digest.algorithm}-{digest.hex}"

    def _part(self, source: BlobSource) -> Path:
        if source.digest is None:
            return self._unnamed()
        return self._path(source.digest).with_suffix(".part" if source.size is None else f".{source.size}.part")

    def _unnamed(self) -> Path:
        return self._folder / f"{secrets.token_hex(16)}.part"
