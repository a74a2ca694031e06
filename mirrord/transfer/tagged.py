"""Places whose content has tags: repositories of registries, and our own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Protocol

from mirrord.errors import MissingError
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.manifest import Manifest


class OwnPlace(Protocol):
    """A place of ours, where a name goes alone."""

    async def head_manifest(self, ref: str, deadline: float | None = None) -> Descriptor | None:
        """Return what a tag or a digest stands for, None for nothing."""

    async def get_manifest(self, digest: str) -> Manifest:
        """Return a manifest."""

    async def tags(self) -> Collection[str]:
        """Return all tags."""

    async def remove(self, names: Sequence[str]) -> None:
        """Remove tags; their content stays."""


Place = Repository | OwnPlace


async def tags_of(place: Place) -> Collection[str]:
    """Return all tags of a place, none of a repository that is gone.

    Raises:
        MirrordError: they cannot be listed.
    """
    if not isinstance(place, Repository):
        return await place.tags()
    with suppress(MissingError):
        return [tag async for tag in place.tags()]
    return ()
