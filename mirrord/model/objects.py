"""What an object store says of an object, and that it says nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from mirrord.errors import StorageError, TooLargeError

LARGEST: Final = 128 << 20
"""Bytes of an object that is read into memory: a repository of 100 000 tagged images of ten layers has 110 MB."""
VALUES: Final = 250_000
"""Values in one piece of JSON of a bucket; some hundred bytes of memory each. Last uses of a replica have 200 000."""
_STEP: Final = 1 << 20  # bytes that are looked at in one go, in which no other thread runs


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
class StoredDocument:
    """An object that is read into memory. Somebody else may have written it, or it may be damaged.

    Attributes:
        etag: its entity tag.
        size: its bytes.
        content: all of them; None of an object that is too large, which is not read.
    """

    etag: str
    size: int = 0
    content: bytes | None = field(default=None, repr=False)

    def data(self) -> bytes:
        """Return all bytes; TooLargeError: it was not read."""
        if self.content is None:
            raise TooLargeError(f"too large: {self.size} bytes")
        return self.content

    def value(self) -> Any:
        """Return what it says as one value of JSON.

        Raises:
            TooLargeError: it was not read, or has more than `VALUES`.
            ValueError: it is no JSON.
            RecursionError: it is too deep.
        """
        return json.loads(bounded(self.data()))


def bounded(text: bytes) -> bytes:
    """Return JSON if it cannot have more than `VALUES`, at the speed of a search; TooLargeError: it may have more."""
    count = 0
    for start in range(0, len(text), _STEP):
        count += sum(text.count(mark, start, start + _STEP) for mark in (b",", b"[", b"{"))
        if count > VALUES:
            raise TooLargeError(f"too large: more than {VALUES} values in one piece")
    return text


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
