"""`pull_requests:`: repositories whose pull requests are told where the images of their builds can be pulled."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final, Literal, get_args

from pydantic import BeforeValidator, Field

from mirrord.config.check import TEXTS, Strict, as_list, check
from mirrord.config.issues import fetched_secret, repository_address
from mirrord.config.lines import Problems, Trail, Value, nearest
from mirrord.config.secrets import SecretSource
from mirrord.syncer.values import Mirror
from mirrord.wire.forges.port import repository_of
from mirrord.wire.git.address import Address
from mirrord.wire.host import HostBook
from mirrord.wire.secret import Secret

PullRequestForge = Literal["github", "gitee", "gitea", "gitlab"]
FORGES: Final[tuple[str, ...]] = get_args(PullRequestForge)
"""What hosts pull requests that are commented in."""
_KIND: Final = "image"
_KEY: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")


class PullRequestKeys(Strict):
    """One entry of `pull_requests`."""

    hints: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("kind", "type", "host", "service"), "write forge: github"),
        **dict.fromkeys(("repo", "url", "project", "to"), "write repository: OWNER/NAME"),
        **dict.fromkeys(("password", "auth", "access_token"), "write token: {env: GITHUB_TOKEN}"),
        **dict.fromkeys(("mirror", "images", "names"), "write mirrors: [NAME]"),
        **dict.fromkeys(("chart", "install"), "write helm: helm install NAME REPOSITORY/CHART"),
        **dict.fromkeys(("lang", "locale"), "write language: en or language: zh"),
    }

    forge: PullRequestForge = Field(
        description="What hosts the repository: `github`, `gitee`, `gitlab`, or `gitea` (also Forgejo)."
    )
    repository: str = Field(
        description="`OWNER/NAME` at github.com, gitee.com or gitlab.com; else the whole URL of its page.",
        examples=["acme/app"],
    )
    token: SecretSource = Field(
        description="Where the token of the account is that comments; it needs no more rights than that.",
        examples=["{env: GITHUB_TOKEN}"],
    )
    mirrors: Annotated[
        tuple[str, ...],
        BeforeValidator(as_list),
        Field(min_length=1),
        TEXTS,
    ] = Field(
        description="Mirrors of images whose builds are meant; `NAME=KEY` where the chart calls the values of one so.",
        examples=["[craned, metric-adapter=metricAdapter]"],
    )
    helm: str | None = Field(
        default=None,
        description="What installs the chart; the comment has it with the values for the build. Default: left out.",
        examples=["helm install crane crane/crane"],
    )
    language: Literal["en", "zh"] | None = Field(
        default=None, description="Language of the comment: `en` or `zh`. Default: `zh` at Gitee, else `en`."
    )


@dataclass(frozen=True, slots=True)
class BuiltMirror:
    """A mirror to which builds are published, and what its values begin with in the chart."""

    mirror: Mirror
    key: str


@dataclass(frozen=True, slots=True)
class PullRequestRules:
    """How the pull requests of one repository are told of builds.

    Attributes:
        name: of the entry.
        forge: `github`, `gitee`, `gitea` or `gitlab`.
        address: of the repository.
        token: of the account that comments.
        built: the mirrors.
        helm: what installs the chart, "" for nothing.
        language: of the comment.
    """

    name: str
    forge: str
    address: Address
    token: Secret = field(repr=False)
    built: tuple[BuiltMirror, ...]
    helm: str
    language: str

    @property
    def place(self) -> str:
        """Where the repository is, as the log shows it: `github.com/acme/app`."""
        return "/".join((self.address.host, *repository_of(self.address)))


def read_pull_requests(
    value: Value, mirrors: Sequence[Mirror], book: HostBook, problems: Problems, environ: Mapping[str, str]
) -> tuple[PullRequestRules, ...]:
    """Validate `pull_requests:` and fetch its secrets; each problem is noted, and its entry left out."""
    entries = value.items() if isinstance(value, dict) else ()
    found = [_read(name, one, mirrors, book, problems=problems, environ=environ) for name, one in entries]
    return tuple(one for one in found if one)


def built_mirror(text: str, mirrors: Sequence[Mirror]) -> BuiltMirror:
    """Read `NAME` or `NAME=KEY`; without a key the name is one, and an empty key means that there is none.

    Raises:
        ValueError: no mirror of an image is called so, or it is no key.
    """
    name, given, key = text.partition("=")
    known = {one.name: one for one in mirrors if one.kind == _KIND}
    if name not in known:
        raise ValueError(f"{name[:60]!r} is no mirror of an image; {nearest(name, known)}")
    key = key if given else name
    if key and not _KEY.fullmatch(key):
        raise ValueError(f"{key[:60]!r} is no key of values; write {name}=KEY, such as {name}=craned")
    return BuiltMirror(known[name], key)


def check_helm(text: str) -> str:
    """Return what installs a chart if it is one line of a fence in Markdown; ValueError if not."""
    if not text.isprintable() or "```" in text:
        raise ValueError("is one line, such as 'helm install crane crane/crane'")
    return text


def _read(
    name: str,
    value: Value,
    mirrors: Sequence[Mirror],
    book: HostBook,
    *,
    problems: Problems,
    environ: Mapping[str, str],
) -> PullRequestRules | None:
    trail: Trail = ("pull_requests", name)
    keys = check(PullRequestKeys, value, trail, problems)
    if keys is None:
        return None
    before = problems.count()
    built: list[BuiltMirror] = []
    for text in keys.mirrors:
        try:
            built.append(built_mirror(text, mirrors))
        except ValueError as error:
            problems.add((*trail, "mirrors"), str(error))
    try:
        helm = check_helm(keys.helm or "")
    except ValueError as error:
        problems.add((*trail, "helm"), str(error))
    address = repository_address(keys.repository, keys.forge, book, trail, problems)
    token = fetched_secret(keys.token, (*trail, "token"), problems, environ)
    if problems.count() > before or address is None or token is None:
        return None
    language = keys.language or ("zh" if keys.forge == "gitee" else "en")
    return PullRequestRules(name, keys.forge, address, token, tuple(built), helm, language)
