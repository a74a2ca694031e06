"""Finds the indexes at targets that have an image which was taken down by its digest: they stay, and it with them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mirrord.errors import MirrordError, MissingError, TooLargeError
from mirrord.model.digest import Digest
from mirrord.model.takedown import LeftName
from mirrord.syncer.takedown import Moves
from mirrord.syncer.values import Mirror, Services
from mirrord.syncers.image.kept import open_target
from mirrord.syncers.image.names import Source, is_many
from mirrord.syncers.image.plan.called import called
from mirrord.syncers.image.plan.many import derived, key_of
from mirrord.syncers.image.plan.takedown import named
from mirrord.syncers.image.upstream.survey import LOOKS
from mirrord.transfer.fanout import Workers
from mirrord.wire.oci.descriptor import INDEXES

MOST: Final = 1000  # manifests that targets are asked for


@dataclass(frozen=True, slots=True)
class _Image:
    """An image at a target, as the ledger says: some names of one digest in one repository."""

    name: str  # of the mirror
    target: str
    key: str  # the repository of a mirror of many, else ""
    digest: Digest
    mirror: Mirror = field(compare=False, repr=False)


async def left_in_indexes(
    digest: Digest, name: str, services: Services, moves: Mapping[str, Moves]
) -> tuple[Sequence[LeftName], Sequence[Digest]]:
    """Return the names of indexes that have it, and what could not be looked at; repositories called `name` come first.

    Also the digests of these indexes. An index may have it in another index. What `local` links is known; of anything
    else the target is asked.
    """
    images = await asyncio.to_thread(_others, services.mirrors.get("image", ()), moves, name, digest)
    known = await _links(services)
    above = await asyncio.to_thread(_above, digest, known)
    found: list[LeftName] = []
    within, inner = set[Digest](), _Inner(digest)

    def have(image: _Image) -> None:
        within.add(image.digest)
        why = f"it is an index that has {digest}, and stays there with it; take down {image.digest}, too"
        found.extend(LeftName(image.name, image.target, item, why) for item in images[image])

    async def ask(image: _Image) -> None:
        try:
            if await inner.reached(image, services):
                have(image)
        except MirrordError as error:
            why = f"whether it has {digest} is not known: {error}"
            found.extend(LeftName(image.name, image.target, item, why) for item in images[image])

    unknown: list[_Image] = []
    for image in images:
        if image.digest in above:
            have(image)
        elif image.digest not in known:
            unknown.append(image)
    await Workers(LOOKS).each(unknown[:MOST], ask)
    if rest := len(unknown[MOST:]):
        what, why = f"{rest} more images", f"whether they have {digest} is not known: only {MOST} were asked for"
        found.append(LeftName("", "", what, why))
    left = sorted(found, key=lambda one: (one.mirror == "", one.mirror, one.target, one.what))
    return left, sorted(within)


def _above(digest: Digest, links: Mapping[Digest, Sequence[Digest]]) -> Collection[Digest]:
    """Return what refers to a manifest, also through others. Blocks."""
    parents = defaultdict[Digest, list[Digest]](list)
    for parent, refs in links.items():
        for ref in refs:
            parents[ref].append(parent)
    found, due = set[Digest](), [digest]
    while due:
        fresh = {*parents[due.pop()]} - found
        found |= fresh
        due += fresh
    return found


def _others(
    mirrors: Sequence[Mirror], moves: Mapping[str, Moves], name: str, digest: Digest
) -> Mapping[_Image, Sequence[str]]:
    """Return what else is at targets, with what mirrors call it; repositories called `name` come first. Blocks."""
    images: dict[_Image, list[str]] = defaultdict(list)
    near = set[_Image]()
    for image, item, close in _images(mirrors, moves, name):
        if image.digest != digest:
            images[image].append(item)
            near |= {image} if close else set()
    order = sorted(images, key=lambda one: (one not in near, one.name, one.target, one.key, one.digest))
    return {image: images[image] for image in order}


def _images(mirrors: Sequence[Mirror], moves: Mapping[str, Moves], name: str) -> Iterator[tuple[_Image, str, bool]]:
    """Yield what is at targets, what the mirror calls it, and whether its repository is called `name`."""
    for mirror in mirrors:
        name_of, many = called(mirror), is_many(mirror)
        targets = {target.name for target in mirror.targets}
        for (target, item), move in moves.get(mirror.name, {}).items():
            if move.after and target in targets:
                source, places = name_of(item)
                close = name in (named(source)[0], named(places.get(target, ""))[0])
                key = key_of(item) if many else ""
                yield _Image(mirror.name, target, key, Digest(move.after), mirror), item, close


async def _links(services: Services) -> Mapping[Digest, Sequence[Digest]]:
    """Return what the manifests of `local` refer to."""
    repositories, found = services.repositories, dict[Digest, Sequence[Digest]]()
    for name in await repositories.names() if repositories else ():
        state = await repositories.state(name) if repositories else None
        found |= {digest: link.refs for digest, link in state.manifests.items()} if state else {}
    return found


class _Inner:
    """Asks targets whether images have one manifest."""

    def __init__(self, digest: Digest) -> None:
        self._digest = digest
        self._indexes = 0  # in other indexes, that were asked for

    async def reached(self, image: _Image, services: Services) -> bool:
        """Ask for an image, and for the indexes in it.

        Raises:
            MirrordError: it cannot be asked, or there are too many of them.
        """
        mirror = derived(image.mirror, Source(repository=image.key)).mirror if image.key else image.mirror
        place = open_target(mirror, next(one for one in mirror.targets if one.name == image.target), services)
        seen, due = {image.digest}, [image.digest]
        while due:
            try:
                children = (await place.get_manifest(due.pop())).children
            except MissingError:  # it is not there any more
                continue
            if any(child.digest == self._digest for child in children):
                return True
            fresh = [one.digest for one in children if one.media_type in INDEXES and one.digest not in seen]
            seen.update(fresh)
            due += fresh
            self._indexes += len(fresh)
            if self._indexes > MOST:
                raise TooLargeError(f"indexes have more than {MOST} others in them")
        return False
