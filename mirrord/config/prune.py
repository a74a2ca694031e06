"""`prune`: what `mirrord prune` may remove at targets."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mirrord.config.units import Duration, between


class PruneKey(BaseModel):
    """`prune:` of a mirror of images or charts; its attributes are those of `Pruning` of images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after: Annotated[Duration, AfterValidator(between("0s", "365d"))] = Field(
        default=86400.0,
        description=(
            "How long a tag, or a version of a chart, must not be wanted before it may be removed. The first"
            " `mirrord prune` notes it, and one that is at least so much later removes it, if the source still does"
            " not have it."
        ),
    )
    max_loss: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description=(
            "Nothing is removed when the source no longer lists, or the configuration no longer names, more than this"
            " share of the tags or versions that were mirrored and that were wanted at the last `mirrord prune`. A"
            " single one may always be gone, unless `max_loss: 0`. What a rule such as `newest` leaves out does not"
            " count."
        ),
    )
