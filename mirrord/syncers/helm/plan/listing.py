"""What an index of ours lists, and what it says of each version."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import quote

from mirrord.model.digest import Digest
from mirrord.syncers.helm.names import CHARTS, ChartVersion
from mirrord.syncers.helm.plan.choice import VersionChoice
from mirrord.syncers.helm.plan.survey import TargetContent

NOTHING: Mapping[str, Digest] = {}


def listing(
    found: TargetContent,
    choices: Mapping[str, VersionChoice],
    put: Mapping[str, Digest] = NOTHING,
    deleted: Collection[str] = (),
) -> tuple[ChartVersion, ...]:
    """Return what a target's index shall list, never more than the target holds.

    Args:
        found: what the target held before the run.
        choices: what is wanted.
        put: what this run added or replaced there.
        deleted: the items that it shall list no more.
    """
    own, charts = found.own or {}, []
    for item, choice in choices.items():
        digest = put.get(item) or found.held.get(item)
        if digest is None:
            continue
        ours = own.get(item)
        stays = item not in put and not choice.fits(digest) and ours is not None
        charts.append(ours if stays and ours is not None else choice.entry(digest))
    left = own.keys() - choices.keys() - set(deleted)
    return (*charts, *(own[item] for item in sorted(left) if item in found.held))


def published(chart: ChartVersion, base: str = CHARTS) -> dict[str, object]:
    """Return what an index of ours says of a version: what upstream said, and where the archive is here.

    Args:
        chart: the version.
        base: what its URL begins with; relative to the index, or absolute; "" for beside the index.
    """
    prefix = f"{base.rstrip('/')}/" if base else ""
    entry = {
        **chart.entry,
        "name": chart.name,
        "version": chart.version,
        "urls": [prefix + quote(chart.file, safe="+")],
    }
    entry.pop("created", None)
    entry.pop("digest", None)
    if chart.created:
        entry["created"] = chart.created
    if chart.digest:
        entry["digest"] = chart.digest.hex
    return entry
