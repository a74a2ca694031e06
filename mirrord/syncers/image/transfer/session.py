"""One run over images: each blob read once, targets independent of each other."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TypeVar

from mirrord import failpoints
from mirrord.errors import ContentError, MirrordError, RefusedError, StorageError
from mirrord.events import StepSized
from mirrord.model.digest import Digest
from mirrord.model.plan import Action, Step
from mirrord.model.run import Receipt
from mirrord.syncer.port import OnReceipt
from mirrord.syncer.values import Services
from mirrord.syncers.image.plan.steps import ImageSource
from mirrord.syncers.image.transfer.copied import Carried, Copy, receipt_of, send_config_of
from mirrord.syncers.image.transfer.destinations import Collecting, Keeping, Streamed, send_blob
from mirrord.syncers.image.transfer.publishing import Whole, created_at_source, publish
from mirrord.syncers.image.transfer.referrers import ReferrersOf
from mirrord.syncers.image.transfer.tree import DEEPEST, Extent, Manifests, Once, Parts, check_denied, read_manifest
from mirrord.syncers.image.transfer.waiting import WaitingImages
from mirrord.transfer.fanout import Delivery, fan_out
from mirrord.transfer.feed import feed
from mirrord.wire.oci.client import lacks_content
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.manifest import Manifest

UPLOADS = 6  # parallel uploads to one target

_T = TypeVar("_T")


class ImageSession:
    """Implements `mirrord.syncer.port.Session`."""

    def __init__(
        self,
        sources: Mapping[str, ImageSource],
        destinations: Mapping[str, Streamed | Keeping],
        services: Services,
        patience: float,
        label: str = "",
        *,
        kept: Mapping[str, ImageSource] | None = None,
        unreachable: Mapping[str, MirrordError] | None = None,
        unseen: Collection[tuple[str, str]] = frozenset(),
        signatures: bool = True,
        note: Callable[[Mapping[str, Sequence[str]]], Awaitable[None]] | None = None,
        doubted: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        """Copy the items of `sources` to `destinations`.

        Args:
            sources: item name → its source.
            destinations: target name → its destination.
            services: the services of the program.
            patience: seconds that complete targets wait for slower ones before they set their names; 0 for none.
            label: prefix of target names in events.
            kept: digest → its source in place of that of its item: of restored names.
            unreachable: target name → why it is not tried again.
            unseen: target and item names of what is not there, as far as anybody knows: nobody asks once more.
            signatures: whether signatures, attestations and SBOMs are carried with their images.
            note: is told at the end which manifests are in the images that were read, if it matters.
            doubted: target name → what a verification found missing or damaged there.
        """
        self._sources, self._destinations, self._services = sources, destinations, services
        self._patience, self._label = patience, label
        self._kept, self._unreachable, self._unseen = kept or {}, unreachable or {}, unseen
        self._signatures, self._note, self._doubted, self._once = signatures, note, doubted or {}, Once()
        self._children: dict[str, Sequence[str]] = {}
        self._configs: dict[Digest, str] = {}
        self._away: list[tuple[Step, OnReceipt]] = []
        self._manifests = Manifests(self._once)
        self._slots = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(UPLOADS))
        self.read = 0  # content bytes from the source so far
        self._full: set[Keeping] = set()
        self._lost = set[object]()  # places where content was gone that had been there a moment before
        self._waiting: dict[str, WaitingImages] = {}
        for name, destination in destinations.items():
            if isinstance(destination, Collecting) and not patience:  # who waits for others wants to flip with them
                self._waiting[name] = WaitingImages(destination, services.ledger)

    def _count(self, count: int) -> None:
        self.read += count

    async def finish(self) -> None:
        """Complete the work that batches left to be done together."""
        for images in self._waiting.values():
            await images.settle()
        if self._away:
            from mirrord.syncers.image.transfer.taking import take_away  # noqa: PLC0415 - a copy starts without it

            await take_away(self._away, self._destinations, self._services.ledger)
        if self._note and self._children:
            await self._note(self._children)

    async def aclose(self) -> None:
        """Stop unneeded work."""
        for images in self._waiting.values():
            await images.aclose()
        await self._once.aclose()
        try:
            for full in self._full:
                await full.discard()
        finally:
            for destination in self._destinations.values():
                if destination.keeps:
                    destination.release()

    async def execute(self, batch: Sequence[Step], on_receipt: OnReceipt) -> None:
        """Copy one image to all targets of the batch. Names are taken away at the end: others may still move."""
        self._away += [(step, on_receipt) for step in batch if step.action is Action.DELETE]
        copies = [step for step in batch if step.action is Action.COPY]
        if copies:
            await fan_out(copies, self._deliver, self._patience, on_receipt)

    async def _deliver(self, delivery: Delivery) -> Receipt | None:
        step = delivery.step
        if error := self._unreachable.get(step.target):
            raise error
        consumer = f"{self._label}{step.target}"
        source = self._kept.get(step.digest) or self._sources[step.item]
        destination, doubted = self._destinations[step.target], self._doubted.get(step.target)
        copy = Copy(step.item, source, destination, consumer, self._configs, doubted)
        with self._services.spools.uploading(consumer, self._label):
            try:
                top = Descriptor("", Digest.parse(step.digest), 0)
                manifest = await self._manifest(copy, top)
                unseen = copy.doubted is None and (step.target, step.item) in self._unseen
                parts = Parts.of(top, manifest)
                copy.looked_at(manifest, parts)
                self._children[manifest.digest] = [child.digest for child in parts.children if child.is_manifest]
                lacking = await self._content(copy, parts, 0, unseen=unseen)
                if copy.place in self._lost:  # so may be what manifests refer to that came before that was seen
                    await self._put_children(copy, parts)
                referrers = ReferrersOf(
                    step.target,
                    copy.source,
                    copy.destination,
                    partial(self._entry, copy),
                    partial(self._bring_about, copy),
                    copy.workers,
                )
                listed = await referrers.listed(manifest) if self._signatures else ()
                if lacking and (listed or self._patience or not copy.comes_with_its_name(manifest, step)):
                    await self._once.do(("top", copy.place, top.digest), self._put(copy, top))
                about = Carried()
                if self._signatures:
                    about = await self._once.do(("about", copy.place, top.digest), referrers.carry(listed))
            except StorageError:  # our own disk failed: what was brought there for nothing is taken away at the end
                if copy.destination.keeps:
                    self._full.add(copy.destination)
                raise
        await delivery.gate.ready()
        whole = Whole(manifest, step, partial(self._made, copy.source, manifest), about.due)
        if images := self._waiting.get(step.target):
            await images.add(whole, partial(receipt_of, step, copy, about), delivery)
            return None
        (names,) = await self._again(copy, manifest, partial(publish, copy.destination, [whole], self._services.ledger))
        return receipt_of(step, copy, about, names)

    async def _made(self, source: ImageSource, manifest: Manifest) -> datetime | None:
        return await self._once.do(("made", id(source), manifest.digest), created_at_source(source, manifest))

    async def _entry(self, copy: Copy, entry: Descriptor) -> Manifest | None:
        read = read_manifest(copy.source, entry)
        return await self._manifests.read(("read", id(copy.source), entry.digest, entry.media_type), read)

    async def _manifest(self, copy: Copy, entry: Descriptor) -> Manifest:
        """Read a known manifest."""
        manifest = await self._entry(copy, entry)
        if manifest is None:
            raise ContentError(f"{entry.digest} is no longer a manifest")
        return manifest

    async def _carry(self, copy: Copy, parts: Parts, depth: int) -> bool:
        """Write a manifest after everything that it refers to; False when it is there. Only its parts are in memory."""
        lacking = await self._content(copy, parts, depth)
        if lacking:
            await self._put(copy, parts.entry)
        return lacking

    async def _content(self, copy: Copy, parts: Parts, depth: int, *, unseen: bool = False) -> bool:
        """Write everything that a manifest refers to; False when the manifest is there, and so is all that.

        With `unseen` nobody asks for it: a PUT of what is there after all changes nothing.
        """
        destination, digest = copy.destination, parts.entry.digest
        there = not unseen and digest not in (copy.doubted or ()) and await destination.has_manifest(digest)
        if there and copy.doubted is None:
            copy.tally.there += 1
            copy.extent.there()
            self._measure(copy)
            return False
        if destination.keeps:
            await destination.expect(parts.blobs)
        copy.extent.found(parts)
        self._measure(copy)
        await copy.workers.each(parts.children, lambda child: self._child(copy, child, depth + 1))
        await copy.workers.each(parts.blobs, lambda blob: self._blob(copy, blob))
        copy.tally.foreign += parts.foreign
        return not there

    async def _bring_about(self, copy: Copy, manifest: Manifest, put: bool) -> bool:  # noqa: FBT001 - of `ReferrersOf`
        """Bring what is about an image; its size is not that of the image."""
        part = replace(copy, extent=Extent())
        parts = Parts.of(manifest.descriptor, manifest)
        part.extent.read(parts)
        work = self._carry(part, parts, 0) if put else self._content(part, parts, 0)
        return await self._once.do(("carry" if put else "content", copy.place, manifest.digest), work)

    def _measure(self, copy: Copy) -> None:
        """Report the size of an image once all of it is known."""
        if copy.extent.whole:
            self._services.events.emit(StepSized(copy.consumer, copy.item, copy.extent.content))

    async def _put(self, copy: Copy, entry: Descriptor) -> None:
        manifest = await self._manifest(copy, entry)
        await self._again(copy, manifest, partial(copy.destination.put_manifest, manifest))
        failpoints.hit("push.manifest")

    async def _again(self, copy: Copy, manifest: Manifest, write: Callable[[], Awaitable[_T]]) -> _T:
        """Write a manifest; if the target has lost what it refers to (a garbage collection), send that once more."""
        try:
            return await write()
        except RefusedError as error:
            if not lacks_content(error):
                raise
        self._lost.add(copy.place)
        parts = Parts.of(manifest.descriptor, manifest)
        await copy.workers.each(parts.blobs, lambda blob: self._send(copy, blob))
        await self._put_children(copy, parts)
        return await write()

    async def _put_children(self, copy: Copy, parts: Parts) -> None:
        """Write the entries of an index although they were there; the registry says whose content is not."""
        for child in parts.children:
            await (self._put(copy, child) if await self._entry(copy, child) else self._send(copy, child))

    async def _child(self, copy: Copy, child: Descriptor, depth: int) -> None:
        check_denied(self._services.denied, copy.item, child.digest)
        if depth > DEEPEST:
            raise ContentError(f"{child.digest}: nested deeper than {DEEPEST} indexes")
        manifest = await self._entry(copy, child)
        if manifest is None:
            parts = Parts(child, 0, (), (child,), 0)
            copy.extent.read(parts)
            copy.extent.found(parts)
            self._measure(copy)
            await self._blob(copy, child)
            return
        if len(manifest.body) != child.size:
            raise ContentError(f"{child.digest} has {len(manifest.body)} bytes, its index says {child.size}")
        parts = Parts.of(child, manifest)
        copy.child_read(child, manifest)
        del manifest  # nobody holds more of it than its parts while it is carried
        copy.extent.read(parts)
        await self._once.do(("carry", copy.place, child.digest), self._carry(copy, parts, depth))

    async def _blob(self, copy: Copy, blob: Descriptor) -> None:
        await self._once.do(("blob", copy.place, blob.digest), self._bring(copy, blob))

    async def _bring(self, copy: Copy, blob: Descriptor) -> None:
        destination, locations = copy.destination, self._services.locations
        if copy.source.host == destination.host != "":  # the blob can be mounted from the source itself
            locations.saw(destination.host, blob.digest, copy.source.repository)
        doubted = blob.digest in (copy.doubted or ())
        there = not doubted and await destination.has_blob(blob)
        other = None if there or doubted else locations.other(destination.host, blob.digest, destination.repository)
        if other is not None:
            there = await destination.mount(blob.digest, other)
        if there:
            if destination.keeps and not await destination.links(blob.digest):
                await copy.source.check_blob(blob)  # anybody can write a manifest that names a private blob of others
            copy.tally.there += 1
        else:
            await self._send(copy, blob)
        locations.saw(destination.host, blob.digest, destination.repository)
        failpoints.hit("push.blob")

    async def _send(self, copy: Copy, blob: Descriptor) -> None:
        async with self._slots[copy.consumer]:
            source = replace(await copy.source.blob_source(blob), on_bytes=self._count)
            send = partial(send_config_of, copy) if blob.digest == copy.tally.config else send_blob
            await feed(self._services.spools, source, copy.consumer, self._label, partial(send, copy.destination, blob))
        copy.tally.blobs += 1
        copy.tally.sent += blob.size
