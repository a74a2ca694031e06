"""What a build of a pull request has become: where each of its images is, and the comment that says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from mirrord.config.load import Configuration
from mirrord.config.pull_requests import BuiltMirror
from mirrord.pointing.image_mirrors import place_at
from mirrord.pointing.places import MirrorPlace, own_host
from mirrord.pointing.present import AskedMirror, Present, asking_book
from mirrord.report.build import BuiltImage
from mirrord.report.site.describing import host_title
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import LOCAL, Mirror, Target
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.oci.reference import Reference


def built_images(read: Configuration, syncer: Syncer, built: Sequence[BuiltMirror], tag: str) -> Iterator[BuiltImage]:
    """Yield the image of each mirror at each target that others can reach, target by target; nobody was asked yet."""
    own = own_host(read) if read.settings.reaches_others() else ""
    targets = dict.fromkeys(target.name for one in built for target in one.mirror.targets)
    titles: dict[str, str] = {}
    for name in targets:
        for one in built:
            for target in one.mirror.targets:
                reference = _reference(one.mirror, target, own, tag) if target.name == name else None
                if reference is None:
                    continue
                title = host_title(reference.domain)
                if titles.setdefault(title, name) != name:
                    title = f"{title} ({name})"
                page = syncer.link_of(one.mirror, target)
                yield BuiltImage(one.mirror.name, one.key, title, page, reference, there=False)


def book_of(read: Configuration) -> HostBook:
    """Return how to talk to the targets of builds."""
    return asking_book(read, [LOCAL] if read.settings.reaches_others() else [])


async def look_for(http: Http, images: Sequence[BuiltImage], tell: Callable[[str], None]) -> Sequence[BuiltImage]:
    """Ask the targets which of the images they have; `tell` is given a sentence about each that is not known."""
    mirror = AskedMirror(http)
    return await asyncio.gather(*(_look(mirror, one, tell) for one in images))


def _reference(mirror: Mirror, target: Target, own: str, tag: str) -> Reference | None:
    """Return what clients pull; None for a folder, and for what only this machine reaches."""
    if target.to.strip().startswith("oci:") or (target.name == LOCAL and not own):
        return None
    return Reference.parse(place_at(mirror, target, own)).with_tag(tag)


async def _look(mirror: Present, image: BuiltImage, tell: Callable[[str], None]) -> BuiltImage:
    there = await mirror.present(MirrorPlace(image.reference, image.registry, image.mirror, listed=True))
    if isinstance(there, str):
        tell(f"{image.reference} could not be looked for: {there}")
    return replace(image, there=there is True)
