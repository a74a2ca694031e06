"""What chart versions are called at targets, as mirrors of every kind call what they have there. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from mirrord.syncer.values import Mirror
from mirrord.syncers.helm.names import OCI, below, is_oci, oci_tag, places
from mirrord.syncers.helm.plan.restored import parted
from mirrord.wire.oci.reference import Reference


def claimed(mirror: Mirror) -> Callable[[str], Mapping[str, Collection[str]]]:
    """Return what names an item at its targets; see `Syncer.claims`. In a registry it may mean several tags."""
    finds = {name: _tags(place) if is_oci(place) else _entry(place) for name, place in places(mirror)[1].items()}
    return lambda item: {name: find(item) for name, find in finds.items()}


def _tags(place: str) -> Callable[[str], Collection[str]]:
    at = Reference.parse(place[len(OCI) :])
    return lambda item: [f"{at.domain}/{below(at.path, chart)}:{oci_tag(version)}" for chart, version in parted(item)]


def _entry(place: str) -> Callable[[str], Collection[str]]:
    return lambda item: (f"{place}#{item}",)
