"""What the front remembers of upstreams, in bounded memory: what tags pointed to, and who may have which blob. Pure."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mirrord.model.digest import Digest
from mirrord.wire.oci.descriptor import Descriptor

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


NOTHING: Final = KnownManifest()


class KnownManifests:
    """By repository and tag or digest; the least recently used are forgotten, which costs a HEAD."""

    def __init__(self, most: int = MOST_NAMES) -> None:
        """Remember at most `most`."""
        self._most = most
        self._known: OrderedDict[tuple[str, str], KnownManifest] = OrderedDict()

    def get(self, name: str, ref: str) -> KnownManifest:
        """Return what is known."""
        found = self._known.get((name, ref))
        if found is None:
            return NOTHING
        self._known.move_to_end((name, ref))
        return found

    def put(self, name: str, ref: str, known: KnownManifest) -> None:
        """Remember it."""
        self._known[name, ref] = known
        self._known.move_to_end((name, ref))
        if len(self._known) > self._most:
            self._known.popitem(last=False)


class KnownBlobs:
    """Sizes of blobs by repository and digest: a manifest of the repository names them, or upstream showed them there.

    The difference matters for content that our credentials may have brought here: anybody can write a manifest that
    names the blob of somebody else.
    """

    def __init__(self, most: int = MOST_BLOBS) -> None:
        """Remember at most `most`."""
        self._most = most
        self._sizes: OrderedDict[tuple[str, Digest], tuple[int, bool]] = OrderedDict()

    def size(self, name: str, digest: Digest) -> int | None:
        """Return the size of a blob of a repository, or None where nothing is known of it."""
        return self._find(name, digest)[0]

    def shown(self, name: str, digest: Digest) -> bool:
        """Whether upstream itself has shown a blob in a repository."""
        return self._find(name, digest)[1]

    def named(self, name: str, blobs: Iterable[Descriptor]) -> None:
        """Note that a manifest of a repository names these blobs."""
        for blob in blobs:
            self._put(name, blob.digest, blob.size, shown=self.shown(name, blob.digest))

    def saw(self, name: str, digest: Digest, size: int) -> None:
        """Note that upstream has shown a blob in a repository."""
        self._put(name, digest, size, shown=True)

    def _find(self, name: str, digest: Digest) -> tuple[int, bool] | tuple[None, bool]:
        found = self._sizes.get((name, digest))
        if found is None:
            return None, False
        self._sizes.move_to_end((name, digest))
        return found

    def _put(self, name: str, digest: Digest, size: int, *, shown: bool) -> None:
        self._sizes[name, digest] = size, shown
        self._sizes.move_to_end((name, digest))
        if len(self._sizes) > self._most:
            self._sizes.popitem(last=False)
