"""What a collection of `local` removed, or would remove."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gone:
    """A name, or a manifest without one, that went.

    Attributes:
        repository: in `local`.
        name: the tag, "" for a manifest that no tag names any more.
        digest: what it named.
        why: one clause.
        size: bytes that nothing else needs; content that several share counts for the first of them.
    """

    repository: str
    name: str
    digest: str
    why: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class Collected:
    """A collection.

    Attributes:
        gone: names and manifests.
        freed: bytes of all content that was removed.
        blobs: how much content that was.
        loose: bytes of that which no name needed before.
        kept: names that stay.
        troubles: what could not be looked at or removed, a sentence each.
        dry: whether nothing was removed.
        remark: why no name goes by `keep` at this time, or "".
    """

    gone: tuple[Gone, ...] = ()
    freed: int = 0
    blobs: int = 0
    loose: int = 0
    kept: int = 0
    troubles: tuple[str, ...] = ()
    dry: bool = False
    remark: str = ""
