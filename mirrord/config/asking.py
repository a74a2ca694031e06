"""`asking:`: which images people may ask for, and where they are copied to. Without the section nobody can ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, Field

from mirrord.config.check import TEXTS, Strict, as_list, check, validator
from mirrord.config.crossings import check_places
from mirrord.config.issues import IssueKeys, IssueRules
from mirrord.config.lines import Problems, Trail, Value, nearest
from mirrord.config.mirrors import Targets
from mirrord.config.settings import Settings
from mirrord.config.units import Deadline
from mirrord.model.request import ASKED
from mirrord.names.allows import AllowEntry, AllowList, parse_allow
from mirrord.names.book import NameBook
from mirrord.names.lists import ListLine
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import LOCAL, Mirror, Target
from mirrord.wire.oci.platform import parse_platform

_KIND: Final = "image"


@validator
def _pattern(text: str) -> str:
    parse_allow(ListLine(0, text.strip(), ""))
    return text.strip()


@validator
def _platforms(written: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(parse_platform(text)) for text in written))


_COUNT = Field(ge=1, le=100_000)


class AskingLimits(Strict):
    """`asking.limits`: how much people may ask for."""

    hints: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("rate", "hourly", "per_hour", "token", "address"), "write an_hour: 30"),
        **dict.fromkeys(("queue", "queued", "length"), "write waiting: 100"),
    }

    an_hour: Annotated[int, _COUNT] = Field(
        default=30, description="Images that one token, and one address, may ask for in an hour.", examples=["30"]
    )
    waiting: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=100, description="Images that may wait to be copied; more are refused, to be asked for later."
    )


class AskingKeys(Strict):
    """`asking`: which images people may ask for."""

    hints: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("target", "targets", "at"), "write to:"),
        **dict.fromkeys(("allows", "allow_list", "allowlist", "images"), "write allow: [docker.io/library/**]"),
        **dict.fromkeys(("platform", "arch", "architectures"), "write platforms: [linux/amd64]"),
        **dict.fromkeys(("rates", "rate", "queue", "an_hour", "waiting"), "write limits: {an_hour: 30, waiting: 100}"),
        **dict.fromkeys(("tokens", "token", "auth"), "run `mirrord token add NAME --ask`"),
        **dict.fromkeys(("timeout", "max_time"), "write deadline: 1h"),
        **{f"limits.{key}": hint for key, hint in AskingLimits.hints.items()},
        **{f"issues.{key}": hint for key, hint in IssueKeys.hints.items()},
    }

    to: Annotated[tuple[str, ...], BeforeValidator(as_list), Field(min_length=1), TEXTS] = Field(
        description=(
            "Where the images are copied to: `local` and names of image targets. An answer has all places, in this"
            " order."
        ),
        examples=["[harbor]"],
    )
    allow: Annotated[
        tuple[Annotated[str, AfterValidator(_pattern)], ...], BeforeValidator(as_list), Field(min_length=1), TEXTS
    ] = Field(
        description=(
            "Images that people may ask for: `host/path`, or `host/path/*` for one more segment and `host/path/**` for"
            " any number. They are read with the credentials of `hosts:`, so a pattern opens all that these may read."
        ),
        examples=["[docker.io/library/*, quay.io/prometheus/**]"],
    )
    platforms: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_platforms)] | None = Field(
        default=None,
        description="Platforms that are copied; who asks may choose among them. Default: all that an image has.",
        examples=["[linux/amd64, linux/arm64]"],
    )
    deadline: Deadline = Field(
        default=3600.0, description="A run that copies what was asked for and takes longer is cancelled. 10 s to 30 d."
    )
    limits: AskingLimits = Field(default=AskingLimits(), description="How much people may ask for.")
    issues: Annotated[tuple[IssueKeys, ...], Field(max_length=20)] = Field(
        default=(), description="Repositories in whose issues people ask, at most 20; each has the keys below."
    )


@dataclass(frozen=True, slots=True)
class AskingRules:
    """Which images people may ask for.

    Attributes:
        allow: what they may ask for.
        platforms: what they may choose from; all if there are none.
        an_hour: how many images one token, and one address, may ask for in an hour.
        waiting: how many may wait.
        mirror: whose runs copy them, called `ASKED`; without images of its own.
        issues: repositories in whose issues people ask.
    """

    allow: tuple[AllowEntry, ...]
    platforms: tuple[str, ...]
    an_hour: int
    waiting: int
    mirror: Mirror
    issues: tuple[IssueRules, ...] = ()

    def allows(self, name: str) -> bool:
        """Whether people may ask for a repository, `host/path` in canonical form."""
        return AllowList(self.allow).named(name) is not None


def read_asking(
    value: Value,
    targets: Targets,
    mirrors: Sequence[Mirror],
    syncers: Mapping[str, Syncer],
    *,
    settings: Settings,
    names: NameBook,
    problems: Problems,
    issues: Callable[[Sequence[IssueKeys]], tuple[IssueRules, ...]],
) -> AskingRules | None:
    """Validate `asking:`; None without it, and for one that is wrong, which is noted. `issues` reads its `issues`."""
    if value is None:
        return None
    trail, before = ("asking",), problems.count()
    keys = check(AskingKeys, value, trail, problems)
    if named := next((one for one in mirrors if one.name == ASKED), None):
        what = f"what people ask for is copied by a mirror called {ASKED}, and one of this name is at {named.origin}"
        problems.add(trail, f"{what}; rename it")
    syncer = syncers.get(_KIND)
    if syncer is None or syncer.asked is None:
        problems.add(trail, "no installed kind can be asked for; install the kind image")
        return None
    if keys is None:
        return None
    found = _targets(keys.to, value, targets, syncer, problems)
    platforms = keys.platforms or ()
    mirror = Mirror(
        name=ASKED,
        kind=_KIND,
        spec=syncer.asked((), platforms),
        targets=found,
        deadline=keys.deadline,
        trust=settings.trust,
        verifying=settings.verify.rules,
        keep=settings.local.keep.rules,
        names=names,
        origin=problems.origin(trail),
    )
    check_places(trail, mirror, syncer, problems)
    repositories = issues(keys.issues)
    if problems.count() > before:
        return None
    allow = tuple(parse_allow(ListLine(0, text, ""), names.canonical) for text in keys.allow)
    return AskingRules(allow, platforms, keys.limits.an_hour, keys.limits.waiting, mirror, repositories)


def _targets(
    to: Sequence[str], value: Value, targets: Targets, syncer: Syncer, problems: Problems
) -> tuple[Target, ...]:
    in_list = isinstance(value, dict) and isinstance(value.get("to"), list)
    known = {name for name, one in targets.items() if one is None or one.kind == _KIND} | {LOCAL}
    found: list[Target] = []
    for number, name in enumerate(to):
        here: Trail = ("asking", "to", number) if in_list else ("asking", "to")
        target = Target(LOCAL, _KIND, LOCAL, syncer.target_spec()) if name == LOCAL else targets.get(name)
        if name in to[:number]:
            problems.add(here, f"{name!r} is listed twice; keep one of them")
        elif name not in known:
            problems.add(here, f"{name[:60]!r} is not an image target; {nearest(name, known)}")
        elif target is not None and target.to.startswith("oci:"):
            problems.add(here, f"{name!r} is a folder of this machine, from which no client pulls; name a registry")
        elif target is not None:
            found.append(target)
    return tuple(found)
