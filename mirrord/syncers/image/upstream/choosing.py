"""Chooses tags of a repository: lists them, finds the dates that matter, and decides."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mirrord.errors import ContentError, RefusedError
from mirrord.model.digest import Digest
from mirrord.model.plan import TagVerdict
from mirrord.plan.choice import Choice, Choosing
from mirrord.syncer.values import Facts
from mirrord.transfer.fanout import Workers
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.created import created_at, moment
from mirrord.wire.oci.descriptor import Descriptor

AT_ONCE: Final = 64  # tags; the host's `requests` limits parallel requests

AskDates = Callable[[Repository, Collection[str]], Awaitable[Mapping[str, datetime]]]
"""Asks a registry's own API for the dates of tags; returns those that it knows."""


@dataclass(frozen=True, slots=True)
class ChosenTags:
    """What a choice leads to."""

    tags: Sequence[str]  # the chosen ones, in the registry's order
    verdicts: Sequence[TagVerdict]  # of every tag
    remarks: Sequence[str]  # patterns that match no tag, unknown dates
    heads: Mapping[str, Descriptor]  # of tags that were asked for on the way


class TagDates:
    """Finds when the images of tags were made: from the registry's API, else from their annotations and configs.

    What an image says never changes, so it is noted by digest for the next run. Each note has only the digests of the
    tags that were asked for, and so stays small.
    """

    def __init__(
        self, repository: Repository, facts: Facts | None = None, mirror: str = "", ask: AskDates | None = None
    ) -> None:
        """Ask nothing yet; without `facts` nothing is noted."""
        self._repository, self._facts, self._mirror, self._ask = repository, facts, mirror, ask
        self._name = f"created:{repository.reference.name}"
        self._known: Mapping[str, str] | None = None
        self._seen: dict[str, str] = {}
        self.heads: dict[str, Descriptor] = {}

    async def find(self, tags: Collection[str]) -> Mapping[str, datetime | None]:
        """Return the date of each tag, or None. A new image costs a HEAD and two GETs, a known one a HEAD.

        Raises:
            TransportError: the registry fails or limits the rate: a tag of unknown date would be judged wrongly.
        """
        found: dict[str, datetime | None] = dict(await self._ask(self._repository, tags)) if self._ask else {}
        if self._known is None:
            self._known = await self._facts.recall(self._mirror, self._name) if self._facts else {}
        left = [tag for tag in tags if tag not in found]
        await Workers(AT_ONCE).each(left, self._look)
        digests = {tag: self.heads[tag].digest for tag in left if tag in self.heads}
        for digest in digests.values():
            if digest in self._known:
                self._seen[digest] = self._known[digest]
        # Several tags may have one image, which is read once.
        await Workers(AT_ONCE).each(
            [one for one in dict.fromkeys(digests.values()) if one not in self._seen], self._read
        )
        return found | {tag: moment(self._seen[digests[tag]]) if tag in digests else None for tag in left}

    async def keep(self) -> None:
        """Note what was read, also after an error: the next run goes on from there."""
        if self._facts and self._seen:
            await self._facts.note(self._mirror, self._name, self._seen)

    async def _look(self, tag: str) -> None:
        """Ask what a tag points to; one that cannot be read has no date, and is reported if it is chosen."""
        with suppress(RefusedError, ContentError):
            if head := await self._repository.head_manifest(tag):
                self.heads[tag] = head

    async def _read(self, digest: Digest) -> None:
        created = await created_at(self._repository, digest)
        self._seen[digest] = created.isoformat() if created else ""


async def choose_tags(repository: Repository, choice: Choice, dates: TagDates, now: datetime) -> ChosenTags:
    """List the tags of a repository and choose from them. Dates are found only for tags that names do not leave out.

    Raises:
        MirrordError: the tags cannot be listed, or their dates not be found.
    """
    listed = [tag async for tag in repository.tags()]
    choosing = await asyncio.to_thread(Choosing, listed, choice)
    known: dict[str, datetime | None] = {}
    depth = 1
    try:
        while await asyncio.to_thread(choosing.undated, known, now):
            known |= await dates.find(await asyncio.to_thread(choosing.undated, known, now, depth))
            depth *= 2
    finally:
        await dates.keep()
    verdicts = await asyncio.to_thread(choosing.verdicts, known, now)
    remarks = await asyncio.to_thread(lambda: tuple(choosing.remarks(verdicts, known)))
    return ChosenTags([one.tag for one in verdicts if one.chosen], verdicts, remarks, dates.heads)
