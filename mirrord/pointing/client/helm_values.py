"""Values for charts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mirrord.pointing.client.images import ImageFile, Images, repositories
from mirrord.pointing.client.mirror import MARK, ClientFile, ClientSetup, quoted
from mirrord.wire.host import HUB

_FILE: Final = "values-mirrord.yaml"


def setup(images: Images, _: Mapping[str, Sequence[str]]) -> ClientSetup:
    """Return the values: one key for charts that put a registry in front of all, and a comment for each image."""
    chosen = [*repositories(images)]
    hub = {one.place.name.removesuffix(f"/{one.source.path}") for one in chosen if one.source.domain == HUB}
    text = f"{MARK}\n"
    if len(hub) == 1 and not any(one.place.name in hub for one in chosen):
        text += f"# For charts that have this key and whose images are all of {HUB}:\n"
        text += f"global:\n  imageRegistry: {quoted(hub.pop())}\n"
    text += "# For other charts copy the lines below the key of the image; `helm show values CHART` says which it is.\n"
    for one in chosen:
        registry, _slash, repository = one.place.name.partition("/")
        text += f"# {one.source.name}\n#   registry: {quoted(registry)}\n#   repository: {quoted(repository)}\n"
    return ClientSetup(
        (ClientFile(_FILE, text),),
        f"helm upgrade --install RELEASE CHART --values {_FILE}",
        ("a chart without a key `registry` has both in `repository`, with a slash between them",),
    )


HELM_VALUES: Final = ImageFile("helm-values", setup)
