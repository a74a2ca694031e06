"""The manifests of an image, each read once a run."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from mirrord.errors import ContentError, MissingError, TakenDownError, TooLargeError
from mirrord.model.digest import Digest
from mirrord.syncers.image.plan.steps import ImageSource
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.manifest import Manifest

if TYPE_CHECKING:
    from mirrord.names.denied import Denied

REMEMBERED = 64 << 20  # bytes of memory for manifests that the next tags of a run may share
DEEPEST = 8  # indexes in indexes; deeper ones are an attack (the specification sets no bound)

MOST_MANIFESTS = 10_000  # in one image
MOST_BYTES = 100_000_000  # of all manifests of one image
DONE = 100_000  # remembered results; work beyond that is repeated when requested again

_ENTRY = 400  # bytes of memory per remembered manifest
_TIMES = 6  # bytes of memory for each byte of a manifest, text and parsed form
_Result = TypeVar("_Result")


class Once:
    """Runs each piece of work once for all waiters; a cancelled waiter does not affect others."""

    def __init__(self) -> None:
        """Begin empty."""
        self._tasks: dict[object, asyncio.Task[Any]] = {}
        self._done: dict[object, Any] = {}

    async def do(self, key: object, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Return the result of the work named `key`, or raise its error."""
        if key in self._done:
            work.close()
            known: _Result = self._done[key]
            return known
        task = self._tasks.get(key)
        if task:
            work.close()
        else:
            task = self._tasks[key] = asyncio.create_task(work)
            task.add_done_callback(lambda done: self._ended(key, done))
        result: _Result = await asyncio.shield(task)
        return result

    def forget(self, key: object) -> None:
        """Forget a result, so that the work is repeated when requested again."""
        self._tasks.pop(key, None)
        self._done.pop(key, None)

    def _ended(self, key: object, task: asyncio.Task[Any]) -> None:
        """Keep the result. A failure is forgotten once all waiters have it, so that the next request retries."""
        failed = task.cancelled() or task.exception() is not None
        if self._tasks.get(key) is not task:
            return
        del self._tasks[key]
        if not failed:
            self._done[key] = task.result()
            while len(self._done) > DONE:
                del self._done[next(iter(self._done))]

    async def aclose(self) -> None:
        """Stop running work."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


class Manifests:
    """The manifests of a run: each read once while it is remembered, in at most `budget` bytes of memory."""

    def __init__(self, once: Once, budget: int = REMEMBERED) -> None:
        """Share work through `once`."""
        self._once = once
        self._budget = budget
        self._kept: OrderedDict[object, Manifest | None] = OrderedDict()
        self._total = 0

    async def read(self, key: object, work: Coroutine[Any, Any, Manifest | None]) -> Manifest | None:
        """Return the result of the read named `key`, now or before."""
        if key in self._kept:
            work.close()
            self._kept.move_to_end(key)
            return self._kept[key]
        manifest = await self._once.do(key, work)
        self._once.forget(key)
        if key not in self._kept:  # only the first of several waiters stores it
            self._kept[key] = manifest
            self._total += _weight(manifest)
            while self._total > self._budget:
                self._total -= _weight(self._kept.popitem(last=False)[1])
        return manifest


def _weight(manifest: Manifest | None) -> int:
    """Return about how many bytes of memory a manifest takes."""
    return _ENTRY + (len(manifest.body) * _TIMES if manifest else 0)


@dataclass(frozen=True, slots=True)
class Parts:
    """The references of a manifest, without its other content.

    Attributes:
        entry: the descriptor that it is requested by.
        size: bytes of the manifest.
        children: manifests to copy before it, each digest once, since platforms may share one.
        blobs: blobs to copy before it, the largest first, to avoid a long tail.
        foreign: number of layers that stay references.
    """

    entry: Descriptor
    size: int
    children: tuple[Descriptor, ...]
    blobs: tuple[Descriptor, ...]
    foreign: int

    @classmethod
    def of(cls, entry: Descriptor, manifest: Manifest) -> Parts:
        """Extract the references of `manifest`, which was requested by `entry`."""
        children = {child.digest: _bare(child) for child in manifest.children}
        blobs = sorted(map(_bare, manifest.blobs), key=lambda blob: -blob.size)
        return cls(entry, len(manifest.body), tuple(children.values()), tuple(blobs), len(manifest.foreign))


def _bare(one: Descriptor) -> Descriptor:
    return Descriptor(one.media_type, one.digest, one.size, data=one.data, platform=one.platform)


class Extent:
    """The extent of one image during the copy to one target: indexes may refer to others without end."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._seen: set[Digest] = set()
        self._size = 0
        self._lacking = _Contents()
        self._all = _Contents()

    @property
    def whole(self) -> bool:
        """Whether all manifests were visited that the target lacks."""
        return not self._lacking.ahead

    @property
    def content(self) -> int:
        """Bytes of all blobs of manifests that the target lacks, each counted once."""
        return self._lacking.size

    @property
    def size(self) -> int | None:
        """Bytes of all blobs of the image, each counted once; None if not all its manifests were read."""
        return None if self._all.ahead else self._all.size

    def there(self) -> None:
        """Count a manifest that the target has, with everything that it refers to."""
        self._lacking.ahead -= 1

    def read(self, parts: Parts) -> None:
        """Count what a manifest refers to, whether the target has it or not."""
        self._all.add(parts)

    def found(self, parts: Parts) -> None:
        """Count a manifest that the target lacks, and what it refers to.

        Raises:
            TooLargeError: the image exceeds the limits.
        """
        self._seen.update(child.digest for child in parts.children)
        self._size += parts.size
        self._lacking.add(parts)
        if len(self._seen) > MOST_MANIFESTS:
            raise TooLargeError(f"more than {MOST_MANIFESTS} manifests in one image, which is the limit")
        if self._size > MOST_BYTES:
            raise TooLargeError(f"more than {MOST_BYTES} bytes of manifests in one image, which is the limit")


class _Contents:
    """Blobs, each counted once, and the number of manifests that have not been visited for more of them."""

    def __init__(self) -> None:
        self.size, self.ahead = 0, 1
        self._blobs: set[Digest] = set()

    def add(self, parts: Parts) -> None:
        self.ahead += len(parts.children) - 1
        self.size += sum(blob.size for blob in parts.blobs if blob.digest not in self._blobs)  # `blobs` has each once
        self._blobs.update(blob.digest for blob in parts.blobs)


async def read_manifest(source: ImageSource, entry: Descriptor) -> Manifest | None:
    """Read an entry of an index, or a root without media type; None if it is a blob of an unknown type.

    Raises as `ImageSource.manifest`.
    """
    try:
        return await source.manifest(entry)
    except (ContentError, MissingError):
        if entry.is_manifest or not entry.media_type:
            raise
        return None


def check_denied(denied: Denied | None, item: str, digest: Digest) -> None:
    """Refuse an image that contains what was taken down.

    Raises:
        TakenDownError: it does.
    """
    if denied and (entry := denied.manifest("", digest)):
        why = f"{item}: contains {digest}, which was taken down: {entry.reason}"
        raise TakenDownError(f"{why}; with `platforms:` it is mirrored without that")
