"""Content by digest in an object store: `blobs/<algorithm>/<two hex digits>/<hex>`, each written once.

Nobody lists the bucket to learn whether something is there. An object that was seen or written a moment ago counts as
there for `FRESH` seconds, so that a pull of popular content costs no request to the bucket each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from pathlib import Path
from time import monotonic
from typing import Final

from mirrord import failpoints
from mirrord.blobs.objects import Objects
from mirrord.blobs.removals import AT_ONCE, SETTLES, Removal, Removals
from mirrord.blobs.store import Remote
from mirrord.errors import ConflictError, ContentError, DigestError, StorageError
from mirrord.files import STEP, storage_errors
from mirrord.keyedlock import KeyedLock
from mirrord.model.digest import Digest
from mirrord.tasks import finished, joined

FRESH: Final = 60.0
"""Seconds for which an object that was seen or written is assumed to exist."""
TRUSTED: Final = 24 * 3600.0
"""Seconds for which an object that was seen while a repository linked it is assumed to exist, by runs."""
SIGNED: Final = 1800
"""Seconds for which a URL for clients is good: docker keeps it for the life of one layer."""
SMALL: Final = 8 << 20
"""Bytes up to which content is written in one request."""
MARKER: Final = "mirrord"
"""Key of an object that says nothing."""
YOUNG: Final = 24 * 3600.0
"""Seconds for which content stays that nothing links."""
TYPE: Final = "application/octet-stream"
_MOST: Final = 50_000  # objects that are remembered
_CONFLICTS: Final = (0.05, 0.2, 1.0)  # seconds before a write is sent again that met another one
_NOBODYS: Final = '"00000000000000000000000000000000"'  # an entity tag that no object has


class S3Store:
    """The store of several replicas; implements `DistantStore`."""

    def __init__(
        self,
        objects: Objects,
        *,
        redirect: bool = False,
        clock: Callable[[], float] = time.time,  # noqa: TID251 - compared with the times of objects
        ticks: Callable[[], float] = monotonic,
    ) -> None:
        """Keep content in `objects`.

        Args:
            objects: of the bucket.
            redirect: whether clients may be sent there for blobs.
            clock: of the wall.
            ticks: say how long ago an object was seen.
        """
        self._objects, self._redirect = objects, redirect
        self._clock, self._ticks = clock, ticks
        self._removals, self._removal = Removals(objects), Removal()
        self._seen = OrderedDict[Digest, tuple[float, int]]()  # when, and its bytes
        self._linked = OrderedDict[Digest, float]()  # when it was seen, linked
        self._round = 0  # of what was seen; what was asked for in an earlier one counts no more
        self._looking = KeyedLock()

    async def open_(self) -> None:
        """Check that the bucket is there, that we may write, and that it keeps two writers apart.

        Raises:
            StorageError: it is not, or we may not, or it replaces what it was told not to replace.
        """
        if await self._marked("") and await self._marked(""):  # the first one makes the object where there is none
            ignored = "If-None-Match"
        elif await self._marked(_NOBODYS):
            ignored = "If-Match"
        else:
            return
        raise StorageError(
            f"{self._objects}: this server replaces objects in spite of {ignored}, so replicas would lose names;"
            " take one with conditional writes"
        )

    async def _marked(self, over: str) -> bool:
        """Return whether the marker was written over the object with this entity tag, "" for none."""
        try:
            await self._objects.write(MARKER, b"mirrord keeps images here\n", "text/plain", over)
        except ConflictError:
            return False
        return True

    @staticmethod
    def key(digest: Digest) -> str:
        """Return the key of some content."""
        return f"blobs/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"

    @staticmethod
    def digest(key: str) -> Digest | None:
        """Return of which content this is the key, None for somebody else's object."""
        parts = key.split("/")
        with contextlib.suppress(ContentError):
            return Digest.parse(f"{parts[1]}:{parts[3]}") if len(parts) == 4 else None
        return None

    async def find(self, digest: Digest) -> Remote | None:
        """Ask for it, unless that was done a minute ago; many who ask at once cost one request."""
        if (size := await self._size(digest)) is None:
            return None
        key = self.key(digest)

        def opened(offset: int, count: int) -> AsyncIterator[bytes]:
            return self._objects.stream(key, offset, count)

        return Remote(opened, size, await self._objects.url(key, SIGNED) if self._redirect else None)

    async def missing(self, digests: Collection[Digest], *, linked: bool = False) -> frozenset[Digest]:
        """Ask for each, but for those that were seen or written a minute ago; when one fails no other is asked for.

        Those that are `linked`, and were asked for as such, are asked for once a day: a run with nothing new would ask
        for all that there is.
        """
        if linked:
            now = self._ticks()
            asking = [digest for digest in digests if now >= self._linked.get(digest, -TRUSTED) + TRUSTED]
            lost = await self.missing(asking)
            self._linked.update((digest, now) for digest in asking if digest not in lost)
            while len(self._linked) > _MOST:
                self._linked.popitem(last=False)
            return lost
        wanted = list(dict.fromkeys(digests))
        async with joined() as group:
            asked = [group.create_task(self._size(digest)) for digest in wanted]
        return frozenset(digest for digest, size in zip(wanted, asked, strict=True) if size.result() is None)

    async def adopt(self, digest: Digest, file: Path) -> None:
        """Send a file, unless the object is there."""
        with storage_errors(str(file)):
            size = (await asyncio.to_thread(file.stat)).st_size
        if size <= SMALL:
            with storage_errors(str(file)):
                data = await asyncio.to_thread(file.read_bytes)
            await self._write(digest, data)
        elif await self._size(digest) is None:
            await self._upload(digest, size, _pieces(file, size))

    async def receive(self, digest: Digest, size: int, pieces: AsyncGenerator[bytes, None]) -> None:
        """Send what comes: in parts, or all at once where it is small."""
        async with contextlib.aclosing(pieces):
            if size <= SMALL:
                await self._write(digest, b"".join([piece async for piece in pieces]))
            else:
                await self._upload(digest, size, pieces)

    async def put(self, digest: Digest, data: bytes) -> None:
        """Send a small piece of content, unless the object is there."""
        if await asyncio.to_thread(Digest.of, data, digest.algorithm) != digest:
            raise DigestError(f"{len(data)} bytes do not match {digest}")
        await self._write(digest, data)

    async def remove(self, digest: Digest) -> None:
        """Delete the object."""
        await self.remove_all([digest])

    async def remove_all(self, digests: Collection[Digest]) -> None:
        """Delete many objects, some at once; a cancellation comes between those."""
        keys = [self.key(digest) for digest in digests]
        try:
            for start in range(0, len(keys), AT_ONCE):
                await finished(self._objects.delete(keys[start : start + AT_ONCE]), SETTLES)
        finally:
            for digest in digests:
                self._seen.pop(digest, None)

    async def _upload(self, digest: Digest, size: int, pieces: AsyncGenerator[bytes, None]) -> None:
        began = self._round
        await self._objects.upload(self.key(digest), pieces, size, TYPE)
        self._saw(digest, size, began)
        failpoints.hit("store.linked")

    async def confirm(self, digests: Collection[Digest]) -> None:
        """Look whether content that has just been linked is still there: another replica may have removed it meanwhile.

        Costs one request where nobody has removed anything.

        Raises:
            StorageError: some is missing.
        """
        newest = await self._removals.newest()
        if newest.going or newest.etag != self._removal.etag:
            await self._removals.ended(digests)
            self._removal = await self._removals.newest()
            self._round += 1
            self._seen.clear()
        if lost := await self.missing([digest for digest in digests if digest not in self._seen]):
            raise StorageError(f"{min(lost)} was removed while it was named; the next run copies it again")

    async def contents(self) -> AsyncIterator[dict[Digest, int]]:
        """List what is older than a day: what is newer may be about to be linked."""
        oldest = self._clock() - YOUNG
        async for page in self._objects.listed("blobs/"):
            found = dict[Digest, int]()
            for key, one in page.items():
                if one.modified < oldest and (digest := self.digest(key)) is not None:
                    found[digest] = one.size
            yield found

    async def _write(self, digest: Digest, data: bytes) -> None:
        if self._known(digest) is None:
            began = self._round
            await self._send(digest, data)
            self._saw(digest, len(data), began)
            failpoints.hit("store.linked")

    async def _send(self, digest: Digest, data: bytes) -> None:
        """Send it, again where the answer is 409 since another replica sends or removes the same in that moment.

        There is no condition: with one it is not repeated after a reset.
        """
        for pause in _CONFLICTS:
            with contextlib.suppress(ConflictError):
                await self._objects.write(self.key(digest), data, TYPE)
                return
            await asyncio.sleep(pause)
        await self._objects.write(self.key(digest), data, TYPE)

    async def _size(self, digest: Digest) -> int | None:
        """Return the bytes of an object, None if there is none."""
        if (size := self._known(digest)) is not None:
            return size
        async with self._looking.hold(digest):
            if (size := self._known(digest)) is not None:
                return size
            began = self._round
            if (found := await self._objects.head(self.key(digest))) is None:
                self._seen.pop(digest, None)
                return None
            self._saw(digest, found.size, began)
            return found.size

    def _known(self, digest: Digest) -> int | None:
        seen, size = self._seen.get(digest, (-FRESH, 0))
        return size if self._ticks() < seen + FRESH else None

    def _saw(self, digest: Digest, size: int, began: int) -> None:
        if began != self._round:
            return
        self._seen[digest] = self._ticks(), size
        self._seen.move_to_end(digest)
        if len(self._seen) > _MOST:
            self._seen.popitem(last=False)


async def _pieces(file: Path, size: int) -> AsyncGenerator[bytes, None]:
    with storage_errors(str(file)):
        handle = await asyncio.to_thread(os.open, file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for offset in range(0, size, STEP):
                piece = await asyncio.to_thread(os.pread, handle, min(STEP, size - offset), offset)
                if len(piece) != min(STEP, size - offset):
                    raise StorageError(f"{file}: truncated while it was read")
                yield piece
        finally:
            os.close(handle)
