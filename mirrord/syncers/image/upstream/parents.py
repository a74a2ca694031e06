"""Finds the indexes at targets that have an image which was taken down by its digest: they stay, and it with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mirrord.errors import MirrordError, MissingError
from mirrord.model.digest import Digest
from mirrord.model.ledger import LedgerEntry
from mirrord.model.takedown import LeftName
from mirrord.syncer.values import Mirror, Services
from mirrord.syncers.image.kept import open_target
from mirrord.syncers.image.names import Source, is_many
from mirrord.syncers.image.plan.called import called
from mirrord.syncers.image.plan.many import derived, key_of
from mirrord.syncers.image.plan.takedown import named
from mirrord.syncers.image.upstream.survey import LOOKS
from mirrord.transfer.fanout import Workers

MOST: Final = 1000  # manifests that targets are asked for
Moves = Mapping[str, Mapping[tuple[str, str], LedgerEntry]]


@dataclass(frozen=True, slots=True)
class _Image:
    """An image at a target, as the ledger says: some names of one digest in one repository."""

    name: str  # of the mirror
    target: str
    key: str  # the repository of a mirror of many, else ""
    digest: Digest
    mirror: Mirror = field(compare=False, repr=False)


async def left_in_indexes(digest: Digest, name: str, services: Services, moves: Moves) -> Sequence[LeftName]:
    """Return the names of indexes that have it, and what could not be looked at; repositories called `name` come first.

    What `local` links is known; of anything else the target is asked.
    """
    images: dict[_Image, list[str]] = defaultdict(list)
    near = set[_Image]()
    for image, item, close in _images(services.mirrors.get("image", ()), moves, name):
        if image.digest != digest:
            images[image].append(item)
            near |= {image} if close else set()
    known = await _links(services)
    found: list[LeftName] = []

    def have(image: _Image, refs: Sequence[Digest]) -> None:
        if digest in refs:
            why = f"it is an index that has {digest}, and stays there with it; take down {image.digest}, too"
            found.extend(LeftName(image.name, image.target, item, why) for item in images[image])

    async def ask(image: _Image) -> None:
        try:
            have(image, await _refs(image, services))
        except MirrordError as error:
            why = f"whether it has {digest} is not known: {error}"
            found.extend(LeftName(image.name, image.target, item, why) for item in images[image])

    unknown: list[_Image] = []
    for image in sorted(images, key=lambda one: (one not in near, one.name, one.target, one.key, one.digest)):
        if (refs := known.get(image.digest)) is not None:
            have(image, refs)
        else:
            unknown.append(image)
    await Workers(LOOKS).each(unknown[:MOST], ask)
    if rest := len(unknown[MOST:]):
        what, why = f"{rest} more images", f"whether they have {digest} is not known: only {MOST} were asked for"
        found.append(LeftName("", "", what, why))
    return sorted(found, key=lambda one: (one.mirror == "", one.mirror, one.target, one.what))


def _images(mirrors: Sequence[Mirror], moves: Moves, name: str) -> Iterator[tuple[_Image, str, bool]]:
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


async def _refs(image: _Image, services: Services) -> Sequence[Digest]:
    """Ask a target for the manifests in an image. Raises MirrordError: it cannot be asked."""
    mirror = derived(image.mirror, Source(repository=image.key)).mirror if image.key else image.mirror
    place = open_target(mirror, next(one for one in mirror.targets if one.name == image.target), services)
    try:
        manifest = await place.get_manifest(image.digest)
    except MissingError:  # it is not there any more
        return ()
    return [child.digest for child in manifest.children]
