"""Removes at targets what was taken down: its names, its manifest, and the manifests that only it reaches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from mirrord import failpoints
from mirrord.errors import MirrordError, MissingError, RefusedError
from mirrord.model.digest import Digest
from mirrord.model.plan import Plan, Step
from mirrord.model.run import Outcome, Receipt
from mirrord.names.denied import DeniedEntry
from mirrord.syncer.port import OnReceipt
from mirrord.syncer.values import Ledger, Mirror, Services, Target
from mirrord.syncers.image.kept import open_target
from mirrord.syncers.image.names import Source
from mirrord.syncers.image.plan.many import derived
from mirrord.syncers.image.transfer.many import ledger_of
from mirrord.transfer.execute import failed
from mirrord.transfer.fanout import Workers
from mirrord.transfer.removal import AT_ONCE, remove
from mirrord.transfer.tagged import Place, tags_of
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import INDEXES, Descriptor
from mirrord.wire.oci.tags import delete_manifest


class TakedownSession:
    """Implements `mirrord.syncer.port.Session`; nothing is read from the source."""

    read = 0

    def __init__(self, mirror: Mirror, entry: DeniedEntry, services: Services) -> None:
        """Remove what the mirror has at its targets of what an entry denies."""
        self._mirror, self._entry, self._services = mirror, entry, services

    async def execute(self, batch: Sequence[Step], on_receipt: OnReceipt) -> None:
        """Remove the names of one repository at one target."""
        first, ledger = batch[0], self._services.ledger
        target = next(one for one in self._mirror.targets if one.name == first.target)
        key = first.group.partition("\n")[2]
        mirror = self._mirror
        if key:
            mirror, ledger = derived(mirror, Source(repository=key)).mirror, ledger_of(ledger, key)
        place = open_target(mirror, target, self._services)
        names = {step.names[0]: Digest.parse(step.digest) for step in batch if step.names}
        removal = _Takedown(target, place, ledger, self._entry)
        outcomes = await removal.run(names, frozenset(Digest.parse(step.digest) for step in batch))
        for step in batch:
            error, remark = outcomes.get(step.names[0] if step.names else step.digest), removal.remark
            gone = Receipt(step, Outcome.DONE, remark=f"{step.target}: {remark}" if remark else "")
            on_receipt(gone if error is None else failed(step, error))


@asynccontextmanager
async def opened(mirror: Mirror, plan: Plan, services: Services) -> AsyncIterator[TakedownSession]:
    """Begin a run; see `Syncer.open`."""
    yield TakedownSession(mirror, plan.decisions.entry, services)


class _Takedown:
    """What is taken down in one repository at one target."""

    def __init__(self, target: Target, place: Place, ledger: Ledger, entry: DeniedEntry) -> None:
        self._target, self._place, self._ledger, self._entry = target, place, ledger, entry
        self.remark = ""

    async def run(self, names: Mapping[str, Digest], doomed: Collection[Digest]) -> Mapping[str, MirrordError | None]:
        """Remove names, and the manifests `doomed`; return by name and digest why it is still there, None where not."""
        place = self._place
        others = await tags_of(place) if isinstance(place, Repository) else ()
        asked = await self._heads(dict.fromkeys((*names, *others)))
        await self._note_gone({name: digest for name, digest in names.items() if asked[name] is None})
        if not isinstance(place, Repository):
            return await remove(self._target.name, place, names, self._ledger, heads=asked)
        heads = {tag: head for tag, head in asked.items() if head}
        denied = set[Digest]() if self._entry.mirror else {*doomed}  # others may have the images of a mirror, too
        same = {tag: head.digest for tag, head in heads.items() if head.digest in denied and tag not in names}
        parts = ({*self._entry.digests} | await self._children(doomed)) - {*doomed}
        left = {*doomed} - {*names.values()}
        outcomes = dict(await remove(self._target.name, place, {**same, **names}, self._ledger, left=left, heads=asked))
        kept = {names[name] for name, error in outcomes.items() if error is not None and name in names}
        stays = [head for tag, head in heads.items() if head.digest not in denied and names.get(tag) != head.digest]
        needed = kept | {head.digest for head in stays}
        needed |= await self._children([*kept, *(head.digest for head in stays if head.media_type in INDEXES)])
        for digest in {*doomed} - needed:
            if error := await self._delete(digest):
                outcomes |= {name: error for name in (*names, digest) if names.get(name, name) == digest}
        ends = [await self._delete(digest) for digest in sorted(parts - needed)]
        if there := [error for error in ends if error]:
            said = "of its platforms stay there by digest until the registry collects them"
            self.remark = f"{len(there)} {said}: {there[0]}"
        return outcomes

    async def _note_gone(self, names: Mapping[str, Digest]) -> None:
        """Write into the ledger which names are gone already: those of `local` went at once, and others by hand."""
        async with self._ledger.moving(self._target.name, {name: (digest, None) for name, digest in names.items()}):
            pass

    async def _heads(self, tags: Iterable[str]) -> Mapping[str, Descriptor | None]:
        found: dict[str, Descriptor | None] = {}

        async def look(tag: str) -> None:
            found[tag] = await self._place.head_manifest(tag)

        await Workers(AT_ONCE).each(tags, look)
        return found

    async def _children(self, digests: Collection[Digest]) -> set[Digest]:
        """Return all manifests that these indexes reach; none of those that are gone."""
        found, left = set[Digest](), [*digests]
        while left:
            try:
                manifest = await self._place.get_manifest(left.pop())
            except MissingError:
                continue
            fresh = [child for child in manifest.children if child.digest not in found]
            found |= {child.digest for child in fresh}
            left += [child.digest for child in fresh if child.media_type in INDEXES]
        return found

    async def _delete(self, digest: Digest) -> MirrordError | None:
        """Delete a manifest; return why it is still there."""
        assert isinstance(self._place, Repository)
        if await self._place.head_manifest(digest) is None:
            return None
        try:
            await delete_manifest(self._place, digest)
        except RefusedError as error:
            return RefusedError(f"{digest} can still be pulled by digest: {error}", error.status)
        failpoints.hit("takedown.manifest")
        return None
