"""Compares what is about images at a place (signatures, attestations, SBOMs) with the record. The source is not asked.

The record has how many of them were carried with an image. An image without any costs no request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

from mirrord.errors import MirrordError, TooLargeError
from mirrord.model.digest import Digest
from mirrord.syncers.image.plan.steps import Referrer
from mirrord.transfer.fanout import Workers

MOST: Final = 1000
"""Manifests about one image that are looked at."""

Listing = Callable[[Digest], Awaitable[Sequence[Referrer]]]
"""Lists what is about a manifest."""


class About:
    """What is about images of one repository.

    Attributes:
        found: by item, the manifests that are about it; each as often as it is about something.
        errors: by item, why that could not be listed.
        more: items about which there is more than `MOST`, which is not looked at.
    """

    def __init__(self, listing: Listing, workers: Workers) -> None:
        self._listing, self._workers = listing, workers
        self.found: dict[str, Sequence[Digest]] = {}
        self.errors: dict[str, MirrordError] = {}
        self.more = set[str]()

    def rest(self, called: str) -> MirrordError:
        """Say of one of `more` what was not looked at."""
        text = f"more than {MOST} signatures and attestations are about {called}; the rest was not looked at"
        return TooLargeError(text)

    async def look(self, images: Mapping[str, Iterable[Digest]]) -> None:
        """List what is about images and about that in turn; `images` has by item its manifests."""

        async def one(item: str) -> None:
            try:
                self.found[item], more = await self._all(images[item])
                self.more |= {item} if more else set()
            except MirrordError as error:
                self.errors[item] = error

        await self._workers.each(images, one)

    async def _all(self, manifests: Iterable[Digest]) -> tuple[Sequence[Digest], bool]:
        """Return what is about manifests, and whether there may be more than was looked at."""
        left = [*manifests]
        asked, seen = set(left), set[tuple[Digest, Digest, str]]()
        while left and len(seen) <= MOST:
            subject = left.pop()
            for one in await self._listing(subject):
                digest = one.descriptor.digest
                seen.add((subject, digest, one.tag))
                if digest not in asked:
                    asked.add(digest)
                    left.append(digest)
        return [digest for _, digest, _ in sorted(seen)], bool(left)
