"""What the items of an image mirror are called at the source and at the targets. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache

from mirrord.errors import MirrordError
from mirrord.syncer.values import Mirror
from mirrord.syncers.image.names import Source, is_many, places, spec_of
from mirrord.syncers.image.plan.many import derived, key_of, without_key

Called = tuple[str, Mapping[str, str]]
_DIGESTS = ("sha256:", "sha512:")


def called(mirror: Mirror) -> Callable[[str], Called]:
    """Return what names an item; see `Syncer.called`."""
    if not is_many(mirror):
        origin, targets = places(mirror)
        if not spec_of(mirror).source.repository:  # builds have no such names where they come from
            return lambda item: (origin, _tagged(origin, targets, item)[1])
        return lambda item: _tagged(origin, targets, item)

    @lru_cache(1)  # items of one repository follow one another
    def of(key: str) -> Called:
        try:
            part = derived(mirror, Source(repository=key))
            return part.reference.name, places(part.mirror)[1]
        except MirrordError:  # a name that the configuration of today has no place for
            return key, {}

    def find(item: str) -> Called:
        source, targets = of(key_of(item))
        tag = item.partition("@")[0].rpartition("/")[2].partition(":")[2] if "@" in item else ""
        # With a tag and a digest it is read by the digest, and called by the tag.
        return (item, _tagged(source, targets, tag)[1]) if tag else _tagged(source, targets, without_key(item))

    return find


def claimed(mirror: Mirror) -> Callable[[str], Mapping[str, Collection[str]]]:
    """Return what names an item at its targets; see `Syncer.claims`."""
    find = called(mirror)
    return lambda item: {target: (name,) for target, name in find(item)[1].items()}


def _tagged(origin: str, targets: Mapping[str, str], item: str) -> Called:
    sign = "@" if item.startswith(_DIGESTS) else ":"
    return f"{origin}{sign}{item}", {target: f"{place}{sign}{item}" for target, place in targets.items()}
