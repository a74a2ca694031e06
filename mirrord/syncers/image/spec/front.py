"""`front.image`: which upstreams clients may read through mirrord, what is kept of it, and the limits of a client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from mirrord.config.check import InnerError, Strict
from mirrord.config.hosts import host_key
from mirrord.config.networks import Network
from mirrord.config.units import Duration, Rate, Size, between, parse_rate, parse_size
from mirrord.errors import UsageError
from mirrord.names.allows import AllowEntry, parse_allow
from mirrord.names.lists import ListLine

_LINE = "docker.io/library/*"
_COUNT = Field(ge=1, le=1_000_000)


def _line(text: str) -> str:
    entry_of(text, 0)
    return text


def entry_of(text: str, number: int) -> AllowEntry:
    """Return what a line of the configuration means, without aliases.

    Raises:
        ValueError: it is no line of an allow list.
    """
    try:
        return parse_allow(ListLine(number, text.strip(), ""))
    except UsageError as error:
        raise ValueError(str(error)) from error


AllowLine = Annotated[str, AfterValidator(_line), Field(min_length=1, examples=[_LINE])]
"""A line of an allow list: a repository, `PREFIX/*` for one more level, or `PREFIX/**` for any depth."""
AllowLines = Annotated[tuple[AllowLine, ...], Field(examples=[f"[{_LINE}]"])]


def _allow(value: object) -> object:
    if isinstance(value, str):
        if "://" in value:
            raise ValueError(f"{value[:80]!r} is a URL; download the list, and write the path of the file")
        if "*" in value:
            raise ValueError(f"{value[:80]!r} is a line, not a file; write a list: [{value[:80]}]")
    return value


def _message(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has characters that cannot be displayed; write one line of text")
    return text


class UpstreamKeys(Strict):
    """How one upstream is read."""

    credentials: bool = Field(
        default=False,
        description=(
            "Read it with the credentials that `hosts:` or docker's own configuration has for it. All clients then"
            " read what these may read: allow lines of this upstream must be names of repositories without"
            " wildcards, and clients beyond this machine need a token."
        ),
    )


def _upstreams(value: object) -> object:
    """Turn a list of hosts and mappings into one mapping."""
    if isinstance(value, str):
        raise ValueError(f"{value[:80]!r} is not a list; write [{value[:80]}]")  # noqa: TRY004 - as below
    if not isinstance(value, list | tuple):
        return value
    found: dict[str, object] = {}
    for one in value:
        for host, keys in (one if isinstance(one, dict) else {one: {}}).items():
            if not isinstance(host, str):
                raise ValueError("an entry is no host; write hosts, such as [docker.io, quay.io]")  # noqa: TRY004 - pydantic reports ValueErrors
            name = host_key(host)
            if isinstance(keys, dict) and keys.keys() - UpstreamKeys.model_fields.keys():
                raise ValueError(
                    f"{name} knows one key; write {{{name}: {{credentials: true}}}}, the rest under hosts:"
                )
            if name in found:
                raise ValueError(f"{name} is listed twice; keep one of them")
            found[name] = {} if keys is None else keys
    return found


Upstreams = Annotated[
    dict[str, UpstreamKeys],
    BeforeValidator(_upstreams),
    Field(min_length=1, examples=["[docker.io, quay.io]"]),
    WithJsonSchema(
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "anyOf": [
                    {"type": "string"},
                    {"type": "object", "additionalProperties": UpstreamKeys.model_json_schema(), "minProperties": 1},
                ]
            },
        }
    ),
]
"""By host, as `HostBook` spells it."""


class CacheKeys(Strict):
    """`front.image.cache`: what is kept of content that no mirror has."""

    size: Annotated[Size, AfterValidator(between("64MiB", "1024TiB", parse_size))] = Field(
        default=20 * 2**30,
        description=(
            "Space for content on the disk, and in the bucket of `settings.blobs`. What was used least recently is"
            " removed first. At least 64 MiB."
        ),
        examples=["200GiB"],
    )
    unused: Annotated[Duration, AfterValidator(between("1h", "3660d"))] = Field(
        default=30 * 86400.0, description="Content that no client read for so long is removed.", examples=["30d"]
    )
    pinned: AllowLines = Field(
        default=(),
        description="Repositories, as lines of `allow`, whose content is never removed.",
        examples=["[registry.k8s.io/pause]"],
    )


class AmountKeys(Strict):
    """`front.image.limits.bytes`: how much a client may read in a window of time."""

    amount: Annotated[Size, AfterValidator(between("1MiB", "1024TiB", parse_size))] = Field(
        description="Bytes of content that one client may get within `each`.", examples=["1GiB"]
    )
    each: Annotated[Duration, AfterValidator(between("1m", "30d"))] = Field(
        description="Length of the window of time.", examples=["2h"]
    )


_Rate = Annotated[Rate, AfterValidator(between("1KiB/s", "1TiB/s", parse_rate))]


class BandwidthKeys(Strict):
    """`front.image.limits.bandwidth`: how fast content is sent."""

    blob: _Rate | None = Field(
        default=None, description="Limit for each blob that a client reads.", examples=["2MiB/s"]
    )
    all: _Rate | None = Field(default=None, description="Limit for all clients together.", examples=["40MiB/s"])


class LimitKeys(Strict):
    """`front.image.limits`: what one client may do; without a key there is no such limit."""

    pulls: Annotated[int, _COUNT] | None = Field(
        default=None, description="Images that one client may pull at once.", examples=["10"]
    )
    pulls_a_minute: Annotated[int, _COUNT] | None = Field(
        default=None, description="Images of which one client may begin a pull in a minute.", examples=["20"]
    )
    bytes: AmountKeys | None = Field(
        default=None,
        description="Content that one client may get within a window of time.",
        examples=["{amount: 1GiB, each: 2h}"],
    )
    bandwidth: BandwidthKeys | None = Field(
        default=None, description="How fast content is sent.", examples=["{blob: 2MiB/s, all: 40MiB/s}"]
    )
    exempt: tuple[Network, ...] = Field(
        default=(), description="Networks whose clients have no limits.", examples=["[10.0.0.0/8]"]
    )


class FrontKeys(Strict):
    """`front.image`: durations in seconds, sizes in bytes, rates in bytes a second."""

    hints: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("upstream", "registries", "remotes", "hosts", "proxy"), "write upstreams: [docker.io]"),
        **dict.fromkeys(("allows", "allow_list", "allowlist"), f"write allow: [{_LINE}], or the path of a file"),
        **dict.fromkeys(("denied", "block", "blocks", "blocked"), "write deny: [docker.io/bad/**]"),
        **dict.fromkeys(("block_message", "text"), "write message: your text"),
        **dict.fromkeys(("ttl", "max_age", "refresh"), "write fresh: 1h"),
        **dict.fromkeys(("aliases", "naming"), "write it under names:"),
        **dict.fromkeys(("tokens", "auth", "users"), "run `mirrord token add NAME --read`"),
        **dict.fromkeys(("size", "unused", "pinned"), "write it below cache:"),
        **dict.fromkeys(("pulls", "pulls_a_minute", "bytes", "bandwidth", "exempt"), "write it below limits:"),
        **dict.fromkeys(("cache.ttl", "cache.age", "cache.max_age", "cache.keep"), "write unused: 30d"),
        **dict.fromkeys(("cache.max_size", "cache.budget", "cache.limit"), "write size: 20GiB"),
        **dict.fromkeys(("limits.requests", "limits.rate", "limits.per_minute"), "write pulls_a_minute: 20"),
        **dict.fromkeys(("limits.concurrency", "limits.connections", "limits.parallel"), "write pulls: 10"),
        "limits.speed": "write bandwidth: {blob: 2MiB/s}",
        **dict.fromkeys(("limits.privileged", "limits.except", "limits.exclude"), "write exempt: [10.0.0.0/8]"),
        "limits.bandwidth.client": "write blob: for each blob of a client",
    }

    upstreams: Upstreams = Field(
        description=(
            "Registries that clients may read through mirrord: hosts, or `{HOST: {credentials: true}}` for one that is"
            " read with the credentials of `hosts:`. All others are read anonymously. No other registry is asked; the"
            " listed ones may name a token server and redirect to where their content is. `proxy` under `hosts:`"
            " applies to those, too. A registry with a port needs an alias under `names:`, since a path cannot name a"
            " port. An alias stands here for its registry."
        )
    )
    allow: Annotated[
        Annotated[str, Field(min_length=1)] | AllowLines,
        BeforeValidator(_allow),
        Field(
            description=(
                "What may be pulled: a list of lines, or the path of a file with one line each, which is read again"
                " when it changes. A line is a repository, or `PREFIX/*` for one more level, or `PREFIX/**` for any"
                " depth. A relative path is below the folder of the configuration."
            ),
            examples=["/etc/mirrord/allows.txt"],
        ),
    ]
    deny: AllowLines = Field(
        default=(),
        description="What may not be pulled, as lines of `allow`; overrides `allow`.",
        examples=["[docker.io/bad/**]"],
    )
    message: Annotated[str, AfterValidator(_message), Field(max_length=1000)] = Field(
        default="",
        description=(
            "Text for clients after the reason, when `deny` has the image or no line of `allow` has it. Not for other"
            " refusals."
        ),
        examples=["'see https://mirror.example.com/rules'"],
    )
    fresh: Annotated[Duration, AfterValidator(between("0s", "30d"))] = Field(
        default=3600.0,
        description=(
            "How long a tag is answered from the cache before upstream is asked whether it has moved. `0s` asks every"
            " time."
        ),
        examples=["1h"],
    )
    tags: bool = Field(default=True, description="Whether clients may list the tags of a repository at its upstream.")
    cache: CacheKeys = Field(default=CacheKeys(), description="What is kept of content that no mirror has.")
    limits: LimitKeys = Field(default=LimitKeys(), description="What one client may do.")

    @model_validator(mode="after")
    def _literal(self) -> FrontKeys:
        """Refuse wildcards where our credentials are used: they would show all that these may read."""
        opted_in = frozenset(host for host, keys in self.upstreams.items() if keys.credentials)
        for number, line in enumerate(self.allow if isinstance(self.allow, tuple) else ()):
            try:
                check_literal(entry_of(line, number), opted_in)
            except ValueError as error:
                raise InnerError(("allow", number), str(error)) from error
        return self

    def hosts(self) -> Mapping[str, bool]:
        """Return the upstreams, and for each whether it is read with our credentials."""
        return {host: keys.credentials for host, keys in self.upstreams.items()}


def check_literal(entry: AllowEntry, opted_in: frozenset[str]) -> None:
    """Refuse a line with a wildcard for an upstream that is read with our credentials.

    Raises:
        ValueError: it is one.
    """
    host = entry.name.partition("/")[0]
    if entry.wildcard and host in opted_in:
        raise ValueError(
            f"{entry.text} has a wildcard, and {host} is read with our credentials; name each repository, or"
            " remove `credentials: true`"
        )
