"""What the front remembers of upstreams, in bounded memory: what tags pointed to, and who may have which blob. Pure."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from mirrord.model.digest import Digest
from mirrord.wire.oci.descriptor import Descriptor

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")

MOST_NAMES: Final = 50_000
"""Tags and digests of manifests; with 50 000 blobs they take about 50 MB."""
MOST_BLOBS: Final = 50_000
MISSING_LASTS: Final = 60.0
"""Seconds for which a 404 is remembered: a longer time would hide new tags."""
AGAIN: Final = 30.0
"""Seconds until an upstream that did not answer is asked for the same tag again."""


@dataclass(frozen=True, slots=True)
class KnownManifest:
    """What is known of a tag, or a digest, of one repository; times are monotonic seconds.

    Attributes:
        digest: what it points to, or None.
        checked: when upstream said so.
        descriptor: type and size with it, if upstream sent them.
        missing_until: until when upstream is not asked again for what it did not have.
        again: upstream did not answer, and is not asked again before.
    """

    digest: Digest | None = None
    checked: float = -math.inf
    descriptor: Descriptor | None = None
    missing_until: float = -math.inf
    again: float = -math.inf


class LastUsed(Generic[_K, _V]):
    """A mapping that forgets the least recently used entry when it has too many."""

    def __init__(self, most: int) -> None:
        """Remember at most `most` entries."""
        self._most = most
        self._entries: OrderedDict[_K, _V] = OrderedDict()

    def get(self, key: _K) -> _V | None:
        """Return an entry, or None where there is none."""
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, key: _K, value: _V) -> None:
        """Add or replace an entry."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)


class KnownBlobs:
    """Sizes of blobs by repository and digest: a manifest of the repository names them, or upstream showed them there.

    The difference matters for content that our credentials may have brought here: anybody can write a manifest that
    names the blob of somebody else.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._sizes = LastUsed[tuple[str, Digest], tuple[int, bool]](MOST_BLOBS)

    def size(self, name: str, digest: Digest) -> int | None:
        """Return the size of a blob of a repository, or None where nothing is known of it."""
        found = self._sizes.get((name, digest))
        return found[0] if found else None

    def shown(self, name: str, digest: Digest) -> bool:
        """Whether upstream itself has shown a blob in a repository."""
        found = self._sizes.get((name, digest))
        return found is not None and found[1]

    def named(self, name: str, blobs: Iterable[Descriptor]) -> None:
        """Note that a manifest of a repository names these blobs."""
        for blob in blobs:
            self._sizes.put((name, blob.digest), (blob.size, self.shown(name, blob.digest)))

    def saw(self, name: str, digest: Digest, size: int) -> None:
        """Note that upstream has shown a blob in a repository."""
        self._sizes.put((name, digest), (size, True))
