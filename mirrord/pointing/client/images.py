"""Files that name images one by one: for tools that have no setting for a mirror. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from mirrord.names.natural import natural_order
from mirrord.pointing.client.mirror import ClientSetup
from mirrord.wire.oci.reference import Reference

Images = Sequence["MirroredImage"]


@dataclass(frozen=True, slots=True)
class MirroredImage:
    """An image with a tag or digest, in canonical form, and where its users find it."""

    source: Reference
    place: Reference


@dataclass(frozen=True, slots=True)
class ImageFile:
    """What makes the file of a tool.

    Attributes:
        name: as it is typed.
        setup: makes the file of images, sorted by their sources, and of the other names of repositories.
    """

    name: str
    setup: Callable[[Images, Mapping[str, Sequence[str]]], ClientSetup]


def repositories(images: Images) -> Iterator[MirroredImage]:
    """Yield one image of each repository: the one whose tag is the last in natural order, by digest if none has one."""
    for _, group in groupby(images, key=lambda one: one.source.name):
        yield max(group, key=_rank)


def _rank(image: MirroredImage) -> tuple[bool, bool, tuple[str, str]]:
    tag = image.source.tag or ""
    return bool(tag), tag[:1].isdigit() or tag[1:2].isdigit(), natural_order(tag)


def ordered(images: Iterable[MirroredImage]) -> Images:
    """Sort images, each once."""
    return sorted(dict.fromkeys(images), key=lambda one: (one.source.name, str(one.source)))


def by_service(images: Images) -> Mapping[str, MirroredImage]:
    """Return an image of each repository by a name: the last part of its path, with a number where that is taken."""
    found: dict[str, MirroredImage] = {}
    used = Counter[str]()
    for one in repositories(images):
        name = one.source.path.rpartition("/")[2].replace(".", "-")
        used[name] += 1
        while (free := name if used[name] == 1 else f"{name}-{used[name]}") in found:
            used[name] += 1
        found[free] = one
    return found
