"""`keep`: how much of what it has `local` keeps, of all mirrors or of one."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from mirrord.config.check import Strict
from mirrord.config.units import Duration, between
from mirrord.model.keep import Keep


class KeepKeys(Strict):
    """`keep`: each key is a reason to keep a name."""

    newest: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None,
        description=(
            "Keep so many names of each group: the builds of a branch, the versions of a variant (`-alpine`) or of a"
            " chart. Versions are ordered as versions, all others by when they came."
        ),
        examples=[20],
    )
    days: Annotated[int, Field(ge=1, le=3660)] | None = Field(
        default=None,
        description=(
            "Keep what came during so many days, and for so long what a tag stood for before it moved. Without it that"
            " goes an hour after the tag moved."
        ),
        examples=[90],
    )
    unused: Annotated[Duration, AfterValidator(between("1h", "3660d"))] | None = Field(
        default=None, description="Keep what clients asked mirrord for during this time.", examples=["30d"]
    )

    @property
    def rules(self) -> Keep | None:
        """The rules as the rest of the program knows them; None when everything stays."""
        rules = Keep(self.newest, self.days, self.unused)
        return None if rules.everything else rules


class LocalSettings(Strict):
    """`settings.local`: what mirrord itself keeps and serves."""

    keep: KeepKeys = Field(
        default=KeepKeys(),
        description=(
            "What stays in `local` of images and charts; a name goes when no key keeps it. Default: everything stays."
        ),
    )
