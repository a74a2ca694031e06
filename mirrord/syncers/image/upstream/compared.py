"""Compares the targets of an image mirror with the record: names, trees, blobs, and bytes. The source is not asked."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from mirrord.errors import ContentError, MirrordError, MissingError, ThrottledError, UnreachableError
from mirrord.model.digest import Digest
from mirrord.model.memory import Memory
from mirrord.model.verification import Level
from mirrord.names.denied import Denied
from mirrord.syncer.inspection import Inspection
from mirrord.syncer.values import Mirror, Services, Target
from mirrord.syncers.image.names import Source, is_many
from mirrord.syncers.image.plan.many import by_part, derived, with_key
from mirrord.syncers.image.upstream.compared_about import About
from mirrord.syncers.image.upstream.compared_places import Place, place_of
from mirrord.transfer.execute import TURN
from mirrord.transfer.fanout import Workers, deliberate, together
from mirrord.wire.oci.descriptor import Descriptor

AT_ONCE: Final = 8
"""Requests to one target at once; the host's `requests` limits them further."""
_Answer = TypeVar("_Answer")


class _Ask(Protocol):
    async def __call__(self, question: Coroutine[Any, Any, _Answer]) -> _Answer:
        """Ask a target."""


async def look(mirror: Mirror, services: Services, inspection: Inspection) -> None:
    """Compare every target with the record; see `Verifies.look`."""
    await together(*(_at_target(mirror, target, services, inspection) for target in mirror.targets))


async def _at_target(mirror: Mirror, target: Target, services: Services, inspection: Inspection) -> None:
    """Look at one target; whatever fails there is a finding."""
    comparison = _Comparison(target.name, inspection, services.denied)
    try:
        if not is_many(mirror):
            named = {item: (item, seen.digest) for item, seen in inspection.items(target.name).items()}
            await comparison.repository(place_of(mirror, target, services), named)
        else:
            await comparison.workers.each(
                _parts(target, inspection), partial(_part, mirror, target, services, comparison)
            )
        if inspection.level is Level.BYTES:
            await comparison.read()
    except Exception as error:  # noqa: BLE001 - a bug that one target brings out is a finding there
        inspection.untold(target.name, "", deliberate(error))


def _parts(target: Target, inspection: Inspection) -> Iterable[tuple[str, Sequence[tuple[str, str]]]]:
    """Return for each repository of a mirror of many its key, and its items (as it calls them) with their digests."""
    memory = Memory({(target.name, item): seen for item, seen in inspection.items(target.name).items()})
    return [(key, [(item, seen.digest) for (_, item), seen in part.items()]) for key, part in by_part(memory).items()]


async def _part(
    mirror: Mirror,
    target: Target,
    services: Services,
    comparison: _Comparison,
    part: tuple[str, Sequence[tuple[str, str]]],
) -> None:
    """Look at one repository of a mirror of many."""
    key, items = part
    try:
        found = derived(mirror, Source(repository=key))
        place = place_of(found.mirror, target, services)
    except MirrordError as error:  # the configuration of today has no place for it
        for item, _ in items:
            comparison.inspection.untold(target.name, with_key(key, item), error)
        return
    tag = found.reference.tag if "@" in key else None  # read by its digest, called by its tag
    await comparison.repository(place, {with_key(key, item): (tag or item, digest) for item, digest in items})


