"""What a configuration says about platforms."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from mirrord.config.check import validator
from mirrord.wire.oci.platform import parse_platform

PLATFORMS: Final = "write platforms: [linux/amd64, linux/arm64] beside `from:`"


@validator
def _alike(written: tuple[str, ...]) -> tuple[str, ...]:
    """Write platforms in the one spelling, each once."""
    return tuple(dict.fromkeys(str(parse_platform(text)) for text in written))


Platforms = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_alike)]
