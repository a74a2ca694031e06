"""The manifests of an image, each read once a run."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any, TypeVar

from mirrord.errors import ContentError, MissingError
from mirrord.model import Digest
from mirrord.syncers.image.plan import ImageSource
from mirrord.wire.oci.manifest import Descriptor, Manifest

REMEMBERED = 64 << 20  # bytes of manifests kept for the next tags of a run, which often share them
DEEPEST = 8  # indexes in indexes; deeper ones are an attack (the specification sets no bound)

_Result = TypeVar("_Result")


class Once:
    """Runs each piece of work once, however many wait for it; who stops waiting hurts nobody."""

    def __init__(self) -> None:
        """Begin with nothing under way."""
        self._tasks: dict[object, asyncio.Task[Any]] = {}

    async def do(self, key: object, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Return what the work called `key` returned, or raise what it raised."""
        task = self._tasks.get(key)
        if task:
            work.close()
        else:
            task = self._tasks[key] = asyncio.create_task(work)
            task.add_done_callback(lambda done: self._ended(key, done))
        result: _Result = await asyncio.shield(task)
        return result

    def forget(self, key: object) -> None:
        """Forget what was done: who asks again has it done again."""
        self._tasks.pop(key, None)

    def _ended(self, key: object, task: asyncio.Task[Any]) -> None:
        """Forget a failure, once everybody who waited has it: the next one who asks may have more luck."""
        if (task.cancelled() or task.exception()) and self._tasks.get(key) is task:
            del self._tasks[key]

    async def aclose(self) -> None:
        """Stop what is still under way."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


class Manifests:
    """The manifests of a run: each read once while it is remembered, at most `budget` bytes of them."""

    def __init__(self, once: Once, budget: int = REMEMBERED) -> None:
        """Share work through `once`."""
        self._once = once
        self._budget = budget
        self._kept: OrderedDict[object, Manifest | None] = OrderedDict()

    async def read(self, key: object, work: Coroutine[Any, Any, Manifest | None]) -> Manifest | None:
        """Return what the reading called `key` returned, now or before."""
        if key in self._kept:
            work.close()
            self._kept.move_to_end(key)
            return self._kept[key]
        manifest = self._kept[key] = await self._once.do(key, work)
        self._once.forget(key)
        while sum(len(one.body) for one in self._kept.values() if one) > self._budget:
            self._kept.popitem(last=False)
        return manifest


async def read_child(source: ImageSource, child: Descriptor, depth: int) -> Manifest | None:
    """Read an entry of an index; None when it turns out to be a blob of a type that nobody knows.

    Raises:
        ContentError: nested too deep, or not as long as its descriptor says.
        MirrordError: as `ImageSource.manifest`.
    """
    if depth > DEEPEST:
        raise ContentError(f"{child.digest}: nested deeper than {DEEPEST} indexes")
    try:
        manifest = await source.manifest(child)
    except (ContentError, MissingError):
        if child.is_manifest:
            raise
        return None
    if len(manifest.body) != child.size:
        raise ContentError(f"{child.digest} has {len(manifest.body)} bytes, its index says {child.size}")
    return manifest


def root_descriptor(digest: Digest) -> Descriptor:
    """Return a descriptor to ask for a manifest of which only the digest is known."""
    return Descriptor("", digest, 0)