class _Comparison:
    """The look at one target."""

    def __init__(self, target: str, inspection: Inspection, denied: Denied | None) -> None:
        self.inspection, self.workers, self._denied = inspection, Workers(AT_ONCE), denied
        self._target = target
        self._gone: MirrordError | None = None  # why the target is asked no more
        self._blobs: dict[str, tuple[Place, Descriptor, list[str]]] = {}  # with the items that need it

    async def repository(self, place: Place, named: Mapping[str, tuple[str, str]]) -> None:
        """Look at one repository; `named` has by item its name there (a tag, or its digest) and its digest."""
        right: dict[str, Digest] = {}

        async def look(item: str) -> None:
            name, digest = named[item]
            self.inspection.looked(self._target, item)
            try:
                there = await self._ask(place.digest_of(name))
            except MirrordError as error:
                self.inspection.failed(self._target, [item], "missing", error)
                return
            if there == digest:
                right[item] = Digest.parse(digest)
                if self._denied and (kept := self._denied.kept_in(digest)):
                    self.inspection.refused(self._target, item, f"{place.called(name)}: {kept[1]}")
            elif there is None:
                self.inspection.differs(self._target, item, "missing", f"{place.called(name)} is not there", digest)
            else:
                moved = f"{place.called(name)} is {there} there, and was {digest} when it was mirrored"
                self.inspection.differs(self._target, item, "moved", moved, digest)

        await self.workers.each(named, look)
        if self.inspection.level is not Level.NAMES and right:
            tree = _Tree(place, self._ask, self.workers)
            await tree.walk(right.values())
            await self._report(place, {item: [digest] for item, digest in right.items()}, tree)
            await self._about(place, right, tree)

    async def _about(self, place: Place, right: Mapping[str, Digest], tree: _Tree) -> None:
        """Look at the signatures and attestations that were carried with the images."""
        items = self.inspection.items(self._target)
        carried = {item: count for item in right if (count := items[item].referrers)}
        about = About(lambda subject: self._ask(place.about(subject, self.inspection.began)), self.workers)
        await about.look({item: tree.manifests_below(right[item]) for item in carried})
        for item, error in about.errors.items():
            self.inspection.untold(self._target, item, error)
        for item in about.more:
            self.inspection.untold(self._target, item, about.rest(place.called(item)))
        for item, found in about.found.items():
            if len(found) < carried[item] and item not in about.more:
                there = f"{len(found)} of {carried[item]} signatures and attestations of {place.called(item)} are there"
                self.inspection.differs(self._target, item, "signature", there)
        content = _Tree(place, self._ask, self.workers)
        await content.walk({digest for found in about.found.values() for digest in found})
        await self._report(place, about.found, content, "signature")

    async def _ask(self, question: Coroutine[Any, Any, _Answer]) -> _Answer:
        """Ask the target, unless it did not answer before."""
        if self._gone:
            question.close()
            raise self._gone
        try:
            return await question
        except (UnreachableError, ThrottledError) as error:
            self._gone = error
            raise

    async def _report(
        self, place: Place, right: Mapping[str, Sequence[Digest]], tree: _Tree, code: str | None = None
    ) -> None:
        """Report what is wrong below manifests, by its own code or this; and keep which blobs there are for `read`."""
        for number, (item, digests) in enumerate(right.items()):
            if not number % TURN:
                await asyncio.sleep(0)  # thousands of images must not block the loop
            for found in dict.fromkeys(found for digest in digests for found in tree.below(digest)):
                if wrong := tree.errors.get(found):
                    self.inspection.failed(self._target, [item], code or wrong[0], wrong[1], digest=found)
                elif blob := tree.blobs.get(found):
                    self._blobs.setdefault(found, (place, blob, []))[2].append(item)

    async def read(self) -> None:
        """Read and hash a sample of the blobs, one after the other."""
        sizes = {digest: blob.size for digest, (_, blob, _) in self._blobs.items()}
        for digest in self.inspection.sample(self._target, sizes):
            place, blob, items = self._blobs[digest]
            try:
                self.inspection.was_read(self._target, await self._ask(place.read(blob)))
            except MirrordError as error:
                code = "blob" if isinstance(error, MissingError) else "bytes"
                self.inspection.failed(self._target, items, code, error, digest)
                if self._gone:  # what is left is read the next time
                    return


class _Tree:
    """What is below some manifests of a repository."""

    def __init__(self, place: Place, ask: _Ask, workers: Workers) -> None:
        self._place, self._ask, self._workers = place, ask, workers
        self._refs: dict[Digest, Sequence[Digest]] = {}  # of each manifest, what it refers to
        self.blobs: dict[Digest, Descriptor] = {}
        self.errors: dict[Digest, tuple[str, MirrordError]] = {}

    async def walk(self, tops: Iterable[Digest]) -> None:
        """Read all manifests below these, each once, and look for all blobs."""
        left = {top: Descriptor("", top, 0) for top in tops}
        while left:
            lower: dict[Digest, Descriptor] = {}
            await self._workers.each(left.values(), partial(self._manifest, lower))
            known = self._refs.keys() | self.errors.keys()
            left = {digest: one for digest, one in lower.items() if digest not in known}
        await self._workers.each(list(self.blobs.values()), self._blob)

    async def _manifest(self, lower: dict[Digest, Descriptor], entry: Descriptor) -> None:
        """Read a manifest; what is none, and has an unknown type, is a blob, as for a copy."""
        try:
            manifest = await self._ask(self._place.manifest(entry.digest))
        except (MissingError, ContentError) as error:
            if entry.media_type and not entry.is_manifest:
                self.blobs[entry.digest] = entry
            else:
                self.errors[entry.digest] = "tree", error
            return
        except MirrordError as error:
            self.errors[entry.digest] = "tree", error
            return
        lower.update({child.digest: child for child in manifest.children})
        self.blobs.update({blob.digest: blob for blob in manifest.blobs})
        self._refs[entry.digest] = tuple(one.digest for one in (*manifest.children, *manifest.blobs))

    async def _blob(self, blob: Descriptor) -> None:
        try:
            await self._ask(self._place.check(blob))
        except MirrordError as error:
            self.errors[blob.digest] = "blob", error

    def manifests_below(self, top: Digest) -> Sequence[Digest]:
        """Return a manifest and those below it that could be read."""
        return [one for one in self.below(top) if one in self._refs]

    def below(self, top: Digest) -> Iterator[Digest]:
        """Yield a manifest and everything below it, each once."""
        seen, left = {top}, [top]
        while left:
            yield (found := left.pop())
            fresh = [one for one in self._refs.get(found, ()) if one not in seen]
            seen.update(fresh)
            left += fresh
