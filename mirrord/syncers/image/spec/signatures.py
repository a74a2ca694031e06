"""`signatures:` of an image mirror."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class SignaturesKey(BaseModel):
    """What is done with signatures, attestations and SBOMs; its attributes are those of `names.Signatures`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    carried: bool = Field(
        default=True,
        alias="copy",
        description=(
            "Whether signatures, attestations and SBOMs are copied with their images: OCI referrers, and cosign's tags"
            " `sha256-….sig`, `.att` and `.sbom`."
        ),
    )
