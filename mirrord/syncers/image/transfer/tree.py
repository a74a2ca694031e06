"""The manifests of an image, each read once a run."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from mirrord.errors import ContentError, MissingError
from mirrord.model import Digest
from mirrord.syncers.image.plan import ImageSource
from mirrord.wire.oci.manifest import Descriptor, Manifest

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
        result: _Result = await asyncio.shield(task)
        return result

    async def aclose(self) -> None:
        """Stop what is still under way."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


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
