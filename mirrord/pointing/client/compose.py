"""A file for Docker Compose that overrides images. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mirrord.pointing.client.images import ImageFile, Images, by_service
from mirrord.pointing.client.mirror import MARK, ClientFile, ClientSetup, quoted

_FILE: Final = "compose.override.yaml"


def setup(images: Images, _: Mapping[str, Sequence[str]]) -> ClientSetup:
    """Return a service for each repository, with the last of its tags."""
    text = f"{MARK}\nservices:\n"
    for name, one in by_service(images).items():
        text += f"  {quoted(name)}:  # {one.source}\n    image: {quoted(str(one.place))}\n"
    return ClientSetup(
        (ClientFile(_FILE, text),),
        "docker compose up",
        ("call the services as your compose.yaml does, and keep those alone that it has",),
    )


COMPOSE: Final = ImageFile("compose", setup)
