"""Identity of content: an algorithm and the hex digits of its hash."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from mirrord.errors import ContentError

if TYPE_CHECKING:
    from _hashlib import HASH

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class Digest(str):
    """`algorithm:hex`, checked: sha256 or sha512 in lower case (image-spec, descriptor.md#digests).

    A `Digest` is safe in a path or a URL. A plain string is not (CVE-2024-3727), so every
    digest from outside goes through `Digest.parse`.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Validate and wrap.

        Raises:
            ContentError: not `sha256:` and 64, or `sha512:` and 128, lower-case hex digits.
        """
        if not _DIGEST.fullmatch(text):
            message = f"not a digest: {text[:80]!r} (want sha256:<64 hex> or sha512:<128 hex>)"
            raise ContentError(message)
        return cls(text)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """Digest `data`."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    @property
    def algorithm(self) -> str:
        """`sha256` or `sha512`."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The part after the colon."""
        return self.partition(":")[2]

    def hasher(self) -> HASH:
        """Return a fresh hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)
