"""Which images are at the mirror by the record of its runs, and where their users find them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from mirrord.config.pointing import FRONT
from mirrord.errors import UsageError
from mirrord.model.catalog import CatalogEntry
from mirrord.names.book import NameBook
from mirrord.names.naming import below
from mirrord.pointing.client.images import Images, MirroredImage, ordered
from mirrord.pointing.image_mirrors import KIND
from mirrord.pointing.places import Left, Places
from mirrord.wire.oci.reference import Reference


def mirrored_images(entries: Iterable[CatalogEntry], places: Places, names: NameBook) -> Images:
    """Return the images that are at one of the places, each with the preferred one. Pure.

    An image that is recorded anywhere counts as present at the front, which would read it. What has no source at a
    registry is left out.
    """
    recorded: dict[Reference, set[str]] = {}
    for entry in entries:
        if entry.kind == KIND:
            with suppress(UsageError):  # a layout, or an alias that leads nowhere
                recorded.setdefault(names.canonical(Reference.parse(entry.source)), set()).add(entry.target)
    found = []
    for source, targets in recorded.items():
        candidates = places.candidates(source)
        if not isinstance(candidates, Left):
            here = (one.reference for one in candidates if one.where == FRONT or one.where in targets)
            found += [MirroredImage(source, place) for place in (*here,)[:1]]
    return ordered(found)


def other_names(images: Images, names: NameBook) -> Mapping[str, Sequence[str]]:
    """Return by its canonical name what aliases call a repository, too."""
    return {
        one.source.name: [
            f"{alias}/{rest}" for alias, meant in names.aliases.items() if (rest := below(one.source.name, meant))
        ]
        for one in images
    }
