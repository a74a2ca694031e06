"""A component of kustomize that renames images. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from mirrord.pointing.client.images import ImageFile, Images, MirroredImage, repositories
from mirrord.pointing.client.mirror import MARK, ClientFile, ClientSetup, quoted
from mirrord.wire.host import HUB
from mirrord.wire.oci.reference import Reference

_FILE: Final = "mirrord/kustomization.yaml"


def setup(images: Images, others: Mapping[str, Sequence[str]]) -> ClientSetup:
    """Return the component: kustomize compares names letter by letter, so each spelling of one is an entry."""
    text = f"{MARK}\napiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nimages:\n"
    text += "".join(line for image in repositories(images) for line in _entries(image, others))
    return ClientSetup(
        (ClientFile(_FILE, text),),
        "",
        (
            "add `components: [mirrord]` to your kustomization.yaml, beside the folder `mirrord`",
            "tags and digests stay; kustomize knows the fields `image` of containers, not those of custom resources",
        ),
    )


def _entries(image: MirroredImage, others: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for name in (*_spellings(image.source), *others.get(image.source.name, ())):
        yield f"  - name: {quoted(name)}\n    newName: {quoted(image.place.name)}\n"


def _spellings(source: Reference) -> Iterator[str]:
    if source.domain == HUB:
        path = source.path.removeprefix("library/")
        if path != source.path and "/" not in path:
            yield from (path, f"{HUB}/{path}")
        yield source.path
    yield source.name


KUSTOMIZE: Final = ImageFile("kustomize", setup)
