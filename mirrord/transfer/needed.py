"""What the tags of a repository need, for registries that delete a manifest only with all its tags."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from mirrord.errors import MissingError
from mirrord.model.digest import Digest
from mirrord.transfer.fanout import Workers
from mirrord.transfer.tagged import Place, tags_of
from mirrord.wire.oci.descriptor import INDEXES, Descriptor

AT_ONCE: Final = 8  # requests to one registry
_SHARE: Final = 4  # a look lasts for a quarter of as many deletions as there are tags, so that the work stays linear


class Needs:
    """Looks at all tags again and again: somebody may set one at any time, to what is about to be deleted.

    A look lasts for eight deletions, or a quarter of as many as there are tags. The protocol has no deletion on a
    condition: a tag that is set between a look and the last of its deletions is not seen, and goes with it.
    """

    def __init__(self, place: Place, goes: Callable[[str, Digest], bool]) -> None:
        """Look at a repository; `goes` says of a tag and what it stands for whether it is to be removed."""
        self._place, self._goes = place, goes
        self._needed: Mapping[Digest, str] = {}
        self._parts: dict[Digest, Sequence[Descriptor]] = {}  # of indexes, which never change
        self._left = 0

    def moved(self) -> None:
        """Look again before the next deletion."""
        self._left = 0

    async def share(self, digests: Sequence[Digest]) -> Sequence[Digest]:
        """Return the first of `digests`, at least one, which may be deleted before the next look.

        Raises:
            MirrordError: a tag could not be looked at.
        """
        if self._left <= 0:
            await self.look()
        some = digests[: self._left]
        self._left -= len(some)
        return some

    def by(self, digest: Digest) -> str | None:
        """Return a tag that needs a manifest, as of the last look."""
        return self._needed.get(digest)

    async def look(self) -> None:
        """Find what the tags that stay need, directly or through an index: one HEAD for each tag that is listed.

        What has no tag at all cannot be listed, and counts as nothing.

        Raises:
            MirrordError: the tags cannot be listed, or one cannot be looked at.
        """
        self._left = 0
        needed: dict[Digest, str] = {}

        async def look(tag: str) -> None:
            head = await self._place.head_manifest(tag)
            left = [head] if head and not self._goes(tag, head.digest) else []
            while left:
                fresh = [one for one in left if one.digest not in needed]
                needed.update(dict.fromkeys((one.digest for one in fresh), tag))
                left = []
                for index in (one for one in fresh if one.media_type in INDEXES):
                    left += await self._children(index.digest)

        listed = await tags_of(self._place)
        await Workers(AT_ONCE).each(listed, look)
        self._needed = needed
        self._left = max(AT_ONCE, len(listed) // _SHARE)

    async def _children(self, index: Digest) -> Sequence[Descriptor]:
        if index not in self._parts:
            with suppress(MissingError):  # its tag went meanwhile, or it lacks a platform
                self._parts[index] = (await self._place.get_manifest(index)).children
        return self._parts.get(index, ())
