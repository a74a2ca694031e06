"""Which names are set when all content is present, given the target's present state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from mirrord.errors import ContentError, ImmutableError, RefusedError
from mirrord.model.digest import Digest
from mirrord.model.plan import Step
from mirrord.plan.moving import written
from mirrord.syncer.values import Ledger
from mirrord.syncers.image.plan.steps import ImageSource
from mirrord.syncers.image.transfer.destinations import Collecting, Destination
from mirrord.wire.oci.created import created, created_at
from mirrord.wire.oci.manifest import Manifest

Made = Callable[[], Awaitable[datetime | None]]
"""Says when the image at hand was made."""


@dataclass(frozen=True, slots=True)
class Names:
    """The decision about the names of a step.

    Attributes:
        differ: those to set, in publishing order.
        left: those that point to a newer build, and stay.
        remarks: one sentence for each name with a remark.
        was: the present digest of each name.
    """

    differ: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    was: Mapping[str, Digest | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Whole:
    """An image with complete content whose names are not set yet, and what gets its place together with them."""

    manifest: Manifest
    step: Step
    made: Made
    about: Sequence[tuple[Manifest, Sequence[str]]] = ()


async def publish(destination: Destination, images: Sequence[Whole], ledger: Ledger) -> Sequence[Names]:
    """Set the names that differ in one go, fixed ones first, so that a moving name never exists without them.

    Several `images` are for one target, a `Collecting` one. Raises as `decide`, and what the target said.
    """
    decided = [await decide(destination, one.step, one.made) for one in images]
    both = list(zip(images, decided, strict=True))
    moves = {name: (names.was[name], one.step.digest) for one, names in both for name in names.differ}
    due: list[tuple[Manifest, Sequence[str]]] = []
    for one, names in both:
        due += one.about
        if names.differ or not one.step.names:
            due.append((one.manifest, names.differ))
    if due:
        async with ledger.moving(images[0].step.target, moves):
            if len(due) == 1:
                await destination.publish(*due[0])
            else:
                await cast("Collecting", destination).publish_all(due)
    return decided


async def decide(destination: Destination, step: Step, made: Made) -> Names:
    """Ask the target for each name just before it is set.

    A name with the right content is not set again: a registry with immutable tags rejects that too
    (moby/buildkit#3776). With `Step.unless_newer` a moving name stays where it points to a newer build.

    Raises:
        ImmutableError: a name that never moves has another or an unknown digest.
        MirrordError: the target cannot be asked.
    """
    held = {name: await _held(destination, name, step) for name in step.names}
    differ = [name for name in step.names if held[name] != step.digest]
    if not step.unless_newer:
        return Names(tuple(differ), was=held)
    left, remarks, dates = [], [], dict[Digest, datetime | None]()
    for name in differ:
        digest = held[name]
        if digest is None:
            continue
        ours = next((one.created for one in step.named if one.name == name), None) or await made()
        if ours and digest not in dates:
            dates[digest] = await created_at(destination, digest)
        theirs = dates.get(digest)
        if ours and theirs and theirs > ours:
            left.append(name)
            both = f"created {written(theirs)}; {step.item} was created {written(ours)}"
            remarks.append(f"{step.target}: {name} left alone: it is {digest} there, {both}")
        elif ours is None or theirs is None:
            silent = f": {step.item}" if ours is None else ", which"
            remarks.append(f"{step.target}: {name} moved from {digest}{silent} has no creation time")
        elif theirs == ours:
            remarks.append(f"{step.target}: {name} moved from {digest}: both were created {written(ours)}")
    return Names(tuple(name for name in differ if name not in left), tuple(left), tuple(remarks), held)


async def created_at_source(source: ImageSource, manifest: Manifest) -> datetime | None:
    """Return the creation time of an image at its source, or None if it cannot be read.

    Raises:
        TransportError: the source cannot be reached, fails or asks for patience.
    """
    try:
        return await created(manifest, source.manifest, source.get_blob)
    except (RefusedError, ContentError):
        return None


async def _held(destination: Destination, name: str, step: Step) -> Digest | None:
    """Return the digest of a name there; None for a moving name also if the target denies access to it."""
    it = "it" if name == step.item else name  # the item is named before the error
    try:
        head = await destination.head_manifest(name)
    except RefusedError as error:
        if name in step.stays:
            raise ImmutableError(f"{it} never moves, and its digest there cannot be read: {error}") from error
        return None
    held = head.digest if head else None
    if name in step.stays and held not in (None, step.digest):
        raise ImmutableError(f"{it} is {held} there and never moves")
    return held
