"""What a configuration says about tags: a list of them, or rules that choose."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from mirrord.config.check import validator
from mirrord.config.units import Duration, between
from mirrord.model.choice import Choice
from mirrord.patterns import as_expression, compiled
from mirrord.plan.choice import parse_range
from mirrord.wire.oci.reference import valid_tag


def checked(valid: Callable[[str], object], why: str) -> AfterValidator:
    """Return a check that refuses a text with this reason unless it is valid."""

    def check(text: str) -> str:
        if not valid(text):
            raise ValueError(f"{text[:80]!r} {why}")
        return text

    return AfterValidator(check)


def patterned(globs: re.Pattern[str], why: str) -> AfterValidator:
    """Return a check that refuses a text with this reason unless it is such a glob, or a `/regular expression/`."""

    @validator
    def check(text: str) -> str:
        expression = as_expression(text)
        if expression is not None:
            compiled(expression)
        elif not globs.fullmatch(text):
            raise ValueError(f"{text[:80]!r} {why}")
        return text

    return AfterValidator(check)


_PATTERN = re.compile(r"(?:[\w.*?-]|\[!?[\w.-]+\])+", re.ASCII)
_CHARACTERS = "up to 128 letters, digits, `_`, `.` or `-`"
_GLOB = (
    "matches no tag; write a tag such as v1.2, or a glob with `*`, `?` and `[...]`; version ranges, regular expressions"
    ' and exclusions go into a mapping, such as tags: {versions: ">=1.2", exclude: ["*-rc*"]}'
)
_MATCH = "matches no tag; write a tag, a glob with `*`, `?` and `[...]`, or a regular expression between two `/`"
Tag = Annotated[str, checked(valid_tag, f"is not a tag; write {_CHARACTERS}")]
TagPattern = Annotated[str, checked(_PATTERN.fullmatch, _GLOB)]
_VERSIONS = WithJsonSchema({"type": "array", "items": {"type": ["string", "number"]}})  # of YAML, 1.29 is a number
Tags = Annotated[tuple[TagPattern, ...], _VERSIONS]
Names = Annotated[tuple[Tag, ...], _VERSIONS]


@validator
def _range(text: str) -> str:
    parse_range(text)
    return text


Match = Annotated[tuple[Annotated[str, patterned(_PATTERN, _MATCH)], ...], Field(min_length=1), _VERSIONS]
VersionRange = Annotated[str, AfterValidator(_range), WithJsonSchema({"type": ["string", "number"]})]
Age = Annotated[Duration, AfterValidator(between("0s", "3660d"))]


class TagChoice(BaseModel):
    """Rules that choose tags."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"minProperties": 1})

    match: Match = Field(
        default=(),
        description=(
            "Tags, globs, and regular expressions of the whole tag between two `/` (RE2). A tag written out is chosen"
            " whatever the other keys say, except `exclude`. Default: all tags."
        ),
        examples=['["v*", "/[0-9.]+-alpine/"]'],
    )
    versions: VersionRange | None = Field(
        default=None,
        description='Version range as helm reads it, such as `">=1.25 <2"`. A variant (`-alpine`) does not count.',
        examples=['">=1.25 <2"'],
    )
    newest: int | None = Field(
        default=None, ge=1, description="Only this many tags, the newest, of each variant. Default: all."
    )
    of: Literal["minor", "major"] | None = Field(
        default=None, description="With `newest`: so many of each minor or major version."
    )
    by: Literal["version", "date"] = Field(
        default="version",
        description="With `newest`: the highest `version` is the newest, or the last `date` (see `min_age`).",
    )
    prereleases: bool = Field(
        default=False,
        description=(
            "Also choose pre-releases (alpha, beta, rc, nightly, dev…) and tags with the hash of a commit that neither"
            " `match` nor `versions` names."
        ),
    )
    exclude: Match = Field(
        default=(), description="Like `match`, for tags that are left out.", examples=['["*-windows*"]']
    )
    min_age: Age = Field(
        default=0.0,
        description=(
            "Choose a tag only this long after its date, as far as that is known: that of its push where the registry's"
            " API has it, else when its image was made."
        ),
    )
    max_age: Age | None = Field(
        default=None,
        description="Leave out tags whose date (see `min_age`) is longer ago than this. Default: no limit.",
    )

    @model_validator(mode="after")
    def _no_key_without_effect(self) -> Self:
        if not self.model_fields_set:
            raise ValueError('tags is empty; write at least one key, such as match: ["*"]')
        for key in ("of", "by"):
            if key in self.model_fields_set and self.newest is None:
                raise ValueError(f"{key} needs newest; write that too, such as newest: 3, or remove {key}")
        if self.max_age is not None and self.max_age <= self.min_age:
            raise ValueError("max_age is not above min_age, so that no tag has such an age; raise it")
        return self

    @property
    def choice(self) -> Choice:
        """The rules as a value."""
        return Choice(
            *(self.match, self.versions or "", self.newest, self.of or "", self.by, self.prereleases, self.exclude),
            *(self.min_age, self.max_age),
        )
