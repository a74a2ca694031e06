"""The survey of an image mirror, and its plan. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from mirrord.errors import MirrordError, MissingError, ThrottledError, TransportError
from mirrord.model.digest import Digest
from mirrord.model.memory import NO_MEMORY, Memory
from mirrord.model.plan import Action, Plan, Step, TagVerdict
from mirrord.plan.differ import differ
from mirrord.plan.guards import some
from mirrord.plan.moving import Evidence
from mirrord.plan.offer import Held, Offer
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.syncers.image.names import OneImage

if TYPE_CHECKING:
    from mirrord.blobs.source import BlobSource
    from mirrord.plan.restored import Restored
    from mirrord.wire.oci.descriptor import Descriptor
    from mirrord.wire.oci.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Referrer:
    """What is about a manifest: a signature, an attestation, an SBOM.

    Attributes:
        descriptor: of its manifest.
        tag: cosign's tag (`sha256-<hex>.sig`); "" for one that is found by its `subject`.
    """

    descriptor: Descriptor
    tag: str = ""


class ImageSource(Protocol):
    """The source of an image's content; `upstream` has the implementations."""

    @property
    def host(self) -> str:
        """The registry that it is at; "" for files."""

    @property
    def repository(self) -> str:
        """Its name at `host`."""

    async def manifest(self, descriptor: Descriptor) -> Manifest:
        """Read a manifest by digest, verified.

        Raises:
            MirrordError: it is missing, wrong, or cannot be read.
        """

    async def get_blob(self, blob: Descriptor) -> bytes:
        """Read a small blob."""

    async def check_blob(self, blob: Descriptor) -> None:
        """Check that the source itself has a blob, without reading it.

        Raises:
            MirrordError: it has not, or cannot be asked.
        """

    async def blob_source(self, blob: Descriptor) -> BlobSource:
        """Return the source of a blob, without reading it."""

    async def has_referrers(self) -> bool:
        """Whether anything may be about any manifest of the source; it may know that at once.

        Raises:
            MirrordError: as `referrers`.
        """

    async def referrers(self, subject: Digest) -> Sequence[Referrer]:
        """Return what is about one manifest, as the source lists it; asked once a run.

        Whether a manifest that is listed names this subject is for the caller to check.

        Raises:
            MirrordError: that cannot be found out; a part is never taken for the whole.
        """

    def ignored(self, subject: Digest) -> Sequence[str]:
        """Return what `referrers` left out of that list because it is wrong, one sentence each."""

    def change(self, digest: Digest) -> str:
        """Say in a clause what of an image was changed; "" for an image as it was found."""


def shared_code(errors: Iterable[MirrordError]) -> str:
    """Return the code of errors if all are about throttling, or about what does not exist; else ""."""
    found = {error.code for error in errors}
    return found.pop() if found in ({ThrottledError.code}, {MissingError.code}) else ""


def check_reached(errors: Sequence[MirrordError], tried: int) -> None:
    """Raise the first of these errors if all that was tried failed, and each for want of an answer of the source."""
    if errors and len(errors) == tried and all(isinstance(error, TransportError) for error in errors):
        raise errors[0]


@dataclass(frozen=True, slots=True)
class RefusedOffer:
    """What must not be mirrored, such as what nobody signed who has to.

    Attributes:
        offer: the item.
        reason: one sentence.
        code: error code.
        targets: where it was to be; None for all.
    """

    offer: Offer
    reason: str
    code: str
    targets: Collection[str] | None = None


@dataclass(frozen=True, slots=True)
class SourceListing:
    """What a source offers.

    Attributes:
        offers: the available items.
        sources: item name → source of its content.
        problems: listed content that is wrong at the source, one sentence each.
        missing: requested names that do not exist or could not be checked.
        remarks: what is no failure, such as a glob that matches no tag.
        verdicts: why each listed tag is selected or not, if the mirror is to be explained.
        code: error code of what is missing where it is the same for all, else "".
        refused: what is offered and must not be mirrored.
        signers: item name → who signed it, where that is required.
        origins: item name → digest at the source of its index, where that was changed.
        restored: names that override the source, if there are any.
        kept: digest of a restored name → where its content is read, instead of the source.
        denied: whether something is left out since it was taken down.
    """

    offers: Sequence[Offer]
    sources: Mapping[str, ImageSource]
    problems: Sequence[str] = ()
    missing: Sequence[str] = ()
    remarks: Sequence[str] = ()
    verdicts: Sequence[TagVerdict] = ()
    code: str = ""
    refused: Sequence[RefusedOffer] = ()
    signers: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    restored: Restored | None = None
    kept: Mapping[str, ImageSource] = field(default_factory=dict)
    denied: bool = False


@dataclass(frozen=True, slots=True)
class ImageSurvey:
    """The state of source and targets.

    Attributes:
        source: the listing of the source.
        held: the digests at the targets, for the names that were asked.
        created: digest → creation time, for content at targets where it matters.
        unasked: target name → why it could not be asked.
        unreachable: target name → its error, if it must not be tried again.
        memory: from the record.
        lacking: target and item → how many signatures and attestations of what it has are not there.
        not_kept: names that `local` does not keep with a digest, and why.
    """

    source: SourceListing
    held: Held = field(default_factory=dict)
    created: Mapping[str, datetime | None] = field(default_factory=dict)
    unasked: Mapping[str, str] = field(default_factory=dict)
    unreachable: Mapping[str, MirrordError] = field(default_factory=dict)
    memory: Memory = field(default_factory=lambda: NO_MEMORY)
    lacking: Mapping[tuple[str, str], int] = field(default_factory=dict)
    not_kept: Mapping[str, tuple[Digest, str]] = field(default_factory=dict)


