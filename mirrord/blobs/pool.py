"""All blobs on their way: each digest once, within a budget of bytes on disk."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from mirrord.blobs.files import storage_errors
from mirrord.blobs.filling import fill
from mirrord.blobs.sources import PATIENCE, Patience
from mirrord.blobs.spool import DetachedError, Reader, Spool
from mirrord.blobs.wanted import Wanted
from mirrord.errors import BrokenError, ContentError, DigestError, StorageError
from mirrord.events import BytesRead, BytesSent, Events
from mirrord.model import Digest

_Key = tuple[Digest, int, Path | None, int]
GRACE = 2.0  # seconds a lagging reader may still need before it is sent away


@dataclass(eq=False)
class _Entry:
    spool: Spool
    pins: int = 0
    task: asyncio.Task[None] | None = None
    fastest: float = math.inf  # seconds that the first reader to finish took

    @property
    def key(self) -> _Key:
        """What readers must agree on to share it."""
        return _key(self.spool.wanted)

    @property
    def charged(self) -> int:
        """Bytes of the budget: none for a file that is read in place."""
        return 0 if self.spool.wanted.file else self.spool.wanted.size


class SpoolPool:
    """Single-flight reading, a bounded cache of whole blobs, and the budget.

    Readers of one digest share a read, whatever their sources (`mirrord.blobs.sources`), unless they were told another
    size of it: who was told a wrong one fails alone. A file that is read in place is shared only by those who named
    that file: it is somebody's, and may be gone when its owner is through.

    Whole blobs stay in `folder` as `<algorithm>-<hex>` until the budget needs their room, the
    one used longest ago first; unfinished ones end in `.part`, are taken up by the next reader
    of the same blob, and swept at start. What an earlier process left is hashed before use:
    nothing here is flushed, so a power cut leaves names over wrong bytes.
    """

    def __init__(
        self, folder: Path, budget: int, events: Events, grace: float = GRACE, patience: Patience = PATIENCE
    ) -> None:
        """Use `folder`, which exists and is ours alone, and at most `budget` bytes of it."""
        self._folder = folder
        self._budget = budget
        self._events = events
        self._grace = grace
        self._patience = patience
        self._entries: dict[_Key, _Entry] = {}
        self._named: dict[Digest, _Key] = {}  # whose file has the digest's own name
        self._news = asyncio.Event()
        self._active: Counter[tuple[str, str]] = Counter()
        self._aside: Counter[str] = Counter()

    def sweep(self) -> None:
        """Remove unfinished blobs and take stock of the others, unverified; call it before the first use."""
        with storage_errors(str(self._folder)):
            for file in sorted(self._folder.iterdir(), key=lambda f: f.lstat().st_mtime):
                try:
                    digest = Digest.parse(file.name.replace("-", ":", 1))
                except ContentError:
                    file.unlink()
                    continue
                entry = _Entry(Spool(Wanted(digest, file.stat().st_size), file, 0.0))
                self._entries[entry.key] = entry
                self._named[digest] = entry.key
        self._make_room(0)

    @property
    def used(self) -> int:
        """Bytes of the budget that are taken or promised."""
        return sum(entry.charged for entry in self._entries.values())

    @contextlib.contextmanager
    def active(self, party: str, group: str) -> Iterator[None]:
        """Say that `party` (a target) is at work for `group` (a mirror): those of it who were sent away wait."""
        self._active[group, party] += 1
        try:
            yield
        finally:
            self._active[group, party] -= 1
            self._announce()

    @contextlib.asynccontextmanager
    async def aside(self, party: str, group: str) -> AsyncIterator[None]:
        """Wait until nobody of `group` is at work who was not sent away too, then go on without pushing others.

        Other groups are not waited for: a mirror that is always busy would starve this one.
        """
        self._aside[party] += 1
        self._announce()
        try:
            while any(
                count > 0 and theirs == group and not self._aside[name]
                for (theirs, name), count in self._active.items()
            ):
                await self._news.wait()
            yield
        finally:
            self._aside[party] -= 1
            self._announce()

    @contextlib.asynccontextmanager
    async def reader(self, wanted: Wanted, party: str) -> AsyncIterator[Reader]:
        """Lend a reader of the blob to `party`, starting to read the source if nobody does yet.

        Raises:
            StorageError: the blob is larger than the whole budget, or the disk said no.
            DigestError: the blob is known, and has another size than is wanted.
            DetachedError: sent away to keep the budget; come back in `aside`.
        """
        entry = await self._entry(wanted, party)
        entry.pins += 1
        loop = asyncio.get_running_loop()

        def tell(count: int) -> None:
            self._events.emit(BytesSent(party, wanted.digest, count, wanted.size))

        spool = entry.spool
        reader = Reader(spool, spool.line.join(wanted), party, loop.time(), tell=tell)
        spool.readers.add(reader)
        try:
            async with asyncio.timeout(None) as reader.watch:
                yield reader
        except TimeoutError as error:
            if not reader.detached:
                raise
            raise DetachedError("the spool is over its budget") from error
        finally:
            if reader.finished:
                entry.fastest = min(entry.fastest, loop.time() - reader.began)
            spool.readers.discard(reader)
            spool.line.leave(reader.source, wanted)
            entry.pins -= 1
            self._unpinned(entry)

    async def aclose(self) -> None:
        """Stop all reading."""
        tasks = [entry.task for entry in self._entries.values() if entry.task and not entry.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _entry(self, wanted: Wanted, party: str) -> _Entry:
        need = 0 if wanted.file else wanted.size
        if need > self._budget:
            raise StorageError(f"{wanted.digest} has {need} bytes, more than spool.budget ({self._budget}); raise it")
        while True:
            entry = self._known(wanted)
            if entry is None and self._make_room(need):
                entry = self._begin(wanted)
            if entry is not None:
                return entry
            if not self._aside[party]:
                self._detach_laggards(party)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._grace / 4):  # `wait_for` may lose a cancellation (CPython 86296)
                    await self._news.wait()

    def _known(self, wanted: Wanted) -> _Entry | None:
        """Return what is there or on its way."""
        named = self._entries.get(self._named[wanted.digest]) if wanted.digest in self._named else None
        if named and named.task and wanted.file is None and named.spool.wanted.size != wanted.size:
            size = named.spool.wanted.size
            raise DigestError(f"{wanted.digest} has {size} bytes, not {wanted.size} as its descriptor says")
        key = _key(wanted)
        entry = self._entries.pop(key, None)
        if entry is None or entry.spool.error:
            return None
        if entry.task is None:
            self._recall(entry)
            return None
        self._entries[key] = entry  # to the end: used last
        return entry

    def _recall(self, entry: _Entry) -> None:
        """Let what an earlier process left be taken up as if it were unfinished, so that it is hashed first."""
        wanted, path = entry.spool.wanted, entry.spool.path
        del self._named[wanted.digest]
        with storage_errors(str(path)), contextlib.suppress(FileNotFoundError):
            path.rename(self._part(wanted))

    def _path(self, digest: Digest) -> Path:
        return self._folder / f"{digest.algorithm}-{digest.hex}"

    def _part(self, wanted: Wanted) -> Path:
        return self._path(wanted.digest).with_suffix(f".{wanted.size}.part")

    def _begin(self, wanted: Wanted) -> _Entry:
        def tell(count: int) -> None:
            self._events.emit(BytesRead(wanted.digest, count, wanted.size))

        path = wanted.file or self._part(wanted)
        entry = _Entry(Spool(wanted, path, asyncio.get_running_loop().time(), tell))
        entry.task = asyncio.create_task(self._fill(entry), name=f"read {wanted.digest}")
        self._entries[entry.key] = entry
        return entry

    async def _fill(self, entry: _Entry) -> None:
        spool = entry.spool
        await fill(spool, self._patience)
        if spool.verified and spool.wanted.file is None:
            digest = spool.wanted.digest
            with contextlib.suppress(OSError):  # it serves under its old name as well, and is swept at start
                spool.path = spool.path.replace(self._path(digest))  # no await since `verified`: nobody saw it
                stale = self._named.get(digest)
                if stale is not None:  # an earlier process left something else under that name
                    self._entries.pop(stale, None)
            self._named[digest] = entry.key
        self._announce()

    def _make_room(self, need: int) -> bool:
        """Drop idle blobs, the one used longest ago first, until `need` bytes fit; say whether they do."""
        for entry in tuple(self._entries.values()):
            if self.used + need <= self._budget:
                return True
            if not entry.pins and (entry.task is None or entry.task.done()):
                self._drop(entry)
        return self.used + need <= self._budget

    def _drop(self, entry: _Entry) -> None:
        """Forget an entry that nobody reads; its file goes, unless it is somebody else's."""
        wanted = entry.spool.wanted
        self._entries.pop(entry.key, None)
        if self._named.get(wanted.digest) == entry.key:
            del self._named[wanted.digest]
        if wanted.file is None:
            entry.spool.path.unlink(missing_ok=True)

    def _detach_laggards(self, party: str) -> None:
        """Send away readers of whole blobs who need far longer than the first of their blob did.

        Where none is through yet, those who need longer still than they had since the blob was whole: a slow
        target that alone lacks a blob must not hold up all others. Everybody has the grace to show its pace.
        """
        now = asyncio.get_running_loop().time()
        for entry in self._entries.values():
            for reader in entry.spool.readers if entry.spool.verified and entry.charged else ():
                had = now - max(entry.spool.ended, reader.began)
                patience = max(self._grace, entry.fastest if entry.fastest < math.inf else had)
                if reader.party != party and had > self._grace and reader.remaining(now) > patience:
                    reader.detach()

    def _unpinned(self, entry: _Entry) -> None:
        spool = entry.spool
        if not entry.pins:
            spool.recent.clear()
        if not entry.pins and entry.task and not entry.task.done():
            spool.error = BrokenError("nobody waits for this blob any more")
            entry.task.cancel()
        useless = spool.wanted.file is not None or (
            spool.error is not None and (isinstance(spool.error, StorageError) or not spool.written)
        )
        if not entry.pins and useless and self._entries.get(entry.key) is entry:
            self._drop(entry)
        self._announce()

    def _announce(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def _key(wanted: Wanted) -> _Key:
    return wanted.digest, wanted.size, wanted.file, wanted.start
