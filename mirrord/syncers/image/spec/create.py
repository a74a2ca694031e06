"""`create:` of an image target: how a repository or project is created there when a push finds none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mirrord.config.units import Size

_STRICT = ConfigDict(frozen=True, extra="forbid")
_FILTER = r"^[0-9a-zA-Z._*-]{1,128}$"
_MOST = 5  # filters; docs.aws.amazon.com/AmazonECR/latest/userguide/image-tag-mutability.html
_WILDCARDS = 2  # in one of them


class EncryptionKey(BaseModel):
    """`create.encryption`."""

    model_config = _STRICT

    type: Literal["aes256", "kms", "kms-dsse"] = Field(
        description="How images are encrypted at rest: with keys of S3, or with a key of KMS.", examples=["kms"]
    )
    key: str | None = Field(
        default=None,
        min_length=1,
        max_length=2048,
        description="With `kms`: ARN, id or alias of the key. Default: AWS's own for ECR.",
        examples=["alias/images"],
    )

    @model_validator(mode="after")
    def _key_of_kms(self) -> Self:
        if self.key and self.type == "aes256":
            raise ValueError("key needs `type: kms`; write that, or remove key")
        return self


class CreateKey(BaseModel):
    """`create`; which keys there are depends on the registry."""

    model_config = _STRICT

    mutability: Literal["mutable", "immutable"] | None = Field(
        default=None,
        description="At Amazon ECR: whether a tag may move to another image. Default: that of the registry.",
    )
    exceptions: Annotated[
        tuple[Annotated[str, Field(pattern=_FILTER)], ...],
        Field(
            alias="except",
            max_length=_MOST,
            description="At Amazon ECR: tags, with `*` for anything, for which the opposite of `mutability` holds.",
            examples=["[latest, dev-*]"],
        ),
    ] = ()
    scan: bool | None = Field(
        default=None,
        description="At Amazon ECR: scan each image when it is pushed. Default: as the registry is set up.",
    )
    encryption: EncryptionKey | None = Field(
        default=None, description="At Amazon ECR: how images are encrypted. Default: `{type: aes256}`."
    )
    tags: Annotated[
        dict[str, str],
        Field(
            max_length=50,
            description="At Amazon ECR: AWS's tags of the repository, for bills and rules.",
            examples=["{team: platform}"],
        ),
    ] = {}
    policy: Path | dict[str, Any] | None = Field(
        default=None,
        description=(
            "At Amazon ECR: policy of the repository, such as who may pull: a JSON file, or the policy itself. A"
            " relative path is below the folder of the configuration."
        ),
        examples=["ecr-allow-all-pull.json"],
    )
    public: bool | None = Field(
        default=None, description="At Harbor: whether everybody may pull from the project. Default: `false`."
    )
    storage_limit: Size | None = Field(
        default=None, description="At Harbor: how much the project may hold. Default: as Harbor is set up."
    )

    @property
    def keys(self) -> frozenset[str]:
        """The keys that were written, as people write them."""
        return frozenset(type(self).model_fields[name].alias or name for name in self.model_fields_set)

    @model_validator(mode="after")
    def _exceptions_of_something(self) -> Self:
        if self.exceptions and not self.mutability:
            raise ValueError("except needs mutability; write `mutability: immutable` beside it")
        if many := next((one for one in self.exceptions if one.count("*") > _WILDCARDS), None):
            raise ValueError(f"except: {many[:80]!r} has more than {_WILDCARDS} `*`, and Amazon ECR takes no more")
        return self
