"""The Helm syncer's part of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mirrord.config.units import Duration, between
from mirrord.errors import MirrordError
from mirrord.model.digest import Digest
from mirrord.plan.semver import Constraint


def _range(text: str) -> str:
    try:
        Constraint.parse(text)
    except MirrordError as error:
        raise ValueError(str(error)) from error
    return text


Range = Annotated[str, AfterValidator(_range)]


def _sha256(text: str) -> Digest:
    try:
        digest = Digest.parse(text)
    except MirrordError as error:
        raise ValueError(str(error)) from error
    if digest.algorithm != "sha256":
        raise ValueError("charts have digests of kind sha256; write sha256: and 64 hex digits")
    return digest


Sha256 = Annotated[str, AfterValidator(_sha256)]


def _repository(text: str) -> str:
    folder, _, last = text.rstrip("/").rpartition("/")
    if last in ("index.yaml", "index.json"):
        raise ValueError(f"{text[:200]!r} is the index; write the URL of its folder: {folder}")
    if last.endswith((".tgz", ".tar.gz")) and not text.startswith("oci:"):
        raise ValueError(f"{text[:200]!r} is one archive; write the URL of the folder that has index.yaml")
    return text


Repository = Annotated[str, AfterValidator(_repository), Field(examples=["https://grafana.github.io/helm-charts"])]


class HelmSpec(BaseModel):
    """A chart mirror's own keys.

    Attributes:
        source: URL of a classic chart repository (`from:`).
        charts: globs of chart names.
        exclude: globs of chart names that are not wanted although `charts` matches them.
        versions: semver range, as helm reads it; or such ranges by globs of chart names: that of the very name, else of
            the first glob that matches.
        skip: chart → versions that are not wanted, since they are wrong upstream.
        accept: chart → version → the digest of its archive, which is trusted in place of the index's.
        newest: only so many of each chart, the newest ones; stable ones unless `prereleases` says otherwise.
        prereleases: take pre-releases too; by default only when `newest` is not given.
        min_age: seconds since `created` before a version is taken: time for a bad release to be withdrawn.
        deprecated: take charts that are marked deprecated.
        removed: `keep` what upstream no longer lists, or `delete` it.
        changed: what to do when upstream changes the digest of a version that is there: `keep` ours,
            `replace` it, or `fail`.
        max_loss: refuse an index that lost more than this share of its versions (0 to 1); one of several may always be
            lost, except with 0.
        index: write `index.yaml` as `yaml`, or as `json`, which helm 3.13 and later read nine times as fast.
        pass_credentials: send the repository's credentials also to other hosts that its index names.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hints: ClassVar[Mapping[str, str]] = {"as": "charts keep their names, so take the key out"}

    source: Repository = Field(alias="from")
    charts: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    versions: Range | dict[str, Range] | None = Field(default=None, examples=['">=1.2"'])
    skip: dict[str, tuple[str, ...]] = Field(default_factory=dict, examples=['{tetragon: ["1.2.0"]}'])
    accept: dict[str, dict[str, Sha256]] = Field(default_factory=dict, examples=['{tetragon: {1.2.0: "sha256:…"}}'])
    newest: int | None = Field(default=None, ge=1)
    prereleases: bool | None = None
    min_age: Annotated[Duration, AfterValidator(between("0s", "3660d"))] = 0.0
    deprecated: bool = True
    removed: Literal["keep", "delete"] = "keep"
    changed: Literal["keep", "replace", "fail"] = "keep"
    max_loss: float = Field(default=0.2, ge=0, le=1)
    index: Literal["yaml", "json"] = "yaml"
    pass_credentials: bool = False


class HelmTarget(BaseModel):
    """A chart target's own keys besides `kind` and `to`.

    Attributes:
        api: what is spoken there; `oci` for `oci://` and `directory` for a path are understood without it.
        context_path: ChartMuseum's `--context-path`, where neither its index says it nor the URL is below it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    api: Literal["coding", "chartmuseum", "directory", "oci"] | None = None
    context_path: str | None = Field(default=None, pattern=r"^/[^?#\s]*$", max_length=200)
