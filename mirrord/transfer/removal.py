"""Takes names away at one place: only what still stands for what it is expected to, and nothing that others need.

The name goes before what is about its image, so that no name ever stands for an image whose signatures are gone. What
is about an image and has a tag of its own (cosign's, or the list of referrers) goes once no other name needs the image;
referrers without a tag are left to the registry, as the image itself is where tags can be deleted alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import Final

from mirrord import failpoints
from mirrord.errors import ContentError, GuardError, MirrordError, MissingError, RefusedError
from mirrord.model.digest import Digest
from mirrord.model.ledger import Settled
from mirrord.syncer.values import Ledger
from mirrord.transfer.fanout import Workers
from mirrord.transfer.needed import AT_ONCE, Needs
from mirrord.transfer.tagged import Place, tags_of
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import INDEXES, Descriptor
from mirrord.wire.oci.reference import referrers_tag, subject_tag
from mirrord.wire.oci.tags import delete_manifest, delete_tag
from mirrord.wire.vendors.deleting import TagDeleter, tag_deleter

Outcomes = Mapping[str, MirrordError | None]
"""By name why it is still there, None for one that is gone."""
Report = Callable[[str, MirrordError | None], None]
"""Told of each name as soon as its outcome is known."""

CHUNK: Final = 100  # names that one entry of the ledger is written for, and that a crash leaves to be looked at


async def remove(
    target: str,
    place: Place,
    names: Mapping[str, Digest],
    ledger: Ledger,
    report: Report = lambda *_: None,
    *,
    left: Collection[Digest] = (),
    heads: Mapping[str, Descriptor | None] = MappingProxyType({}),
    alone: bool = False,
) -> Outcomes:
    """Remove names from one repository at a target, and what is about images that no name is left of.

    Args:
        target: its name in the configuration, for the ledger.
        place: the repository.
        names: what each one is expected to stand for; one that stands for something else stays (`GuardError`).
        ledger: where each removal is written down before it happens.
        report: is told of each of `names`.
        left: images whose names were removed before: what is about them goes, too.
        heads: what tags stand for that the caller asked for just before, so that nobody asks for them twice at first.
        alone: what is about the images stays; it is not of this mirror.

    Returns:
        By name why it is still there: `GuardError` where it stands for something else, or where a registry deletes by
        digest only and another name needs that, `RefusedError` where the registry does not delete.

    Raises:
        StorageError: a removal cannot be recorded; nothing more is removed.
        MirrordError: the tags that the place has cannot be listed.
    """
    removal = _Removal(target, place, ledger, report)
    removal.known.update(heads)
    removal.alone = alone
    await removal.run(names, left)
    return removal.outcomes


class _Removal:
    def __init__(self, target: str, place: Place, ledger: Ledger, report: Report) -> None:
        self._target, self._place, self._ledger, self._report = target, place, ledger, report
        self.outcomes: dict[str, MirrordError | None] = {}
        self._names: Mapping[str, Digest] = {}
        self._about_them: Collection[str] = ()  # tags about images that lose a name
        self._needs = Needs(place, self._goes)
        self._indexes: set[Digest] = set()
        self._api: TagDeleter | None = None
        self.known: dict[str, Descriptor | None] = {}  # each is used once: later it may have moved
        self.alone = False
        self._by_digest = False  # whether this registry cannot delete a tag alone

    async def run(self, names: Mapping[str, Digest], left: Collection[Digest]) -> None:
        """Remove all of them."""
        self._names = names
        due = await self._still(names)
        if not due and not left:
            return
        if isinstance(self._place, Repository):
            self._api = await tag_deleter(self._place.http, self._place.reference)
        listed = await tags_of(self._place)
        about = await self._about({*due.values(), *left}, {tag for tag in listed if tag not in due})
        self._about_them = about.keys()
        indexes = {name: digest for name, digest in due.items() if digest in self._indexes}
        others = {name: digest for name, digest in due.items() if name not in indexes}
        for number, chunk in enumerate(_chunks(indexes)):  # no index outlives its parts
            await self._take(await self._again(chunk) if number else chunk)
        if any(self.outcomes[name] for name in indexes):
            self._needs.moved()  # an index that is still there needs its parts
        for number, chunk in enumerate(_chunks(others)):
            await self._take(await self._again(chunk) if number or indexes else chunk)
        stays = {digest for name, digest in due.items() if self.outcomes[name] is not None}
        orphans = [tag for tag, (top, _) in about.items() if top not in stays]
        if orphans:
            await self._needs.look()
            orphans = [tag for tag in orphans if not self._needs.by(about[tag][1])]
        heads = await self._heads(orphans)
        for chunk in _chunks({tag: head for tag, head in heads.items() if isinstance(head, Digest)}):
            await self._take(chunk)

    async def _again(self, chunk: Mapping[str, Digest]) -> Mapping[str, Digest]:
        """Return which names are as they were: with many of them hours may have passed since they were looked at."""
        still = await self._still(chunk)
        if len(still) < len(chunk):
            self._needs.moved()  # one that moved may need what the next chunk has
        return still

    async def _still(self, names: Mapping[str, Digest]) -> Mapping[str, Digest]:
        """Return the names that stand for what they are expected to, and end the others."""
        heads = await self._heads(names)
        for name, expected in names.items():
            head = heads[name]
            if head is None or isinstance(head, MirrordError):
                self._end(name, head)
            elif head != expected:
                self._end(name, _moved(name, head, expected))
        return {name: expected for name, expected in names.items() if heads[name] == expected}

    async def _heads(self, names: Iterable[str]) -> dict[str, Digest | MirrordError | None]:
        """Return what names stand for, None for nothing, or why that cannot be found out."""
        found: dict[str, Digest | MirrordError | None] = {}

        async def look(name: str) -> None:
            try:
                head = await self._head(name)
            except MirrordError as error:
                found[name] = error
            else:
                found[name] = head.digest if head else None
                self._indexes |= {head.digest} if head and head.media_type in INDEXES else set()

        await Workers(AT_ONCE).each(names, look)
        return found

    async def _head(self, name: str) -> Descriptor | None:
        return self.known.pop(name) if name in self.known else await self._place.head_manifest(name)

    def _end(self, name: str, error: MirrordError | None) -> None:
        self.outcomes[name] = error
        if name in self._names:
            self._report(name, error)

    async def _take(self, chunk: Mapping[str, Digest]) -> None:
        """Remove some names that were just looked at; a removal that cannot be recorded does not happen."""
        if not chunk:
            return
        moves = {name: (digest, None) for name, digest in chunk.items()}
        async with self._ledger.moving(self._target, moves) as settled:
            ends = await self._delete(chunk)
            for name, error in ends.items():
                if error is not None:
                    settled[name] = Settled.UNDONE if isinstance(error, RefusedError | GuardError) else Settled.OPEN
        for name, error in ends.items():
            self._end(name, error)

    async def _delete(self, chunk: Mapping[str, Digest]) -> Outcomes:
        if not isinstance(self._place, Repository):
            await self._place.remove(list(chunk))
            failpoints.hit("remove.tag")
            return dict.fromkeys(chunk)
        if self._api:
            found = dict(await self._api.delete(chunk))
            failpoints.hit("remove.tag")
            for name in [name for name, error in found.items() if isinstance(error, MissingError)]:
                found[name] = await self._unless_gone(name, chunk[name])
            return found
        ends: dict[str, MirrordError | None] = {}
        left = chunk
        if not self._by_digest:
            first = next(iter(chunk))
            self._by_digest = bool(await self._each(ends, self._delete_tag, {first: chunk[first]}))
        if not self._by_digest:
            left = await self._each(ends, self._delete_tag, {tag: chunk[tag] for tag in chunk if tag != first})
        if left:
            await self._by_digests(ends, left)
        return ends

    async def _unless_gone(self, name: str, expected: Digest) -> MirrordError | None:
        """Return why a tag is still there that an API does not find: it may have moved, or be hidden from us."""
        try:
            head = await self._place.head_manifest(name)
        except MirrordError as error:
            return error
        if head is None:
            return None
        if head.digest != expected:
            return _moved(name, head.digest, expected)
        return RefusedError(
            f"{name} stays: the registry has it, and its API does not find it; check what it lets us do"
        )

    async def _by_digests(self, ends: dict[str, MirrordError | None], names: Mapping[str, Digest]) -> None:
        """Delete the manifests of tags that cannot be deleted alone, and so all tags of each one."""
        gone: dict[str, MirrordError | None] = {}
        left: Sequence[Digest] = [*dict.fromkeys(names.values())]
        while left:
            try:
                some = await self._needs.share(left)
            except MirrordError as error:
                gone |= dict.fromkeys(left, error)
                break
            await self._each(gone, self._delete_manifest, {digest: digest for digest in some})
            left = left[len(some) :]
        ends |= {name: gone[digest] for name, digest in names.items()}

    async def _each(
        self, ends: dict[str, MirrordError | None], delete: Callable[[str], Awaitable[bool]], some: Mapping[str, Digest]
    ) -> Mapping[str, Digest]:
        """Delete some tags or manifests; return those which cannot be deleted in this way."""
        left: dict[str, Digest] = {}

        async def one(name: str) -> None:
            try:
                if not await delete(name):
                    left[name] = some[name]
                    return
            except MirrordError as error:
                ends[name] = error
            else:
                ends[name] = None
                failpoints.hit("remove.tag")

        await Workers(AT_ONCE).each(some, one)
        return left

    async def _delete_tag(self, tag: str) -> bool:
        assert isinstance(self._place, Repository)
        return await delete_tag(self._place, tag)

    async def _delete_manifest(self, digest: str) -> bool:
        assert isinstance(self._place, Repository)
        if other := self._needs.by(Digest(digest)):
            why = f"this registry deletes by digest only, and {other} needs {digest}, too"
            raise GuardError(f"{self._place.reference.name}: stays: {why}")
        await delete_manifest(self._place, Digest(digest))
        return True

    async def _about(self, tops: Collection[Digest], listed: Iterable[str]) -> Mapping[str, tuple[Digest, Digest]]:
        """Return the tags that are about images which lose a name, or about their parts: with image and subject."""
        tags: dict[str, list[str]] = {}
        for tag in listed:
            if subject := subject_tag(tag):
                tags.setdefault(subject, []).append(tag)
        found: dict[str, tuple[Digest, Digest]] = {}

        def match(top: Digest, subject: Digest) -> None:
            found.update(dict.fromkeys(tags.get(referrers_tag(subject), ()), (top, subject)))

        async def look(top: Digest) -> None:
            match(top, top)
            if len(found) < count:
                with suppress(MissingError, ContentError):
                    for child in (await self._place.get_manifest(top)).children:
                        match(top, child.digest)

        count = sum(map(len, tags.values()))
        await Workers(AT_ONCE).each(tops if tags and not self.alone else (), look)
        return found

    def _goes(self, tag: str, digest: Digest) -> bool:
        """Whether a tag is still to be removed, and stands for what it is expected to."""
        return tag not in self.outcomes and (tag in self._about_them or self._names.get(tag) == digest)


def _moved(name: str, head: Digest, expected: Digest) -> GuardError:
    return GuardError(f"{name} stays: it is {head} there now, and not {expected}")


def _chunks(names: Mapping[str, Digest]) -> Iterator[Mapping[str, Digest]]:
    """Yield all names some at a time, those of one digest together: a registry may delete them together only."""
    chunk: dict[str, Digest] = {}
    for _, same in groupby(sorted(names.items(), key=itemgetter(1, 0)), key=itemgetter(1)):  # no calls of ours
        chunk |= same
        if len(chunk) >= CHUNK:
            yield chunk
            chunk = {}
    if chunk:
        yield chunk
