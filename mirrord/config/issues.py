"""`asking.issues`: repositories in whose issues people ask for images."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field

from mirrord.config.check import Strict
from mirrord.config.files import AbsentError
from mirrord.config.lines import Problems, Trail
from mirrord.config.secrets import SecretSource, read_secret
from mirrord.config.units import Duration, between
from mirrord.errors import UsageError
from mirrord.wire.forges.known import FORGES
from mirrord.wire.forges.port import repository_of
from mirrord.wire.git.address import Address
from mirrord.wire.host import HostBook
from mirrord.wire.origin import check_url
from mirrord.wire.secret import Secret
from mirrord.wire.trust import belongs

_LABEL: Final = re.compile(r"[^\s,\x00-\x1f](?:[^,\x00-\x1f]{0,28}[^\s,\x00-\x1f])?")

_GITEE_LABEL: Final = 20 - len(": refused")  # Gitee's names of labels have 2 to 20 characters


def _label(text: str) -> str:
    if not _LABEL.fullmatch(text):
        raise ValueError("is not a label; write 1 to 30 characters without commas, such as sync image")
    return text


class IssueKeys(Strict):
    """One entry of `asking.issues`."""

    hints: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("kind", "type", "host", "service"), "write forge: github"),
        **dict.fromkeys(("repo", "url", "project"), "write repository: OWNER/NAME"),
        **dict.fromkeys(("password", "auth", "access_token"), "write token: {env: GITHUB_TOKEN}"),
        **dict.fromkeys(("webhook", "hook", "webhook_secret"), "write secret: {env: HOOK_SECRET}"),
        "labels": "write label: sync image",
        **dict.fromkeys(("lang", "locale"), "write language: en or language: zh"),
        **dict.fromkeys(("interval", "poll", "cron"), "write every: 10m"),
    }

    forge: Literal["github", "gitee", "gitea"] = Field(
        description="What hosts the repository: `github`, `gitee`, or `gitea` (also Forgejo)."
    )
    repository: str = Field(
        description="`OWNER/NAME` at github.com or gitee.com; the whole URL of its page for any other host.",
        examples=["acme/mirror"],
    )
    token: SecretSource = Field(
        description="Where the token of the account is that answers; it reads and writes issues, and needs no more.",
        examples=["{env: GITHUB_TOKEN}"],
    )
    secret: Annotated[
        SecretSource | None,
        Field(
            description=(
                "Where the secret of the webhook is, which calls `/hooks/FORGE/OWNER/NAME`. Default: no webhook is"
                " answered, and the issues are looked at by `every` alone."
            ),
            examples=["{env: HOOK_SECRET}"],
        ),
    ] = None
    label: Annotated[str, AfterValidator(_label)] = Field(
        default="sync image",
        description=(
            "Only issues with this label are read. The answered ones get `LABEL: done` or `LABEL: refused`. At Gitee it"
            " has 2 to 11 characters."
        ),
    )
    language: Literal["en", "zh"] = Field(default="en", description="Language of the answers: `en` or `zh`.")
    every: Annotated[Duration, AfterValidator(between("10s", "1d"))] = Field(
        default=600.0,
        description="Time between two looks at the open issues, 10 s to 1 d; a webhook is faster, and may be missed.",
    )


@dataclass(frozen=True, slots=True)
class IssueRules:
    """How one repository's issues are answered.

    Attributes:
        forge: `github`, `gitee` or `gitea`.
        address: of the repository.
        token: of the account that answers.
        secret: of the webhook; None for none.
        label: which issues are read.
        language: of the answers.
        every: seconds between two looks.
    """

    forge: str
    address: Address
    token: Secret = field(repr=False)
    secret: Secret | None = field(repr=False)
    label: str
    language: str
    every: float

    @property
    def repository(self) -> str:
        """`OWNER/NAME`."""
        return "/".join(repository_of(self.address)[-2:])

    @property
    def hook(self) -> str:
        """What its webhook is called below `/hooks/`, where no other host has a repository of the same name."""
        return f"{self.forge}/{self.repository}".lower()

    @property
    def name(self) -> str:
        """What it is called in the log and in `/status`; no two are called the same: `gitea/HOST/OWNER/NAME`."""
        host = () if self.address.host in FORGES[self.forge].hosts else (self.address.host,)
        return "/".join((self.forge, *host, *repository_of(self.address))).lower()


def read_issues(
    entries: Sequence[IssueKeys], book: HostBook, problems: Problems, environ: Mapping[str, str]
) -> tuple[IssueRules, ...]:
    """Fetch the secrets of `asking.issues`; each problem is noted, and its entry left out."""
    found: dict[str, IssueRules] = {}
    for number, keys in enumerate(entries):
        trail: Trail = ("asking", "issues", number)
        address = repository_address(keys.repository, keys.forge, book, trail, problems)
        if keys.forge == "gitee" and not 2 <= len(keys.label) <= _GITEE_LABEL:
            what = "is no label for Gitee, where `LABEL: refused` may have 20 characters"
            problems.add((*trail, "label"), f"{keys.label!r} {what}; write 2 to {_GITEE_LABEL} characters")
            continue
        token = fetched_secret(keys.token, (*trail, "token"), problems, environ)
        secret = fetched_secret(keys.secret, (*trail, "secret"), problems, environ) if keys.secret else None
        if address is None or token is None or (keys.secret and secret is None):
            continue
        rules = IssueRules(keys.forge, address, token, secret, keys.label, keys.language, keys.every)
        if rules.name in found:
            problems.add((*trail, "repository"), f"{rules.repository} is listed twice for {keys.forge}; keep one")
            continue
        found[rules.name] = rules
    return tuple(found.values())


def repository_address(text: str, word: str, book: HostBook, trail: Trail, problems: Problems) -> Address | None:
    """Return where a repository is that somebody wrote for a forge, or note what is wrong with it."""
    forge, trail = FORGES[word], (*trail, "repository")
    if "://" not in text:
        if word == "gitea":
            problems.add(trail, f"{text[:80]!r} has no host; write the whole URL, https://git.example.com/OWNER/NAME")
            return None
        text = f"https://{forge.hosts[0]}/{text}"
    try:
        address = Address.parse(text)
    except UsageError as error:
        problems.add(trail, str(error))
        return None
    if address.scheme == "ssh" or not forge.fits(address):
        problems.add(trail, f"{text[:80]!r} is no repository; write OWNER/NAME, or https://HOST/OWNER/NAME")
        return None
    origin = check_url(f"{address.scheme}://{address.host}")
    if not belongs(origin, book.policy(address.host)):
        what = "is not encrypted, and everybody on the way could read the token; write https://"
        problems.add(trail, f"{what}, or `insecure: true` for {address.host} under hosts:")
        return None
    return address


def fetched_secret(source: SecretSource, trail: Trail, problems: Problems, environ: Mapping[str, str]) -> Secret | None:
    """Fetch a secret, or note what is wrong with it."""
    try:
        return read_secret(source, environ)
    except ValueError as error:
        note = problems.lack if isinstance(error, AbsentError) else problems.add
        note(trail, str(error))
        return None
