"""One image on its way to one target, and the receipt for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mirrord.blobs.reader import SpoolReader
from mirrord.model.digest import Digest
from mirrord.model.plan import Step
from mirrord.model.run import Outcome, Receipt
from mirrord.syncers.image.plan.steps import ImageSource
from mirrord.syncers.image.transfer.destinations import Keeping, Streamed, send_config
from mirrord.syncers.image.transfer.publishing import Names
from mirrord.syncers.image.transfer.tree import Extent, Parts
from mirrord.transfer.fanout import Workers
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.manifest import Manifest
from mirrord.wire.oci.platform import config_platform
from mirrord.wire.offload import offload

WORKERS = 16  # of one image on its way to one target: more than uploads, so that what is there is seen meanwhile
_LISTED = 100  # platforms of one image


@dataclass(frozen=True, slots=True)
class Carried:
    """What was carried about one image to one target: signatures, attestations, SBOMs.

    Attributes:
        count: how many of them are there now, or None if nobody looked.
        fresh: how many of them were not there before.
        due: those that get their place there together with the names of the image, each with its tags.
        remarks: what was left out or left alone, one sentence each.
    """

    count: int | None = None
    fresh: int = 0
    due: Sequence[tuple[Manifest, Sequence[str]]] = ()
    remarks: Sequence[str] = ()


@dataclass(slots=True)
class ImageTally:
    """What was done for one image at one target."""

    sent: int = 0
    blobs: int = 0
    there: int = 0
    foreign: int = 0
    config: Digest | None = None  # of an image without an index, whose config alone says its platform
    platforms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy:
    """One image on its way to one target.

    Attributes:
        item: its name.
        source: where it is read.
        destination: where it is written.
        consumer: name of the target in events.
        configs: platform by config; shared by all copies of a run, any of which may be the one that sends it.
        doubted: what a verification found missing or damaged there; then every manifest is looked through, although it
            is there. None if nothing was verified.
    """

    item: str
    source: ImageSource
    destination: Streamed | Keeping
    consumer: str
    configs: dict[Digest, str]
    doubted: frozenset[str] | None = None
    tally: ImageTally = field(default_factory=ImageTally)
    extent: Extent = field(default_factory=Extent)
    workers: Workers = field(default_factory=lambda: Workers(WORKERS))

    @property
    def place(self) -> object:
        """What content is written to: two names in one repository of a registry share it, and send it once."""
        host = self.destination.host
        return (host, self.destination.repository) if host else self.consumer

    def looked_at(self, manifest: Manifest, parts: Parts) -> None:
        """Note what the first manifest says of the whole image."""
        self.extent.read(parts)
        self.tally.platforms = tuple(dict.fromkeys(one.platform for one in manifest.children if one.platform))[:_LISTED]
        if not manifest.children:
            self.tally.config = manifest.config.digest if manifest.config else None

    def child_read(self, child: Descriptor, manifest: Manifest) -> None:
        """Note what an index says of an image in it: who carries that image alone may find its config there."""
        if child.platform and manifest.config:
            self.configs[manifest.config.digest] = child.platform

    def comes_with_its_name(self, manifest: Manifest, step: Step) -> bool:
        """Whether the PUT of its one name is all that it takes to write a manifest.

        Not where the name may be left as it is, and where it has to be found by its digest before: what is about
        another manifest by the list of those.
        """
        alone = len(step.names) == 1 and not step.unless_newer and not manifest.children and manifest.subject is None
        return alone and self.destination.naming_writes

    @property
    def platforms(self) -> tuple[str, ...]:
        """What the image runs on; () as long as the run read neither its config nor an index that lists it."""
        said = self.configs.get(self.tally.config) if self.tally.config else None
        return (said,) if said else self.tally.platforms


async def send_config_of(copy: Copy, destination: Streamed | Keeping, blob: Descriptor, reader: SpoolReader) -> None:
    """Send the config of an image, and note the platform that it says."""
    data = await send_config(destination, blob, reader)
    if platform := await offload(len(data), config_platform, data):
        copy.configs[blob.digest] = platform


def receipt_of(step: Step, copy: Copy, about: Carried, names: Names) -> Receipt:
    """Return the receipt for an image with content, what is about it, and names."""
    tally = copy.tally
    called = ", ".join(name for name in step.names if name not in names.left) or step.digest
    sent = f"{tally.blobs} blob{'' if tally.blobs == 1 else 's'} sent"
    detail = f"{called}: {sent if tally.blobs else 'content already present'}"
    if about.count:
        detail += f"; signatures and attestations: {about.count}"
    if tally.foreign:
        detail += f"; foreign layers left out: {tally.foreign} (clients get them from their URLs)"
    if change := copy.source.change(Digest.parse(step.digest)):
        detail += f"; {change}"
    wrote = tally.blobs or about.fresh or names.differ or not step.names
    return Receipt(
        step,
        Outcome.DONE if wrote else Outcome.KEPT,
        detail,
        sent=tally.sent,
        mounted=tally.there,
        remark="; ".join((*names.remarks, *about.remarks)),
        left=names.left,
        size=copy.extent.size,
        platforms=copy.platforms,
        referrers=about.count,
    )
