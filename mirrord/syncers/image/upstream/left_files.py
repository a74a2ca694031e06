"""Which files of others on this machine have an image that was taken down: sources of mirrors, which stay."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from mirrord.errors import MirrordError
from mirrord.model.digest import Digest
from mirrord.model.takedown import LeftName
from mirrord.syncer.values import Mirror, Services
from mirrord.syncers.image.names import is_many, spec_of
from mirrord.syncers.image.upstream.layout import LayoutSource, all_builds, open_image

_THEIRS: Final = "the mirror reads it there, and mirrord did not write it; remove it by hand"


async def left_in_files(digests: Collection[Digest], services: Services) -> Sequence[LeftName]:
    """Return the layouts and archives that mirrors read and that list one of some manifests, if they can be read."""
    found: list[LeftName] = []
    for mirror in services.mirrors.get("image", ()):
        source = None if is_many(mirror) else spec_of(mirror).source
        if source is None or source.repository or not digests:
            continue
        with suppress(MirrordError, OSError):
            if source.layouts:
                found += await asyncio.to_thread(_builds, mirror, source.layouts, digests)
                continue
            layout, root = await open_image(source, services.scratch)
            if {root.digest, *(one.digest for one in layout.index())}.intersection(digests):
                found.append(LeftName(mirror.name, "", str(source.layout or source.archive), _THEIRS))
    return found


def _builds(mirror: Mirror, folder: Path, digests: Collection[Digest]) -> Sequence[LeftName]:
    listing = all_builds(folder)
    found = [listing.sources[one.item.name] for one in listing.offers if one.item.digest in digests]
    places = dict.fromkeys(str(one.place) for one in found if isinstance(one, LayoutSource))
    return [LeftName(mirror.name, "", place, _THEIRS) for place in places]
