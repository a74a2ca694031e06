"""What a configuration says about the repositories of a registry: a list of them, or rules that choose."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from mirrord.plan.repositories import RepositoryChoice
from mirrord.syncers.image.spec.tags import patterned

_PATTERN = re.compile(r"(?:[a-z0-9_./*?-]|\[!?[a-z0-9_./-]+\])+", re.ASCII)
_NONE = (
    "matches no repository; write its path such as team/app, in lower case, without host and tag, or a glob such as"
    " team/*, or a regular expression between two `/`"
)
Patterns = Annotated[tuple[Annotated[str, patterned(_PATTERN, _NONE)], ...], Field(min_length=1)]


class RepositoryRules(BaseModel):
    """Rules that choose repositories of a registry."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"minProperties": 1})

    match: Patterns = Field(
        default=("*",),
        description="Like a list of `repositories`. Default: all of the registry.",
        examples=['["team/*", "/lib-[a-z]+/"]'],
    )
    exclude: Patterns = Field(
        default=(),
        description=(
            "Like `match`, for repositories that are left out, also where `match` names them. It may match nothing."
        ),
        examples=['["*/scratch"]'],
    )

    @model_validator(mode="after")
    def _no_empty_rules(self) -> RepositoryRules:
        if not self.model_fields_set:
            raise ValueError('is empty; write at least one key, such as match: ["team/*"]')
        return self


def _form(value: Any) -> str:
    return "mapping" if isinstance(value, dict | RepositoryRules) else "list"


RepositoriesKey = Annotated[
    Annotated[Patterns, Tag("list")] | Annotated[RepositoryRules, Tag("mapping")], Discriminator(_form)
]


def choice_of(written: tuple[str, ...] | RepositoryRules) -> RepositoryChoice:
    """Return what was written as a value."""
    if isinstance(written, RepositoryRules):
        return RepositoryChoice(written.match, written.exclude)
    return RepositoryChoice(written)
