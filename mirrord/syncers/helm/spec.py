"""The Helm syncer's part of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from mirrord.config.check import validator
from mirrord.config.prune import PruneKey
from mirrord.config.units import Duration, between
from mirrord.model.digest import Digest
from mirrord.plan.semver import Constraint


@validator
def _range(text: str) -> str:
    Constraint.parse(text)
    return text


_VERSION = {"type": ["string", "number"]}  # of YAML, 1.2 is a number
_VERSIONS = WithJsonSchema({"anyOf": [_VERSION, {"type": "object", "additionalProperties": _VERSION}]})
_SKIP = WithJsonSchema({"type": "object", "additionalProperties": {"type": "array", "items": _VERSION}})
Range = Annotated[str, AfterValidator(_range)]


@validator
def _sha256(text: str) -> Digest:
    digest = Digest.parse(text)
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
    """A chart mirror's own keys; durations in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hints: ClassVar[Mapping[str, str]] = {"as": "charts keep their names, so remove the key"}

    source: Repository = Field(
        alias="from",
        description=(
            "URL of a chart repository (the folder of its `index.yaml`), or `oci://host/path`: the repository"
            " of one chart, or the folder of those that `charts` names without globs."
        ),
    )
    charts: tuple[str, ...] = Field(default=("*",), description="Names and globs of charts.")
    exclude: tuple[str, ...] = Field(
        default=(), description="Names and globs of charts that are left out although `charts` matches them."
    )
    versions: Annotated[Range | dict[str, Range] | None, _VERSIONS] = Field(
        default=None,
        description=(
            'Version range as helm reads it, such as `">=1.2 <2"` or `^3.1`. Or a range for each chart:'
            ' `{tetragon: ">=1.2", "*": ">=1"}`, where the name of a chart overrides globs, and the first glob'
            " the others. Default: all versions."
        ),
        examples=['">=1.2"'],
    )
    skip: Annotated[dict[str, tuple[str, ...]], _SKIP] = Field(
        default_factory=dict,
        description='Versions to leave out, as the index writes them: `{tetragon: ["1.2.0"]}`.',
        examples=['{tetragon: ["1.2.0"]}'],
    )
    accept: dict[str, dict[str, Sha256]] = Field(
        default_factory=dict,
        description='Digests that are trusted instead of those in the index: `{tetragon: {1.2.0: "sha256:…"}}`.',
        examples=['{tetragon: {1.2.0: "sha256:…"}}'],
    )
    newest: int | None = Field(
        default=None,
        ge=1,
        description="Only this many versions of each chart, the newest; only stable ones unless `prereleases: true`."
        " Default: all versions.",
    )
    prereleases: bool | None = Field(
        default=None, description="Mirror pre-releases. Default: `true` without `newest`, `false` with it."
    )
    min_age: Annotated[Duration, AfterValidator(between("0s", "3660d"))] = Field(
        default=0.0,
        description=(
            "Mirror a version only this long after its `created`, so that a bad release can be withdrawn before."
        ),
    )
    deprecated: bool = Field(default=True, description="Mirror deprecated charts.")
    removed: Literal["keep", "delete"] = Field(
        default="keep",
        description=(
            "What happens to versions that upstream no longer lists or the mirror no longer selects: `keep`,"
            " or `delete` from `local` and folders. `mirrord prune` removes them from all other targets."
        ),
    )
    changed: Literal["keep", "replace", "fail"] = Field(
        default="keep",
        description=(
            "When upstream changes the digest of a version that was copied: `keep` the copy, `replace` it, or `fail`."
        ),
    )
    max_loss: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description=(
            "An index that lost more than this share of its versions is refused until `mirrord sync NAME"
            " --allow`. With two or more, losing a single one is always accepted, unless `max_loss: 0`."
        ),
    )
    prune: PruneKey = Field(
        default_factory=PruneKey,
        description=(
            "What `mirrord prune` may remove at targets; it removes nothing by itself, only when the command is given."
        ),
        examples=["{after: 7d}"],
        repr=False,  # it says nothing about how an index is written
    )
    index: Literal["yaml", "json"] = Field(
        default="yaml",
        description=(
            "Form of the published `index.yaml`: `yaml`, or `json`, which helm 3.13 and later read nine times as fast."
        ),
    )
    pass_credentials: bool = Field(
        default=False, description="Send the repository's credentials also to other hosts that its index names."
    )


class HelmTarget(BaseModel):
    """A chart target's own keys besides `kind` and `to`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api: Literal["coding", "chartmuseum", "directory", "oci"] | None = Field(
        default=None,
        description=(
            "API of a URL: `coding` or `chartmuseum`. `oci` for `oci://` and `directory` for a path are the default."
        ),
    )
    context_path: str | None = Field(
        default=None,
        pattern=r"^/[^?#\s]*$",
        max_length=200,
        description=(
            "With `api: chartmuseum`: the server's `--context-path`, such as `/museum`. Default: what the"
            " server's index says."
        ),
    )
