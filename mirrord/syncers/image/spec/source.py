"""What a configuration says about where images come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic import Tag as Form

from mirrord.config.check import validator
from mirrord.config.names import OurHost
from mirrord.model.choice import Choice
from mirrord.plan.repositories import RepositoryChoice
from mirrord.plan.select import is_glob
from mirrord.syncers.image.spec.advice import as_mapping
from mirrord.syncers.image.spec.repositories import RepositoriesKey, RepositoryRules, choice_of
from mirrord.syncers.image.spec.tags import Names, TagChoice, Tags
from mirrord.wire.vendors.known import vendor_of
from mirrord.wire.vendors.port import check_listable


def _file(value: object) -> object:
    """Refuse what is no path of a list; what is no text is left to pydantic."""
    if isinstance(value, str):
        if not value:
            raise ValueError("is empty; write the path of a file, such as images.txt")
        if "://" in value:
            raise ValueError(f"{value[:80]!r} is a URL; download the list, and write the path of the file")
    return value


_TAGGED = ("repository", "registry", "list")
_KEYS = ("repository", "registry", "list", "layout", "archive", "layouts")


_FORM = Discriminator(lambda value: "mapping" if isinstance(value, dict | TagChoice) else "list")


class SourceKeys(BaseModel):
    """`from:` of an image mirror; its attributes are those of `names.Source`."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"oneOf": [{"required": [key]} for key in _KEYS]},
    )

    repository: str | None = Field(
        default=None,
        description=(
            "Repository at a registry, such as `quay.io/calico/node`. A tag or digest in it selects what is"
            " mirrored, instead of `tags`."
        ),
    )
    registry: OurHost | None = Field(
        default=None,
        description=(
            "Registry, such as `quay.io` or `registry.example.org:5000`, of which all `repositories` are mirrored,"
            " each under a name of its own."
        ),
    )
    wanted: RepositoriesKey | None = Field(
        default=None,
        alias="repositories",
        description=(
            "With `registry`: a list of paths, globs (`*` also matches `/`), such as `team/*`, and regular expressions"
            " of the whole path between two `/` (RE2), or a mapping of rules such as"
            ' `{match: [team/*], exclude: ["*/scratch"]}`. For a glob or a regular expression the registry must list'
            " its repositories, by `/v2/_catalog` or by an API of its own (`hosts.HOST.profile`). Docker Hub, Quay and"
            " GitLab list one namespace at a time, which is written in front: `team/*`, not `*`."
        ),
        examples=["[team/*, library/nginx]"],
    )
    listing: Annotated[Path, BeforeValidator(_file)] | None = Field(
        default=None,
        alias="list",
        description=(
            "File that names images, one a line, and is read in each run. A relative path is below the folder of the"
            " configuration."
        ),
        examples=["images.txt"],
    )
    form: Literal["tags", "patterns", "daily", "weekly"] | None = Field(
        default=None,
        description=(
            "With `list`: what a line looks like. `tags`: `image[:tag][@digest]`. `patterns`: `host/path[:regex]`."
            " `daily` and `weekly`: `image`, with a fixed choice of tags. Default: `patterns` for `mirror*.txt`,"
            " `daily` for `*-daily.txt`, `weekly` for `*-weekly.txt`, else `tags`."
        ),
    )
    selection: Annotated[Annotated[Tags, Form("list")] | Annotated[TagChoice, Form("mapping")], _FORM] = Field(
        default=(),
        alias="tags",
        description=(
            "With `repository`, `registry` or `list`: a list of tags and globs (`*`, `?`, `[...]`), or a mapping of"
            ' rules such as `{versions: ">=1.25", newest: 3, of: minor}`. A glob that matches no tag is a remark. Lines'
            " of a list with a tag or a pattern of their own ignore it. Default: the tag in `repository`, else"
            " `latest`."
        ),
        examples=['["1.29", "1.2*"]'],
    )
    layout: Path | None = Field(default=None, description="OCI image layout, a folder or a tar file.")
    archive: Path | None = Field(default=None, description="File that `docker save` wrote.")
    layouts: Path | None = Field(
        default=None,
        description=(
            "Folder of OCI layouts. Each layout is published once, under the branch and commit in its"
            " annotations. The tag of the branch only moves forward."
        ),
    )
    tag: str | None = Field(
        default=None,
        description=(
            "With `layout` or `archive`: which of its images. Write its name there (`quay.io/team/app:v3`),"
            " only the tag of that name, or its digest."
        ),
    )
    names: Names = Field(
        default=(),
        description=(
            "With `layout`, `archive` or a single tag: tags that the image gets at the targets. With more"
            " than one, the first is fixed and the others move."
        ),
    )

    @property
    def repositories(self) -> RepositoryChoice | None:
        """The rules for the repositories of `registry`."""
        return None if self.wanted is None else choice_of(self.wanted)

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags and globs of a list."""
        return () if isinstance(self.selection, TagChoice) else self.selection

    @property
    def choice(self) -> Choice | None:
        """The rules of a mapping."""
        return self.selection.choice if isinstance(self.selection, TagChoice) else None

    @model_validator(mode="before")
    @classmethod
    def _no_text(cls, value: object) -> object:
        if isinstance(value, str) and value:
            raise ValueError(f"is a mapping for images; write {as_mapping(value)}")
        return value

    @field_validator("wanted")
    @classmethod
    @validator
    def _listable(cls, value: tuple[str, ...] | RepositoryRules, info: ValidationInfo) -> object:
        registry, rules = info.data.get("registry", ""), choice_of(value)  # not there when it is wrong
        if registry is None:
            raise ValueError("needs registry; write {registry: quay.io, repositories: [team/*]}")
        check_listable(vendor_of(registry), rules.patterns)
        if not rules.patterns and not rules.select(()):
            raise ValueError("exclude leaves out every path that match names; correct one of them")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [key for key in _KEYS if getattr(self, "listing" if key == "list" else key) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"needs exactly one of {', '.join(_KEYS)}; found {found}")
        if self.selection and given[0] not in _TAGGED:
            raise ValueError(f"tags needs repository, registry or list, and does not fit {given[0]}")
        if bool(self.registry) != bool(self.repositories):
            raise ValueError("registry and repositories go together; write {registry: quay.io, repositories: [team/*]}")
        if self.form and not self.listing:
            raise ValueError(f"form needs list, and does not fit {given[0]}")
        if self.names and given[0] in ("registry", "list"):
            raise ValueError(f"names needs a single image, and does not fit {given[0]}")
        if "selection" in self.model_fields_set and not self.selection:
            raise ValueError("tags is empty; name one at least, or remove the key to mirror the repository's own tag")
        if self.tag and not (self.layout or self.archive):
            better = f"; write tags: [{self.tag!r}]" if self.repository else ""
            raise ValueError(f"tag needs layout or archive, and does not fit {given[0]}{better}")
        if self.names and self.layouts:
            raise ValueError("names does not fit layouts, whose names come from their annotations")
        if self.names and (self.choice or len(self.tags) > 1 or any(map(is_glob, self.tags))):
            raise ValueError("names needs a single tag; mirror several tags under their own names")
        return self
