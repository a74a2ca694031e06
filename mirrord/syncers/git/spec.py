"""The Git syncer's part of the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mirrord.config.units import Duration, between
from mirrord.errors import MirrordError
from mirrord.wire.git.address import Address

ALL_REFS = ("refs/heads/*", "refs/tags/*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PATTERN = re.compile(r"\^?refs/(?:heads|tags)/[^\x00-\x20\x7f~^:\\]+")


def _address(text: str) -> str:
    try:
        Address.parse(text)
    except MirrordError as error:
        raise ValueError(str(error)) from error
    return text


def _name(text: str) -> str:
    if not _NAME.fullmatch(text) or ".." in text or text.endswith((".git", ".lock")):
        raise ValueError(
            f"{text[:80]!r} is no repository name; write the name alone, without owner and `.git`: letters, digits,"
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
    """A Git mirror's own keys.

    Attributes:
        source: URL of the repository, `https://`, `ssh://` or `git@host:path` (`from:`).
        refs: which branches and tags are mirrored: full names and globs (`*` matches slashes too); `^` takes out.
        name: what the repository is called at targets with `{name}`, and in the `local` store (`as:`); by default the
            mirror's name.
        max_loss: a run is blocked when upstream lost or rewrote more than this share of the branches and tags that are
            served (0 to 1). One is always let pass, except with 0.
        rewrites: whether a rewritten default branch blocks a run (`block`), or is followed.
        backups: seconds for which refs that were overwritten by force or deleted are kept; 0 keeps none.
        lfs: carry Git LFS objects too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hints: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("branch", "branches"), "write refs: [refs/heads/main]"),
        **dict.fromkeys(("tag", "tags"), 'write refs: ["refs/tags/*"]'),
    }

    source: RepositoryUrl = Field(alias="from", examples=["https://github.com/gocrane/crane.git"])
    refs: Annotated[tuple[RefPattern, ...], Field(min_length=1, examples=["[refs/heads/main, refs/tags/*]"])] = ALL_REFS
    name: RepositoryName | None = Field(default=None, alias="as", examples=["crane"])
    max_loss: float = Field(default=0.2, ge=0, le=1)
    rewrites: Literal["block", "follow"] = "follow"
    backups: Kept = 30 * 86400.0
    lfs: bool = True

    @model_validator(mode="after")
    def _something_selected(self) -> Self:
        if all(pattern.startswith("^") for pattern in self.refs):
            raise ValueError("refs only takes refs out; add what is mirrored, such as refs/heads/*")
        return self


class GitTarget(BaseModel):
    """A Git target's own keys besides `kind` and `to`.

    Attributes:
        host: what kind of host it is, where its name does not say it; `plain` is any Git server.
        create: make the repository when it is missing.
        visibility: of a repository that is made.
        default_branch: `follow` upstream's, or `keep` what it is there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Literal["github", "gitee", "coding", "cnb", "gitea", "gitlab", "plain"] | None = None
    create: bool = True
    visibility: Literal["private", "public"] = "private"
    default_branch: Literal["follow", "keep"] = "follow"
