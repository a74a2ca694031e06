"""The image syncer's part of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mirrord.config.names import NamingKey
from mirrord.config.prune import PruneKey
from mirrord.config.units import Duration, between
from mirrord.syncers.image.spec.create import CreateKey
from mirrord.syncers.image.spec.platforms import PLATFORMS, Platforms
from mirrord.syncers.image.spec.signatures import HINTS, SignaturesKey
from mirrord.syncers.image.spec.source import SourceKeys
from mirrord.syncers.image.spec.tags import Tags, checked
from mirrord.wire.oci.reference import valid_repository

_NAME = "is not an image name; write lower-case words separated by `/`, such as team/app, without a tag"
ImageName = Annotated[str, checked(valid_repository, _NAME)]


class ImageSpec(BaseModel):
    """An image mirror's own keys; its attributes are those of `names.Images`."""

    hints: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("platform", "from.platforms", "from.platform"), PLATFORMS),
        **HINTS,
        **dict.fromkeys(
            ("from.match", "from.exclude"), "it goes into `tags:` or `repositories:`, written as a mapping"
        ),
        **dict.fromkeys(("tags", "repository", "layout", "layouts", "archive"), "it goes below `from:`"),
    }
    model_config = ConfigDict(frozen=True, extra="forbid")

    source: SourceKeys = Field(
        alias="from",
        description=(
            "Where images come from: exactly one of `repository`, `registry`, `list`, `layout`, `archive` and"
            " `layouts`."
        ),
        examples=["{repository: docker.io/library/nginx}"],
    )
    name: ImageName | None = Field(
        default=None,
        alias="as",
        description="Name of the image at the targets. Default: by `naming`, else the mirror's name.",
    )
    publish: Literal["each", "together"] = Field(
        default="each",
        description=(
            "`each`: a target sets the tags when its own content is complete. `together`: all targets set them"
            " at the same time."
        ),
    )
    together_wait: Annotated[Duration, AfterValidator(between("0s", "30d"))] = Field(
        default=600.0, description="With `publish: together`: how long complete targets wait for slower ones."
    )
    immutable: Tags = Field(
        default=(),
        description=(
            "With `from.repository`, `registry` or `list`: globs of tags that never change. Once copied they"
            " cost no request, and nothing moves them, not even `mirrord publish`."
        ),
    )
    platforms: Platforms = Field(
        default=(),
        description=(
            "Platforms to mirror, such as `linux/amd64`, `linux/arm/v7` or `windows/amd64:10.0.17763`. An index that"
            " has others, too, is mirrored as a new index without them, with another digest. Default: all."
        ),
        examples=["[linux/amd64, linux/arm64]"],
    )

    signatures: SignaturesKey = Field(
        default_factory=SignaturesKey,
        description="What is done with signatures, attestations and SBOMs.",
        examples=["{copy: false}"],
    )

    prune: PruneKey = Field(
        default_factory=PruneKey,
        description=(
            "What `mirrord prune` may remove at targets; it removes nothing by itself, only when the command is given."
        ),
        examples=["{after: 7d}"],
    )

    @model_validator(mode="after")
    def _no_key_without_effect(self) -> Self:
        many = self.source.registry or self.source.listing
        if self.immutable and not (self.source.repository or many):
            raise ValueError("immutable needs from.repository; layouts and archives are read in each run")
        if self.name and many:
            raise ValueError("as is the name of one image; the images of a registry or a list have names of their own")
        if self.signatures.require and self.source.archive:
            raise ValueError("signatures.require does not fit archive, which has none; write layout or repository")
        if "together_wait" in self.model_fields_set and self.publish != "together":
            raise ValueError("together_wait needs `publish: together`; write that too, or remove the key")
        return self


class ImageTarget(BaseModel):
    """An image target's own keys besides `kind` and `to`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    naming: NamingKey | None = Field(
        default=None,
        description=(
            "What images are called here, instead of `names.naming`: `path`, `nwcd`, `flat`, a template, or a table of"
            " prefixes. `{name}` in `to` stands for the result. `as:` of a mirror overrides it."
        ),
        examples=["nwcd"],
    )
    create: CreateKey | None = Field(
        default=None,
        description=(
            "How a repository (Amazon ECR) or a project (Harbor) is created when a push finds none; `{}` leaves all to"
            " the registry. Default: none is created, and the push fails."
        ),
        examples=["{mutability: immutable, scan: true}"],
    )
