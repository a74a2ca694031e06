"""The port of an object store: what `S3Store` and `S3Repositories` need of one. The adapter is `wire.bucket`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Protocol

from mirrord.model.objects import LARGEST, StoredDocument, StoredObject


class Objects(Protocol):
    """The objects below one prefix of one bucket; keys are relative to the prefix.

    A write is atomic and visible to all readers when it returns. Every method raises StorageError, which names the
    bucket and never a signature, after a bounded number of attempts: BucketAwayError where the bucket cannot be used.
    """

    async def head(self, key: str) -> StoredObject | None:
        """Return what there is, or None."""

    async def read(self, key: str, unless: str = "", most: int = LARGEST) -> StoredDocument | None:
        """Return a small object, or None if there is none; only the entity tag of one whose tag is `unless`.

        Of one with more than `most` bytes nothing is read but its headers.
        """

    def stream(self, key: str, offset: int, count: int) -> AsyncIterator[bytes]:
        """Yield `count` bytes from `offset` on. MissingError: there is no such object."""

    async def write(self, key: str, data: bytes, media_type: str, over: str | None = None) -> str:
        """Write an object in one request, and return its entity tag.

        Args:
            key: of the object.
            data: its content.
            media_type: the content type that it is read with.
            over: the entity tag of what it may replace, "" for nothing; None for whatever is there.

        Raises:
            ConflictError: there is something else. It may be this very write, whose answer was lost.
            StorageError: also for more bytes than anybody would read.
        """

    async def upload(self, key: str, pieces: AsyncIterator[bytes], size: int, media_type: str) -> None:
        """Write a large object in parts, as they come. What `pieces` raises, and a cancellation, leave nothing."""

    async def delete(self, keys: Collection[str]) -> None:
        """Delete objects; a missing one is no error."""

    def listed(self, prefix: str) -> AsyncIterator[Mapping[str, StoredObject]]:
        """Yield what is below a prefix, page by page. For collecting, never to decide whether something is there."""

    async def url(self, key: str, seconds: int) -> str:
        """Return a URL by which anybody may GET the object for some time; secret until it is handed out."""
