"""What may be asked of mirrord, as values: the daemon carries them out, or a process of its own where there is none.

A new command is one value here, one method of `mirrord.daemon.dispatcher.Dispatcher`, and one file in `mirrord.cli`,
with its words in `mirrord.cli.grammar`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar, get_args

from mirrord.model.plan import Plan
from mirrord.model.run import Run
from mirrord.report.status import Status
from mirrord.syncer.values import Backup, Publication

Answer_co = TypeVar("Answer_co", covariant=True)


class Command(Generic[Answer_co]):
    """Something that may be asked for; the parameter is the type of its answer."""

    __slots__ = ()
    of_daemons: ClassVar[bool] = False
    """Whether there is nothing to do where no daemon runs."""
    uses_hosts: ClassVar[bool] = True
    """Whether hosts are asked, so that their secrets are needed."""

    @property
    def about(self) -> frozenset[str]:
        """The mirrors whose progress is of interest; none named means all."""
        return frozenset(getattr(self, "mirrors", ()) or filter(None, [getattr(self, "mirror", "")]))


@dataclass(frozen=True, slots=True)
class Sync(Command[tuple[Run, ...]]):
    """Run these mirrors now, or all, each after its run under way; `allow`: in spite of guards against accidents."""

    mirrors: tuple[str, ...] = ()
    allow: bool = False


@dataclass(frozen=True, slots=True)
class PlanMirrors(Command[tuple[Plan, ...]]):
    """Decide what runs of these mirrors, or of all, would do now, and do nothing; `sizes`: ask for sizes, too."""

    mirrors: tuple[str, ...] = ()
    sizes: bool = False


@dataclass(frozen=True, slots=True)
class Publish(Command[Run]):
    """Publish one build to the targets of a mirror."""

    mirror: str
    publication: Publication


@dataclass(frozen=True, slots=True)
class Backups(Command[tuple[Backup, ...]]):
    """List what runs of a mirror overwrote or deleted."""

    uses_hosts = False
    mirror: str


@dataclass(frozen=True, slots=True)
class Restore(Command[Run]):
    """Let a backup override upstream, or with `release` no longer, and run the mirror."""

    mirror: str
    backup: str
    release: bool = False


@dataclass(frozen=True, slots=True)
class GetStatus(Command[Status]):
    """Say how everything stands."""

    uses_hosts = False


WAITING: Final = "restart the daemon to apply it"
"""The message for each key in `Changes.waiting`."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a configuration that was read again changed: mirrors by name, and other keys."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()  # `hosts` and `settings.x`, in force from now on
    waiting: tuple[str, ...] = ()  # `settings.x` that are others than at the start, and count from the next one on
    notices: tuple[str, ...] = ()  # what was passed over or has no effect, one sentence each


@dataclass(frozen=True, slots=True)
class Reload(Command[Changes]):
    """Read the configuration again; a wrong one is refused, and the old one stays in force."""

    of_daemons = True


_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


def word(kind: type[Command[Any]]) -> str:
    """Return what a kind of command is called on the control socket and in the dispatcher: `plan_mirrors`."""
    return _CAPITAL.sub("_", kind.__name__).lower()


def answer_type(kind: type[Command[Any]]) -> Any:
    """Return the type of its answer."""
    (base,) = kind.__orig_bases__  # type: ignore[attr-defined]  # every generic class has them
    return get_args(base)[0]


COMMANDS = {word(kind): kind for kind in Command.__subclasses__()}
"""All of them, by their word."""
