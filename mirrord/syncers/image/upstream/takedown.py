"""Finds what is taken down with an image: its digests, what mirrors have of it, and what only people can remove."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from mirrord.blobs.purge import purge
from mirrord.blobs.store import read_stored
from mirrord.errors import MirrordError
from mirrord.model.digest import Digest
from mirrord.model.memory import Memory
from mirrord.model.takedown import UNRECORDED, LeftName
from mirrord.names.denied import Denied, DeniedEntry, parted
from mirrord.syncer.takedown import Meant, Moves, Purged, TakedownWish
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.image.kept import open_target
from mirrord.syncers.image.kept.purge import denied_in, recorded
from mirrord.syncers.image.names import image_name, is_many, places, source_reference
from mirrord.syncers.image.plan.called import called
from mirrord.syncers.image.plan.denied import source_name
from mirrord.syncers.image.plan.many import with_key
from mirrord.syncers.image.plan.takedown import DeniedName, LeftThere, TakedownSurvey, named, written_names
from mirrord.syncers.image.upstream.left_files import left_in_files
from mirrord.syncers.image.upstream.many import parts_of
from mirrord.syncers.image.upstream.parents import left_in_indexes
from mirrord.syncers.image.upstream.survey import LOOKS, PATIENCE
from mirrord.transfer.fanout import Workers
from mirrord.transfer.tagged import Place, tags_of
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.manifest import LIMIT, Manifest
from mirrord.wire.oci.reference import Reference
from mirrord.wire.offload import offload

_BY_HAND: Final = "it is there, and the ledger does not say that mirrord wrote it; remove it by hand"
_ADOPTABLE: Final = f"the content that was taken down is there, {UNRECORDED}"
_NO_LEDGER: Final = "the ledger does not say what mirrord wrote there; remove by hand what is there of it"
_READ: Final = 100  # images that a source is asked for, to know their platforms; it may count each as a pull


@dataclass(frozen=True, slots=True)
class _Part:
    """A mirror of one repository that has what was taken down, by its name at the source or at a target."""

    mirror: Mirror
    key: str  # in a mirror of many, else ""
    source: str


def _parts(mirror: Mirror, names: AbstractSet[str] | None) -> Iterator[_Part]:
    """Yield the repositories of a mirror that are called so at their source or at a target, or all. May read a list."""
    for one in parts_of(mirror).mirrors if is_many(mirror) else (mirror,):
        with suppress(MirrordError):
            source = source_name(one)
            if names is None or {source, *places(one)[1].values()} & names:
                yield _Part(one, source if is_many(mirror) else "", source)


async def survey(
    wish: TakedownWish, mirror: Mirror, services: Services, _memory: Memory, _now: datetime
) -> TakedownSurvey:
    """Look what a mirror has of what was taken down, by its ledger, and what else is where that would be."""
    entry, moves = wish.entry, await services.ledger.newest()
    found = await asyncio.to_thread(lambda: [*written_names(mirror, moves, entry)])
    known = {(one.target, one.key, one.tag) for one in found}
    written, recorded = {(one.target, one.key) for one in found}, {one.target for one in found}
    name, tag = parted(entry.image)
    near, _, by_digest = ("", "", "") if name or entry.whole else wish.near.partition("@")
    left: list[LeftThere] = []

    async def look(part: _Part, target: Target) -> None:
        if entry.whole and target.name in recorded:
            return  # what the ledger does not have is of others
        if target.name == LOCAL or (tag and (target.name, part.key, tag) in known):
            return  # what is here went at once, or is listed
        place = open_target(part.mirror, target, services)
        remote = isinstance(place, Repository)
        at = place.reference.name if isinstance(place, Repository) else place.repository
        ours = (target.name, part.key) in written  # what has no tag there goes with what the ledger has
        digests = () if ours or not remote else [by_digest] if by_digest else entry.digests
        try:
            refs = await _there(place, tag, digests, tags=not (by_digest and remote))
            strange = {ref: one for ref, one in refs.items() if (target.name, part.key, ref) not in known}
            unasked = [ref for ref, one in strange.items() if one is None]
            heads = {**strange, **({} if entry.whole else await _heads(place, unasked))}
        except MirrordError as error:
            left.append(LeftThere(target.name, at, f"it cannot be asked: {error}"))
            return
        if entry.whole:
            left.extend([LeftThere(target.name, at, _NO_LEDGER)] if refs else [])
            return
        for ref, digest in ((ref, digest) for ref, digest in heads.items() if digest):
            what = f"{at}{'@' if ':' in ref else ':'}{ref}"
            if digest not in entry.digests:
                left.extend([] if by_digest else [LeftThere(target.name, what, _BY_HAND)])
            elif wish.adopt:
                item = with_key(part.key, ref) if part.key else ref
                found.append(DeniedName(target.name, part.key, "" if ":" in ref else ref, digest, item))
            else:
                left.append(LeftThere(target.name, what, _ADOPTABLE))

    names = {name or near} if name or near else None
    asked = entry.whole or names
    parts = await asyncio.to_thread(lambda: [*_parts(mirror, names)]) if asked else ()
    at = [(part, target) for part in parts for target in part.mirror.targets]
    await Workers(LOOKS).each(at, lambda one: look(*one))
    return TakedownSurvey(entry, found, sorted(left, key=lambda one: (one.target, one.what)))


async def _there(place: Place, tag: str, digests: Sequence[str], *, tags: bool) -> Mapping[str, Digest | None]:
    """Return what a repository has, and what that stands for, None for not asked.

    It is the tag, or all `tags`; where it has none, the digests that it has.
    """
    if tag:
        found: Mapping[str, Digest | None] = await _heads(place, [tag])
    else:
        found = dict.fromkeys(await tags_of(place)) if tags else {}
    return found or await _heads(place, digests)


async def _heads(place: Place, refs: Sequence[str]) -> Mapping[str, Digest]:
    """Return those of some tags and digests that are there, and what they stand for."""
    found: dict[str, Digest] = {}

    async def look(ref: str) -> None:
        if head := await place.head_manifest(ref, PATIENCE):
            found[ref] = head.digest

    await Workers(LOOKS).each(refs, look)
    return found


async def find(text: str, services: Services, moves: Mapping[str, Moves]) -> Meant:
    """Return what a name means that a person types, at its source or at a target, and the digests that are known of it.

    Raises:
        UsageError: it is no reference.
    """
    reference = services.names.canonical(services.names.meant(text))
    mirrors = services.mirrors.get("image", ())
    found = await asyncio.to_thread(lambda: [part for one in mirrors for part in _parts(one, {reference.name})])
    name = next((part.source for part in found if part.source), reference.name)
    origin = next((source_reference(part.mirror) for part in found if part.source), reference)
    origin = replace(origin, tag=reference.tag, digest=reference.digest)  # where it is read, whatever it is called
    if reference.digest:
        digests, remark = await _with_parts([reference.digest], origin, services)
        left, within = await left_in_indexes(reference.digest, reference.name, services, moves)
        near = "" if left else f"{reference.name}@{reference.digest}"  # what indexes have stays with them
        left = [*left, *await left_in_files(digests, services)]
        return Meant(DeniedEntry(0, "", digests=digests, within=within), remark, left, near)
    image = f"{name}:{reference.tag}" if reference.tag else name
    tops, others = await asyncio.to_thread(_of_ledger, mirrors, moves, {name, reference.name}, reference.tag)
    for part in found:
        for tag, digest in (await _local_tags(part.mirror, services)).items():
            (tops if reference.tag in (None, tag) else others).add(digest)
    if reference.tag:
        tops |= await _at_source(origin, services)
    else:
        tops -= others  # somebody else's image under a name of theirs
    digests, remark = await _with_parts(sorted(tops), origin, services)
    return Meant(DeniedEntry(0, "", image, digests), remark, await left_in_files(digests, services))


def _of_ledger(
    mirrors: Sequence[Mirror], moves: Mapping[str, Moves], names: Collection[str], tag: str | None
) -> tuple[set[Digest], set[Digest]]:
    """Return the digests that the image has at targets, and those of everything else."""
    tops, others = set[Digest](), set[Digest]()
    for mirror in mirrors:
        name_of = called(mirror)
        for (target, name), move in moves.get(mirror.name, {}).items():
            source, there = name_of(name)
            own = [named(source), named(there.get(target, ""))]
            matches = any(one in names and tag in (None, ref) for one, ref in own)
            if digest := (move.after or move.before) if matches else move.after:
                (tops if matches else others).add(Digest(digest))
    return tops, others


async def _local_tags(mirror: Mirror, services: Services) -> Mapping[str, Digest]:
    repositories = services.repositories
    state = await repositories.state(image_name(mirror)) if repositories else None
    return state.tags if state else {}


async def _at_source(reference: Reference, services: Services) -> set[Digest]:
    """Return what a tag is at its source now, if that answers."""
    with suppress(MirrordError):
        head = await Repository(services.http, reference).head_manifest(reference.tag or "", PATIENCE)
        return {head.digest} if head else set()
    return set()


async def _with_parts(tops: Sequence[Digest], reference: Reference, services: Services) -> tuple[Sequence[Digest], str]:
    """Return digests with the manifests that they refer to, unless something else in `local` refers to these.

    Also a remark where that is not known of some.
    """
    parts, unread, source = set[Digest](), list[Digest](), Repository(services.http, reference)
    troubles: list[MirrordError] = []

    async def in_local(top: Digest) -> None:
        with suppress(MirrordError):  # what is damaged, the source may still have
            if stored := await services.blobs.find(top) if services.blobs else None:
                body = await read_stored(stored, LIMIT)
                note(await offload(len(body), Manifest.parse, body, "", top))
                return
        unread.append(top)

    async def at_source(top: Digest) -> None:
        try:
            note(await source.get_manifest(top, PATIENCE))
        except MirrordError as error:
            troubles.append(error)

    def note(manifest: Manifest) -> None:
        parts.update(child.digest for child in manifest.children if child.is_manifest)

    await Workers(LOOKS).each(tops, in_local)
    await Workers(LOOKS).each(unread[:_READ], at_source)
    needed = await _needed_in_local({*tops, *parts}, services) if parts else ()
    remark = _unknown(len(tops), len(unread[_READ:]), troubles)
    return tuple(dict.fromkeys((*tops, *sorted(part for part in parts if part not in needed)))), remark


def _unknown(images: int, unasked: int, troubles: Sequence[MirrordError]) -> str:
    if not unasked and not troubles:
        return ""
    whys = [f"a source is asked for {_READ} images at most"] if unasked else []
    whys += [str(troubles[0])] if troubles else []
    lacking = f"the platforms of {unasked + len(troubles)} of {images} images are not known, and not denied by digest"
    return f"{lacking}: {'; '.join(whys)}"


async def _needed_in_local(doomed: Collection[Digest], services: Services) -> Collection[Digest]:
    """Return what manifests of `local` refer to that are not taken down, and what their tags name."""
    needed: set[Digest] = set()
    for name in await services.repositories.names() if services.repositories else ():
        state = await services.repositories.state(name) if services.repositories else None
        if state is not None:
            needed |= {digest for digest in state.tags.values() if digest not in doomed}
            needed |= {ref for digest, link in state.manifests.items() if digest not in doomed for ref in link.refs}
    return needed


def concerned(wish: TakedownWish, mirror: Mirror, moves: Moves) -> bool:
    """Whether a mirror may have what was taken down at a target. May read a list of images."""
    entry = wish.entry
    if entry.whole == mirror.name or next(written_names(mirror, moves, entry), None):
        return True
    name = parted(entry.image)[0] or wish.near.partition("@")[0]
    return bool(name) and any(_parts(mirror, {name}))


async def purge_local(denied: Denied, services: Services, brought: Collection[str] | None) -> Purged:
    """Remove from `local` what was taken down, at once; see `TakesDown.purge`."""
    if services.repositories is None or services.blobs is None:
        return Purged()
    sources, whole = await asyncio.to_thread(_local_repositories, denied, services.mirrors.get("image", ()))
    going = denied_in(denied, lambda name: sources.get(name, ()), whole)
    left: list[str] = []
    if brought is not None:
        going = recorded(going, denied, brought, left)
    gone = await purge(services.repositories, services.blobs, going, services.spools.cache.give_up)
    images = sorted(one for one in left if not one.startswith("_"))  # what has such a name is listed by its kind
    return Purged(gone, [LeftName("", LOCAL, one, UNRECORDED) for one in images])


def _local_repositories(
    denied: Denied, mirrors: Sequence[Mirror]
) -> tuple[Mapping[str, Sequence[str]], Collection[str]]:
    """Return what each repository of `local` has copies of, and those of mirrors that were taken down."""
    sources: dict[str, list[str]] = {}
    whole, others = set[str](), set[str]()
    for mirror in mirrors:
        for one in parts_of(mirror).mirrors if is_many(mirror) else (mirror,):
            with suppress(MirrordError):
                name = image_name(one)
                (whole if denied.mirror(mirror.name) else others).add(name)
                if source := source_name(one):
                    sources.setdefault(name, []).append(source)
    return sources, whole - others
