"""What an object store says of an object, and that it says nothing."""

from __future__ import annotations

from dataclasses import dataclass

from mirrord.errors import StorageError


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object without its content.

    Attributes:
        size: its bytes.
        etag: its entity tag, which changes with its content.
        modified: when it was written last, in seconds since 1970, by the clock of the store.
    """

    size: int
    etag: str
    modified: float


@dataclass(frozen=True, slots=True)
class SharedStanding:
    """What replicas share of a cache, when one of them listed it last.

    Attributes:
        counted: when that was, in seconds since 1970; 0 before the first time.
        size: bytes of the content.
        entries: blobs and manifests.
        evictions: of entries, by all replicas since the bucket has been used.
        evicted: their bytes.
        error: why this replica cannot use it, or could not tend it the last time; "" if it can.
    """

    counted: int = 0
    size: int = 0
    entries: int = 0
    evictions: int = 0
    evicted: int = 0
    error: str = ""


class BucketAwayError(StorageError):
    """The bucket cannot be used: nobody is there, it refuses us, or it fails. Another request hardly does better."""