def code_with(listing: SourceListing, errors: Collection[MirrordError]) -> str:
    """Return the `code` of a listing of which more is missing, by these errors."""
    codes = {listing.code} if listing.missing else set[str]()
    codes |= {shared_code(errors)} if errors else set()
    return codes.pop() if len(codes) == 1 else ""


def at_targets(mirror: Mirror, listing: SourceListing) -> Iterator[tuple[Sequence[Offer], Sequence[str]]]:
    """Yield which offers go to which targets: all to all, but for restored names, and a copy calls each as it says."""
    offers, targets = listing.offers, [target.name for target in mirror.targets]
    if not isinstance(mirror.spec, OneImage):
        restored = listing.restored
        alone = mirror.publication is not None
        yield from restored.offered(offers, targets, alone=alone) if restored else [(offers, targets)]
        return
    for target in targets:
        names = (mirror.spec.called[target],) if target in mirror.spec.called else ()
        yield [replace(offer, names=names) for offer in offers], [target]


def plan(mirror: Mirror, survey: ImageSurvey, now: datetime) -> Plan:
    """Decide about every tag at every target."""
    evidence = Evidence(now, survey.memory, survey.held, survey.created)
    steps = tuple(
        _with_signatures(step, survey.lacking.get((step.target, step.item), 0))
        for offers, targets in at_targets(mirror, survey.source)
        for step in differ(offers, targets, evidence, trust=mirror.trust, unasked=survey.unasked)
    )
    steps = tuple(_kept(step, survey) for step in steps) if survey.not_kept else steps
    steps, changes = _changed(steps, survey.source)
    steps = (*_known(steps, survey.source), *_refused(mirror, survey.source.refused), *_removals(survey))
    remarks = (*survey.source.remarks, *changes, *(f"{step.target}: {left}" for step in steps for left in step.left))
    problems, missing = tuple(survey.source.problems), tuple(survey.source.missing)
    decisions = survey.source.sources, survey.source.kept, survey.unreachable, _unseen(steps, survey.held)
    beside = problems, missing, remarks, tuple(survey.source.verdicts), survey.source.denied
    return Plan(mirror.name, mirror.kind, now, steps, *beside, code=survey.source.code, decisions=decisions)


def _kept(step: Step, survey: ImageSurvey) -> Step:
    """Return a step that leaves in peace what `local` did not keep: all its names, with this content."""
    found = [survey.not_kept.get(name, ("", "")) for name in step.names]
    if step.target != LOCAL or not step.active or not found or step.digest in survey.source.kept:
        return step
    if any(digest != step.digest for digest, _ in found):
        return step
    return replace(step, action=Action.KEEP, reason=f"not kept: {found[0][1]}", confirmed=False)


def _removals(survey: ImageSurvey) -> Iterator[Step]:
    restored = survey.source.restored
    yield from restored.removals(survey.memory, survey.held, survey.unasked) if restored else ()


def _known(steps: Sequence[Step], source: SourceListing) -> Iterator[Step]:
    """Add to each step who signed its image, and of which index it was made; nobody knows that of a restored one."""
    for step in steps:
        signer, origin = source.signers.get(step.item, ""), source.origins.get(step.item, "")
        if (signer or origin) and step.digest not in source.kept:
            reason = f"{step.reason}; signed by {signer}" if signer else step.reason
            yield replace(step, reason=reason, signer=signer, origin=origin)
        else:
            yield step


def _refused(mirror: Mirror, refused: Sequence[RefusedOffer]) -> Iterator[Step]:
    """Refuse at its targets what must not be there."""
    for one in refused:
        item, names = one.offer.item, one.offer.names
        for target in (target.name for target in mirror.targets):
            if one.targets is not None and target not in one.targets:
                continue
            of_item = item.name, item.digest, target, names, one.reason, item.size
            yield Step(Action.REFUSE, *of_item, code=one.code)


def _changed(steps: tuple[Step, ...], listing: SourceListing) -> tuple[tuple[Step, ...], Sequence[str]]:
    """Add what is changed to the reasons of the steps that copy it, and return that as remarks, too."""
    ours = [step for step in steps if step.active and step.digest not in listing.kept]
    found = {step: listing.sources[step.item].change(Digest.parse(step.digest)) for step in ours}
    items: dict[str, dict[str, None]] = {}
    for step, change in found.items():
        items.setdefault(change, {})[step.item] = None
    remarks = [f"{some(named)}: {change}" for change, named in items.items() if change]
    if not remarks:
        return steps, ()
    return tuple(
        replace(step, reason=f"{step.reason}; {found[step]}") if found.get(step) else step for step in steps
    ), remarks


def _with_signatures(step: Step, lacking: int) -> Step:
    """Return a step that also brings signatures which were added to what the target has.

    A build whose names others have got is left alone. An image without a name is called by its digest.
    """
    named = step.names or step.confirmed or step.item == step.digest
    if not lacking or step.action is not Action.KEEP or not named:
        return step
    what = f"{lacking} signatures and attestations" if lacking > 1 else "a signature or attestation"
    return replace(step, action=Action.COPY, reason=f"{what} not there", confirmed=False)


def _unseen(steps: Sequence[Step], held: Held) -> frozenset[tuple[str, str]]:
    """Return target and item of content that is probably missing there.

    The target has none of the names, and no other name that was checked has the content.
    """
    there = {(target, digest) for (target, _), digest in held.items()}
    there |= {(step.target, step.digest) for step in steps if step.action is Action.KEEP}
    return frozenset(
        (step.target, step.item)
        for step in steps
        if step.action is Action.COPY
        and step.names
        and (step.target, step.digest) not in there
        and all(held.get((step.target, name), step.digest) is None for name in step.names)
    )
