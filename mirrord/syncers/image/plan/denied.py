"""What of a source was taken down, and is not mirrored. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from mirrord.errors import TakenDownError
from mirrord.model.plan import Item, TagVerdict
from mirrord.names.denied import Denied, DeniedEntry
from mirrord.plan.guards import some
from mirrord.plan.offer import Offer
from mirrord.syncer.values import Mirror
from mirrord.syncers.image.names import places, source_reference, spec_of
from mirrord.syncers.image.plan.steps import SourceListing


def source_name(mirror: Mirror) -> str:
    """Return the repository of a mirror's source in canonical form; "" for builds, which have none."""
    return mirror.names.canonical(source_reference(mirror)).name if spec_of(mirror).source.repository else ""


def wholly_denied(mirror: Mirror, denied: Denied) -> DeniedEntry | None:
    """Return the entry that denies the repository of a mirror of one repository with all its tags, or None."""
    names = (source_name(mirror), *places(mirror)[1].values())
    return next((entry for name in names if (entry := denied.repository(name))), None)


def without_denied(mirror: Mirror, listing: SourceListing, denied: Denied) -> SourceListing:
    """Leave out what was taken down, by its digest or by its name at the source or at a target.

    Raises:
        TakenDownError: it is what is to be published.
    """
    names = [source_name(mirror), *places(mirror)[1].values()]
    whole = wholly_denied(mirror, denied)  # of what is to be published: nothing else comes so far
    entries: dict[str, DeniedEntry] = {}
    kept: list[Offer] = []
    for offer in listing.offers:
        if entry := whole or _denying(offer, names, denied):
            entries[offer.item.name] = entry
        else:
            kept.append(offer)
    as_is = not spec_of(mirror).platforms  # else what comes there is another index
    inside = [f"{o.item.name}: {found[1]}" for o in kept if as_is and (found := denied.kept_in(o.item.digest))]
    listing = replace(listing, remarks=[*listing.remarks, *inside])
    if not entries:
        return listing
    if mirror.publication:
        raise TakenDownError(next(iter(taken_down(entries))))
    verdicts = [*map(_verdict, listing.verdicts, (entries.get(one.tag) for one in listing.verdicts))]
    remarks = [*listing.remarks, *taken_down(entries)]
    return replace(listing, offers=kept, remarks=remarks, verdicts=verdicts, denied=True)


def denied_names(
    mirror: Mirror, denied: Denied, names: Iterable[tuple[str, str]]
) -> Mapping[tuple[str, str], DeniedEntry]:
    """Return those of some names with their digests that were taken down."""
    called = [source_name(mirror), *places(mirror)[1].values()]
    whole = wholly_denied(mirror, denied)
    found = {(n, one): whole or _denying(Offer(Item(n, one), (n,)), called, denied) for n, one in names}
    return {key: entry for key, entry in found.items() if entry is not None}


def taken_down(entries: dict[str, DeniedEntry]) -> Iterator[str]:
    """Yield a sentence for each reason why items, by name, were taken down."""
    items: dict[str, dict[str, None]] = {}
    for item, entry in entries.items():
        items.setdefault(entry.reason, {})[item] = None
    yield from (f"{some(named)}: taken down, so not mirrored: {reason}" for reason, named in items.items())


def _denying(offer: Offer, names: Sequence[str], denied: Denied) -> DeniedEntry | None:
    refs = dict.fromkeys((offer.item.digest, offer.item.name, *offer.names))
    return next((entry for name in names for ref in refs if (entry := denied.manifest(name, ref))), None)


def _verdict(verdict: TagVerdict, entry: DeniedEntry | None) -> TagVerdict:
    return TagVerdict(verdict.tag, chosen=False, why=f"left out: taken down: {entry.reason}") if entry else verdict
