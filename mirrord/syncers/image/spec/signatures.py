"""`signatures:` of an image mirror."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from mirrord.config.check import validator
from mirrord.config.files import absolute
from mirrord.patterns import as_expression, compiled

HINTS: Final = {
    **dict.fromkeys(
        ("referrers", "digestTags", "from.referrers"),
        "leave it out: signatures and all other referrers are copied with their images",
    ),
    "from.signatures": "it goes beside `from:`",
    **dict.fromkeys(("signatures.key", "signatures.verify"), "write require: {key: /etc/mirrord/release.pub}"),
}
"""Where keys of an image mirror about signatures belong, and what to write for those of other programs."""
_WHO = "write key: /etc/mirrord/release.pub, or identity: and issuer:"


@validator
def _identity(text: str) -> str:
    expression = as_expression(text)
    if expression is not None:
        compiled(expression)
    elif "*" in text:
        raise ValueError(f"{text[:80]!r} has a `*`; write a regular expression of the whole identity between two `/`")
    return text


def _issuer(text: str) -> str:
    if not text.startswith("https://"):
        raise ValueError(f"{text[:80]!r} is no URL; write such as https://token.actions.githubusercontent.com")
    return text


File = Annotated[Path, AfterValidator(absolute)]
Files = Annotated[
    tuple[File, ...],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


class RequireKey(BaseModel):
    """Whose signature an image needs; its attributes are those of `names.signatures.Require`."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"oneOf": [{"required": ["key"]}, {"required": ["identity", "issuer"]}]},
    )

    keys: Files = Field(
        default=(),
        alias="key",
        description=(
            "PEM file of a public key (ECDSA, RSA or Ed25519), such as `cosign.pub`, or a list of files: one signature"
            " by any of them is enough."
        ),
        examples=["/etc/mirrord/release.pub"],
    )
    identity: Annotated[str, AfterValidator(_identity)] = Field(
        default="",
        description=(
            "Instead of `key`: the identity in the certificate of a signature, such as an address of mail or the URL of"
            " a workflow, or a regular expression of all of it between two `/` (RE2). Needs `issuer` and"
            " `mirrord[sigstore]`."
        ),
        examples=["https://github.com/team/app/.github/workflows/release.yml@refs/heads/main"],
    )
    issuer: Annotated[str, AfterValidator(_issuer)] = Field(
        default="",
        description="With `identity`: the OpenID provider that vouched for it.",
        examples=["https://token.actions.githubusercontent.com"],
    )
    trust_root: File | None = Field(
        default=None,
        description=(
            "With `identity`: file of the authorities and logs that are trusted (`trusted_root.json`), for a sigstore"
            " of your own. Default: those of the public one, as `mirrord[sigstore]` has them; nothing is downloaded."
        ),
        examples=["/etc/mirrord/trusted_root.json"],
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if not self.keys and not self.identity:
            raise ValueError(f"says nobody; {_WHO}")
        if self.keys and (self.identity or self.issuer or self.trust_root):
            raise ValueError("key does not go with identity, issuer and trust_root; keep one of the two ways")
        if self.identity and not self.issuer:
            raise ValueError("identity needs issuer: others may vouch for the same name; write the provider's URL")
        return self


class SignaturesKey(BaseModel):
    """What is done with signatures, attestations and SBOMs; its attributes: `names.signatures.Signatures`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    carried: bool = Field(
        default=True,
        alias="copy",
        description=(
            "Whether signatures, attestations and SBOMs are copied with their images: OCI referrers, and cosign's tags"
            " `sha256-….sig`, `.att` and `.sbom`."
        ),
    )
    require: RequireKey | None = Field(
        default=None,
        description="Mirror only images with a signature of cosign by this key or identity. Default: all images.",
        examples=["{key: /etc/mirrord/release.pub}"],
    )
