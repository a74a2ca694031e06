"""The Git syncer's part of the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mirrord.config.check import validator
from mirrord.config.units import Duration, between
from mirrord.wire.forges.known import forge_of
from mirrord.wire.git.address import Address

ALL_REFS = ("refs/heads/*", "refs/tags/*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PATTERN = re.compile(r"\^?refs/(?:heads|tags)/[^\x00-\x20\x7f~^:\\]+")


@validator
def _address(text: str) -> str:
    address = Address.parse(text)
    forge = forge_of(address)
    page = None if forge.fits(address) else forge.parse_page(text)
    if page and forge.fits(page.address):
        raise ValueError(f"{text[:200]} is a page of {forge.name}; write {page.address}")
    return text


def _name(text: str) -> str:
    if not _NAME.fullmatch(text) or ".." in text or text.endswith((".git", ".lock")):
        raise ValueError(
            f"{text[:80]!r} is not a repository name; write only the name, without owner and `.git`: letters, digits,"
            " `_`, `.` or `-`, a letter or digit first, at most 100 characters, without `..`"
        )
    return text


def _pattern(text: str) -> str:
    if not _PATTERN.fullmatch(text) or ".." in text or "//" in text:
        out, name = ("^", text[1:]) if text.startswith("^") else ("", text)
        kind = "tags" if name.startswith("tags/") else "heads"
        full = f"{out}refs/{kind}/{name.removeprefix(f'{kind}/')}"
        example = full if _PATTERN.fullmatch(full) else "refs/heads/main"
        raise ValueError(
            f"{text[:80]!r} selects no branches or tags; write full names or globs, such as {example[:80]},"
            " with ^ in front to leave refs out"
        )
    return text


RepositoryUrl = Annotated[str, AfterValidator(_address)]
RepositoryName = Annotated[str, AfterValidator(_name)]
RefPattern = Annotated[str, AfterValidator(_pattern)]
Kept = Annotated[Duration, AfterValidator(between("0s", "3660d"))]


class GitSpec(BaseModel):
    """A Git mirror's own keys; durations in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hints: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("branch", "branches"), "write refs: [refs/heads/main]"),
        **dict.fromkeys(("tag", "tags"), 'write refs: ["refs/tags/*"]'),
    }

    source: RepositoryUrl = Field(
        alias="from",
        description=(
            "`https://host/path`, `ssh://user@host/path` or `git@host:path`; `http://` only for loopback"
            " addresses and for hosts with `insecure: true`. A password in it and a folder of this machine are"
            " refused."
        ),
        examples=["https://github.com/gocrane/crane.git"],
    )
    refs: Annotated[tuple[RefPattern, ...], Field(min_length=1, examples=["[refs/heads/main, refs/tags/*]"])] = Field(
        default=ALL_REFS,
        description=(
            "Which branches and tags are mirrored: full names and globs; `*` matches slashes too, and `^` in"
            " front leaves refs out. Other refs are never mirrored."
        ),
    )
    name: RepositoryName | None = Field(
        default=None,
        alias="as",
        description=(
            "Name of the repository at targets with `{name}`, at `/git/` and at `/raw/`. Default: the mirror's name."
        ),
        examples=["crane"],
    )
    max_loss: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description=(
            "A run is blocked when upstream lost or rewrote more than this share of the branches and tags that"
            " are served. With two or more, losing a single one is always accepted, unless `max_loss: 0`."
            " `mirrord sync NAME --allow` overrides it."
        ),
    )
    rewrites: Literal["block", "follow"] = Field(
        default="follow",
        description=(
            "When upstream rewrote the default branch: `follow`, or `block` the run until `mirrord sync NAME --allow`."
        ),
    )
    backups: Kept = Field(
        default=30 * 86400.0,
        description=(
            "How long refs that were overwritten by force or deleted can be brought back with `mirrord"
            " restore`, also those that only a target had. `0s` keeps none."
        ),
    )
    lfs: bool = Field(
        default=True,
        description=(
            "Copy Git LFS objects too, those of the whole history. With `false`, only the pointers are copied."
        ),
    )

    @model_validator(mode="after")
    def _something_selected(self) -> Self:
        if all(pattern.startswith("^") for pattern in self.refs):
            raise ValueError("refs only takes refs out; add what is mirrored, such as refs/heads/*")
        return self


class GitTarget(BaseModel):
    """A Git target's own keys besides `kind` and `to`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Literal["github", "gitee", "coding", "cnb", "gitea", "gitlab", "plain"] | None = Field(
        default=None,
        description=(
            "Kind of host, where its name does not tell: `github`, `gitee`, `coding`, `cnb`, `gitea`,"
            " `gitlab`, or `plain` for any other Git server."
        ),
    )
    create: bool = Field(default=True, description="Create the repository when it is missing.")
    visibility: Literal["private", "public"] = Field(
        default="private", description="Visibility of a repository that is created: `private` or `public`."
    )
    default_branch: Literal["follow", "keep"] = Field(
        default="follow",
        description="`follow` sets upstream's default branch at the target, `keep` leaves the target's.",
    )
