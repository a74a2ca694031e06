"""`verify`: when mirrors are verified by themselves, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from mirrord.config.check import Strict
from mirrord.config.units import Duration, Size, between, parse_size
from mirrord.model.verification import Level, Verifying


class VerifyKeys(Strict):
    """`verify`: each mirror is compared with what was mirrored, one at a time."""

    every: Annotated[Duration, AfterValidator(between("1h", "366d"))] | None = Field(
        default=None,
        description="Time between two verifications of a mirror, 1 h to 366 d. Default: on command only.",
        examples=["7d"],
    )
    level: Literal["names", "deep", "bytes"] = Field(
        default="deep",
        description="How far one by schedule looks: at `names`, also at all below them, or also at bytes.",
    )
    bytes: Annotated[Size, AfterValidator(between("1KiB", "1024TiB", parse_size))] = Field(
        default=2**30,
        description="How much content `bytes` reads and hashes at each target, and each time another part of it.",
    )

    @property
    def rules(self) -> Verifying:
        """The rules as the rest of the program knows them."""
        return Verifying(self.every, Level(self.level), self.bytes)
