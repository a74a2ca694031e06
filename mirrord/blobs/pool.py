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
from mirrord.blobs.spool import DetachedError, Reader, Spool
from mirrord.blobs.wanted import Wanted
from mirrord.errors import BrokenError, ContentError, DigestError, StorageError
from mirrord.events import BytesRead, BytesSent, Events
from mirrord.model import Digest

GRACE = 2.0  # seconds a lagging reader may still need before it is sent away


@dataclass(eq=False)
class _Entry:
    spool: Spool
    pins: int = 0
    task: asyncio.Task[None] | None = None
    fastest: float = math.inf  # seconds that the first reader to finish took

    @property
    def charged(self) -> int:
        """Bytes of the budget: none for a file that is read in place."""
        return 0 if self.spool.wanted.file else self.spool.wanted.size


class SpoolPool:
    """Single-flight reading, a bounded cache of whole blobs, and the budget.

    Whole blobs stay in `folder` as `<algorithm>-<hex>` until the budget needs their room, the
    one used longest ago first; unfinished ones end in `.part`, are taken up by the next reader
    of the same blob, and swept at start. What an earlier process left is hashed before use:
    nothing here is flushed, so a power cut leaves names over wrong bytes.
    """

    def __init__(self, folder: Path, budget: int, events: Events, grace: float = GRACE) -> None:
        """Use `folder`, which exists and is ours alone, and at most `budget` bytes of it."""
        self._folder = folder
        self._budget = budget
        self._events = events
        self._grace = grace
        self._entries: dict[Digest, _Entry] = {}
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
                size = file.stat().st_size
                self._entries[digest] = _Entry(Spool(Wanted(digest, size), file, 0.0))
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

        reader = Reader(entry.spool, party, loop.time(), tell=tell)
        entry.spool.readers.add(reader)
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
            entry.spool.readers.discard(reader)
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
            if entry and entry.spool.wanted.size == wanted.size:
                return entry
            if entry is None and self._make_room(need):
                return self._begin(wanted)
            if not self._aside[party]:
                self._detach_laggards(party)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._grace / 4):  # `wait_for` may lose a cancellation (CPython 86296)
                    await self._news.wait()

    def _known(self, wanted: Wanted) -> _Entry | None:
        """Return what is there or on its way, perhaps in another size that has still to prove right or wrong."""
        entry = self._entries.pop(wanted.digest, None)
        if entry is None or entry.spool.error:
            return None
        if entry.task is None:
            self._recall(entry, wanted)
            return None
        self._entries[wanted.digest] = entry  # to the end: used last
        size = entry.spool.wanted.size
        if entry.spool.verified and size != wanted.size:
            raise DigestError(f"{wanted.digest} has {size} bytes, not {wanted.size} as its descriptor says")
        return entry

    def _recall(self, entry: _Entry, wanted: Wanted) -> None:
        """Let what an earlier process left be taken up as if it were unfinished, so that it is hashed first."""
        spool = entry.spool
        with storage_errors(str(spool.path)), contextlib.suppress(FileNotFoundError):
            if spool.wanted.size == wanted.size and wanted.file is None:
                spool.path.rename(self._part(wanted.digest))
            else:
                spool.path.unlink()

    def _part(self, digest: Digest) -> Path:
        return self._folder / f"{digest.algorithm}-{digest.hex}.part"

    def _begin(self, wanted: Wanted) -> _Entry:
        path = wanted.file or self._part(wanted.digest)

        def tell(count: int) -> None:
            self._events.emit(BytesRead(wanted.digest, count, wanted.size))

        entry = _Entry(Spool(wanted, path, asyncio.get_running_loop().time(), tell))
        entry.task = asyncio.create_task(self._fill(entry), name=f"read {wanted.digest}")
        self._entries[wanted.digest] = entry
        return entry

    async def _fill(self, entry: _Entry) -> None:
        spool = entry.spool
        await spool.fill()
        if spool.verified and spool.wanted.file is None:
            with contextlib.suppress(OSError):  # it serves under its old name as well, and is swept at start
                spool.path = spool.path.replace(spool.path.with_suffix(""))  # no await since `verified`: nobody saw it
        self._announce()

    def _make_room(self, need: int) -> bool:
        """Drop idle blobs, the one used longest ago first, until `need` bytes fit; say whether they do."""
        for digest, entry in tuple(self._entries.items()):
            if self.used + need <= self._budget:
                return True
            if not entry.pins and (entry.task is None or entry.task.done()):
                del self._entries[digest]
                if entry.spool.wanted.file is None:
                    entry.spool.path.unlink(missing_ok=True)
        return self.used + need <= self._budget

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
        useless = spool.wanted.file is not None or isinstance(spool.error, DigestError)
        if not entry.pins and useless and self._entries.get(spool.wanted.digest) is entry:
            del self._entries[spool.wanted.digest]
            if spool.wanted.file is None:
                spool.path.unlink(missing_ok=True)
        self._announce()

    def _announce(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
