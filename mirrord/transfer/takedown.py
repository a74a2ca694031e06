"""Removes from one repository what was taken down: names, manifests, and the manifests that only they reach."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from mirrord import failpoints
from mirrord.errors import GuardError, MirrordError, MissingError, RefusedError
from mirrord.model.digest import Digest
from mirrord.syncer.values import Ledger
from mirrord.transfer.fanout import Workers
from mirrord.transfer.needed import AT_ONCE
from mirrord.transfer.removal import remove
from mirrord.transfer.tagged import Place, tags_of
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import INDEXES, Descriptor
from mirrord.wire.oci.layout_drop import drop
from mirrord.wire.oci.layout_writer import LayoutWriter
from mirrord.wire.oci.tags import delete_manifest


class RepositoryTakedown:
    """What is taken down in one repository at one target."""

    def __init__(
        self, target: str, place: Place, ledger: Ledger, *, parts: Collection[Digest] = (), shared: bool = False
    ) -> None:
        """Remove from a place.

        Args:
            target: its name in the configuration, for the ledger.
            place: the repository.
            ledger: where each removal is written down before it happens.
            parts: manifests that go with what is removed, unless something that stays needs them.
            shared: whether others may have the same content there, so that it goes only with its last name.
        """
        self._target, self._place, self._ledger = target, place, ledger
        self._parts, self._shared = parts, shared
        self.remark = ""

    async def run(self, names: Mapping[str, Digest], doomed: Collection[Digest]) -> Mapping[str, MirrordError | None]:
        """Remove names, and the manifests `doomed`; return by name and digest why it is still there, None where not."""
        place = self._place
        others = await tags_of(place) if isinstance(place, Repository | LayoutWriter) else ()
        asked, broken = await self._heads(dict.fromkeys((*names, *others)))
        gone = {name: digest for name, digest in names.items() if name in asked and asked[name] is None}
        await self._note_gone(gone)
        if not isinstance(place, Repository | LayoutWriter):
            return await remove(self._target, place, names, self._ledger, heads=asked)
        heads = {tag: head for tag, head in asked.items() if head}
        denied = set[Digest]() if self._shared else {*doomed}
        same = {tag: head.digest for tag, head in heads.items() if head.digest in denied and tag not in names}
        if isinstance(place, LayoutWriter):
            return await self._in_layout(place, {**same, **names}, {*doomed}, heads)
        parts = ({*self._parts} | await self._children(doomed, [])) - {*doomed}
        left = {*doomed} - {*names.values()}
        outcomes = dict(await remove(self._target, place, {**same, **names}, self._ledger, left=left, heads=asked))
        kept = {names[name] for name, error in outcomes.items() if error is not None and name in names}
        stays = [head for tag, head in heads.items() if head.digest not in denied and names.get(tag) != head.digest]
        needed = kept | {head.digest for head in stays} | await self._children(kept, [])
        unread = [error for tag, error in broken.items() if tag not in names]
        needed |= await self._children([head.digest for head in stays if head.media_type in INDEXES], unread)
        unsure = f"another tag may need it, and cannot be read: {unread[0]}" if unread else ""
        fixed = {*doomed}.intersection(needed).difference(names.values())
        outcomes |= {digest: GuardError(f"{digest} stays: another image there needs it") for digest in fixed}
        left_there = await self._delete_all({*doomed} - needed, unsure)
        outcomes |= left_there
        outcomes |= {name: left_there[digest] for name, digest in names.items() if digest in left_there}
        if there := [*(await self._delete_all(sorted(parts - needed), unsure)).values()]:
            said = "of its platforms stay there by digest until the registry collects them"
            self.remark = f"{len(there)} {said}: {there[0]}"
        return outcomes

    async def _in_layout(
        self,
        place: LayoutWriter,
        names: Mapping[str, Digest],
        doomed: set[Digest],
        heads: Mapping[str, Descriptor],
    ) -> Mapping[str, MirrordError | None]:
        """Remove names from a layout, and the bytes that nothing else there needs."""
        left = doomed.difference(names.values())
        outcomes = dict(await remove(self._target, place, names, self._ledger, left=left, heads=heads))
        there = await place.tags()
        gone = {head.digest for tag, head in heads.items() if tag not in there}  # also signatures with tags
        try:
            needed = await asyncio.to_thread(drop, Path(place.repository), {*doomed, *self._parts, *gone})
        except MirrordError as error:
            outcomes |= dict.fromkeys((*doomed, *names), error)
        else:
            fixed = left.intersection(needed)
            outcomes |= {digest: GuardError(f"{digest} stays: another image there needs it") for digest in fixed}
        return outcomes

    async def _delete_all(self, digests: Iterable[Digest], unsure: str) -> Mapping[str, MirrordError]:
        """Delete manifests; return why some are still there."""
        found: dict[str, MirrordError] = {}

        async def delete(digest: Digest) -> None:
            if error := await self._delete(digest, unsure):
                found[digest] = error

        await Workers(AT_ONCE).each(digests, delete)
        return found

    async def _note_gone(self, names: Mapping[str, Digest]) -> None:
        """Write into the ledger which names are gone already: those of `local` went at once, and others by hand."""
        async with self._ledger.moving(self._target, {name: (digest, None) for name, digest in names.items()}):
            pass

    async def _heads(self, tags: Iterable[str]) -> tuple[Mapping[str, Descriptor | None], Mapping[str, MirrordError]]:
        """Return what tags stand for, and why that cannot be found out of others."""
        found: dict[str, Descriptor | None] = {}
        broken: dict[str, MirrordError] = {}

        async def look(tag: str) -> None:
            try:
                found[tag] = await self._place.head_manifest(tag)
            except MirrordError as error:
                broken[tag] = error

        await Workers(AT_ONCE).each(tags, look)
        return found, broken

    async def _children(self, digests: Collection[Digest], broken: list[MirrordError]) -> set[Digest]:
        """Return all manifests that these indexes reach; none of those that are gone, or cannot be read."""
        found, left = set[Digest](), [*digests]
        while left:
            try:
                manifest = await self._place.get_manifest(left.pop())
            except MissingError:
                continue
            except MirrordError as error:
                broken.append(error)
                continue
            fresh = [child for child in manifest.children if child.digest not in found]
            found |= {child.digest for child in fresh}
            left += [child.digest for child in fresh if child.media_type in INDEXES]
        return found

    async def _delete(self, digest: Digest, unsure: str = "") -> MirrordError | None:
        """Delete a manifest; return why it is still there. `unsure` says why another tag may need it."""
        assert isinstance(self._place, Repository)
        if await self._place.head_manifest(digest) is None:
            return None
        if unsure:
            return GuardError(f"{digest} can still be pulled by digest: {unsure}")
        try:
            await delete_manifest(self._place, digest)
        except RefusedError as error:
            return RefusedError(f"{digest} can still be pulled by digest: {error}", error.status)
        failpoints.hit("takedown.manifest")
        return None
