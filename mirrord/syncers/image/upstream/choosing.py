"""Chooses tags of a repository: lists them, finds the dates that matter, and decides."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from mirrord.errors import ContentError, MirrordError, RefusedError, ThrottledError
from mirrord.model.choice import Choice
from mirrord.model.digest import Digest
from mirrord.model.plan import TagVerdict
from mirrord.plan.choice import Choosing
from mirrord.syncer.values import Facts
from mirrord.syncers.image.upstream.registry import AT_ONCE
from mirrord.transfer.fanout import Workers
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.created import created_at, moment
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.paging import LeftOut

if TYPE_CHECKING:
    from mirrord.wire.vendors.known import TagTimes


@dataclass(frozen=True, slots=True)
class ChosenTags:
    """What a choice leads to."""

    tags: Sequence[str]  # the chosen ones, in the registry's order
    verdicts: Sequence[TagVerdict]  # of every tag
    remarks: Sequence[str]  # patterns that match no tag, unknown dates
    heads: Mapping[str, Descriptor]  # of tags that were asked for on the way
    pushed: Mapping[str, datetime]  # of chosen tags that may be settled, by the registry's API
    listed: Collection[str]  # all tags of the repository


class TagDates:
    """Finds how old tags are: when they were pushed, by the registry's API, else when their images say they were made.

    What an image says never changes, so it is noted by digest for the next run. Each note has only the digests of the
    tags that were asked for, and so stays small.
    """

    def __init__(self, repository: Repository, facts: Facts | None = None, mirror: str = "") -> None:
        """Ask nothing yet; without `facts` nothing is noted."""
        self._repository, self._facts, self._mirror = repository, facts, mirror
        self._times: TagTimes | None = None
        self.trouble = ""  # why the registry's API gave no dates
        self._name = f"created:{repository.reference.name}"
        self._known: Mapping[str, str] | None = None
        self._seen: dict[str, str] = {}
        self.heads: dict[str, Descriptor] = {}

    async def find(self, tags: Collection[str]) -> Mapping[str, datetime | None]:
        """Return the date of each tag, or None. A new image costs a HEAD and two GETs, a known one a HEAD.

        Raises:
            TransportError: the registry fails or limits the rate: a tag of unknown date would be judged wrongly.
        """
        found: dict[str, datetime | None] = dict(await self._pushed(tags))
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

    async def pushed(self, tags: Collection[str]) -> Mapping[str, datetime]:
        """Return when tags were pushed, as far as the registry's API says so."""
        with suppress(ThrottledError):
            return await self._pushed(tags)
        return {}

    async def keep(self) -> None:
        """Note what was read, also after an error: the next run goes on from there."""
        if self._facts and self._seen:
            await self._facts.note(self._mirror, self._name, self._seen)

    async def _pushed(self, tags: Collection[str]) -> Mapping[str, datetime]:
        """Return the dates of the registry's API; where that fails, those of the images are left."""
        from mirrord.wire.vendors.known import times_of  # noqa: PLC0415 - a copy starts without it

        if self._times is None and not self.trouble:
            self._times = times_of(self._repository.http, self._repository.reference)
        if self._times is None:
            return {}
        try:
            return await self._times.find(tags)
        except ThrottledError:
            raise
        except MirrordError as error:
            self._times, self.trouble = None, str(error)
            return {}

    async def _look(self, tag: str) -> None:
        """Ask what a tag points to; one that cannot be read has no date, and is reported if it is chosen."""
        with suppress(RefusedError, ContentError):
            if head := await self._repository.head_manifest(tag):
                self.heads[tag] = head

    async def _read(self, digest: Digest) -> None:
        created = await created_at(self._repository, digest)
        self._seen[digest] = created.isoformat() if created else ""


async def choose_tags(
    repository: Repository, choice: Choice, dates: TagDates, now: datetime, left_out: LeftOut | None = None
) -> ChosenTags:
    """List the tags of a repository and choose from them. Dates are found only for tags that names do not leave out.

    What is listed and is no tag is counted in `left_out`.

    Raises:
        MirrordError: the tags cannot be listed, or their dates not be found.
    """
    listed = [tag async for tag in repository.tags(left_out)]
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
    tags = [one.tag for one in verdicts if one.chosen]
    pushed = await dates.pushed(tags) if choice.settled is not None else {}
    remarks = await asyncio.to_thread(lambda: tuple(choosing.remarks(verdicts, known)))
    if dates.trouble:
        remarks = (f"dates are those of the images, since the registry's API gave none: {dates.trouble}", *remarks)
    return ChosenTags(tags, verdicts, remarks, dates.heads, pushed, listed)
