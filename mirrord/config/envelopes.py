"""What mirrors and targets of every kind have in common: their names, and the keys that do not belong to the kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from mirrord.config.check import Strict
from mirrord.config.keep import KeepKeys
from mirrord.config.schedules import Timing
from mirrord.config.units import Deadline, Trust
from mirrord.config.verify import VerifyKeys
from mirrord.errors import UntrustedError
from mirrord.wire.origin import check_url

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
NAME_PATTERN = f"^{NAME.pattern}$"
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9-]+")
_KIND = "Kind of artifact: `image`, `helm` or `git`."


def check_name(text: str) -> str:
    """Return the name of a mirror or of a target. Raises ValueError: it is none."""
    if not NAME.fullmatch(text):
        # No dots: in URLs a first segment with a dot is an upstream host (pull-through).
        like = _NOT_IN_A_NAME.sub("-", text.lower()).strip("-")[:63]
        # What comes before an `@` is often a password.
        hint = f", such as {like}" if like and "@" not in text else ""
        raise ValueError(f"{text[:80]!r} is not a name; write a-z, 0-9 and -, at most 63 characters{hint}")
    return text


def _page(text: str) -> str:
    filled = text.replace("{name}", "name").replace("{mirror}", "mirror")
    if "{" in filled or "}" in filled:
        raise ValueError(f"{text[:80]!r} has an unknown placeholder; write {{name}} or {{mirror}}")
    try:
        check_url(filled)
    except UntrustedError as error:
        raise ValueError(f"{error}; write https://host/path") from error
    return text


Name = Annotated[
    str,
    AfterValidator(check_name),
    Field(
        description="Name of the mirror: `a-z`, `0-9` and `-`, at most 63 characters, unique in all files.",
        examples=["craned"],
        json_schema_extra={"pattern": NAME_PATTERN},
    ),
]
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    Field(min_length=1, examples=["[ghcr, local]"]),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
            "description": "Name of a target, or a list of names. `local` is built in.",
        }
    ),
]


class Envelope(Timing):
    """The keys that mirrors of every kind have; `from` and everything else belong to the kind."""

    hints: ClassVar[Mapping[str, str]] = {
        "interval": "write every: 6h, or cron:",
        "schedule": "write every: 6h, or cron: '17 3 * * *'",
        **dict.fromkeys(("source", "url", "repo"), "write from:"),
        "target": "write to:",
        "targets": "write to: and the names of targets",
        "type": "write kind:",
    }

    name: Name
    kind: Annotated[str, Field(description=_KIND, examples=["image"])]
    to: Names
    deadline: Deadline | None = Field(
        default=None, description="A run that takes longer is cancelled. Default: `settings.deadline`."
    )
    trust: Trust | None = Field(
        default=None,
        description=(
            "How long a recorded digest is trusted before the target is asked again. Default: `settings.trust`."
        ),
    )
    verify: VerifyKeys | None = Field(
        default=None, description="When and how the mirror is verified. Default: `settings.verify`."
    )
    keep: KeepKeys | Literal["all"] | None = Field(
        default=None,
        description=(
            "What stays of this mirror in `local`, in place of `settings.local.keep`; `all` keeps everything. For"
            " images and charts. Default: `settings.local.keep`."
        ),
        examples=["{newest: 20, days: 90}"],
    )


class TargetEnvelope(Strict):
    """The keys that targets of every kind have."""

    hints: ClassVar[Mapping[str, str]] = dict.fromkeys(("url", "registry", "repository", "repo"), "write to:")

    kind: Annotated[str, Field(description=_KIND, examples=["image"])]
    to: Annotated[
        str,
        Field(
            min_length=1,
            description=(
                "Where to write. Images: `host/path`, or `oci:/dir` for OCI layouts on this machine. Charts: a"
                " URL, `oci://host/path` or an absolute path. Git: a URL or `git@host:path`. `{mirror}` stands"
                " for the mirror's name, `{name}` for its `as:`, else for what a naming calls the image, else for the"
                " mirror's name. `/{name}` is added to an image target without braces, and to a Git target"
                " without braces that does not end in `.git`."
            ),
            examples=["ghcr.io/gocrane/crane"],
        ),
    ]
    page: (
        Annotated[
            str,
            AfterValidator(_page),
            Field(
                description=(
                    "URL of the target's web page, to which the pages of mirrord link. `{mirror}` and `{name}` mean"
                    " what they mean in `to`. Default: the page that the host is known to have, such as that of an"
                    " image on Docker Hub."
                ),
                examples=["https://finops.coding.net/public-artifacts/gocrane/{mirror}/packages"],
            ),
        ]
        | None
    ) = None
