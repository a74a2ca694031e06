"""The commands of mirrord as values: the daemon executes them, or the process itself if no daemon runs.

A new command is one value here, one method of `mirrord.daemon.dispatcher.Dispatcher`, and one file in `mirrord.cli`,
with its options in `mirrord.cli.grammar`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Generic, TypeVar, get_args

from mirrord.asking.asked import AskedImage
from mirrord.model.cancelled import CancelledRun
from mirrord.model.catalog import CatalogPart
from mirrord.model.collected import Collected
from mirrord.model.history import RunRecord
from mirrord.model.plan import Plan
from mirrord.model.request import ASKED
from mirrord.model.run import Run
from mirrord.model.takedown import DeniedThing, TakenDown
from mirrord.model.verification import Level, Verification
from mirrord.report.mirror import MirrorDetail
from mirrord.report.status import Status
from mirrord.syncer.serving import FrontLook
from mirrord.syncer.values import Backup, PruneWish, Publication

Answer_co = TypeVar("Answer_co", covariant=True)


class Command(Generic[Answer_co]):
    """A command; the parameter is the type of its answer."""

    __slots__ = ()
    of_daemons: ClassVar[str] = ""
    """What is said where nobody runs who could carry it out, of a command that needs somebody."""
    uses_hosts: ClassVar[bool] = True
    """Whether it connects to hosts, so that their secrets are needed."""
    while_busy: ClassVar[bool] = False
    """Whether also a command that holds the state answers it, not only a daemon."""
    of_record: ClassVar[bool] = False
    """Whether the record and the configuration have the answer: `local` is not opened, nor are replicas joined."""
    before_runs: ClassVar[bool] = False
    """Whether it has an answer where nothing has run yet, from the configuration alone."""

    @property
    def about(self) -> frozenset[str]:
        """The mirrors whose progress is reported; empty means all."""
        return frozenset(getattr(self, "mirrors", ()) or filter(None, [getattr(self, "mirror", "")]))


@dataclass(frozen=True, slots=True)
class Sync(Command[tuple[Run, ...]]):
    """Run these mirrors now, or all, each after its present run; `allow` overrides guards against accidents."""

    mirrors: tuple[str, ...] = ()
    allow: bool = False


@dataclass(frozen=True, slots=True)
class AskImages(Command[tuple[AskedImage, ...]]):
    """Copy these images once, each as `asking:` says, and return how they ended."""

    images: tuple[str, ...]
    platforms: tuple[str, ...] = ()
    about = frozenset({ASKED})


@dataclass(frozen=True, slots=True)
class PlanMirrors(Command[tuple[Plan, ...]]):
    """Plan runs of these mirrors, or of all, without executing them; `sizes` and `explain` ask for more."""

    mirrors: tuple[str, ...] = ()
    sizes: bool = False
    explain: bool = False  # why each tag is mirrored or not


@dataclass(frozen=True, slots=True)
class Publish(Command[Run]):
    """Publish one build to the targets of a mirror."""

    mirror: str
    publication: Publication


@dataclass(frozen=True, slots=True)
class PlanPrune(Command[tuple[Plan, ...]]):
    """Plan what a prune of these mirrors would remove at their targets."""

    mirrors: tuple[str, ...]
    wish: PruneWish = field(default_factory=PruneWish)


@dataclass(frozen=True, slots=True)
class Prune(Command[tuple[Run, ...]]):
    """Remove at targets what these mirrors do not want any more."""

    mirrors: tuple[str, ...]
    wish: PruneWish = field(default_factory=PruneWish)


@dataclass(frozen=True, slots=True)
class Backups(Command[tuple[Backup, ...]]):
    """List what runs of a mirror overwrote or deleted, as far as it can be restored, and what is restored now."""

    uses_hosts = False
    mirror: str


@dataclass(frozen=True, slots=True)
class Restore(Command[Run]):
    """Let backups, names or globs, override upstream (with `release`, no longer), and run the mirror.

    With `run`, a number, all names that this run moved get what they had before it.
    """

    mirror: str
    backups: tuple[str, ...] = ()
    release: bool = False
    run: int | None = None


@dataclass(frozen=True, slots=True)
class PlanRestore(Command[Plan]):
    """Plan what `Restore` would do, without executing it; for kinds whose names are set back by the ledger."""

    mirror: str
    backups: tuple[str, ...] = ()
    run: int | None = None


@dataclass(frozen=True, slots=True)
class Verify(Command[tuple[Verification, ...]]):
    """Compare the targets of these mirrors, or of all, with the record; with `repair` send what is missing."""

    mirrors: tuple[str, ...] = ()
    level: Level = Level.NAMES
    repair: bool = False


@dataclass(frozen=True, slots=True)
class CollectGarbage(Command[Collected]):
    """Let go what `keep` does not keep in `local`, and remove content that nothing needs; `dry` only looks."""

    uses_hosts = False
    dry: bool = False


@dataclass(frozen=True, slots=True)
class Takedown(Command[TakenDown]):
    """Deny an image, a mirror or an item of one from now on, and remove it everywhere, also what is denied already."""

    what: str
    reason: str = ""
    item: str = ""
    adopt: bool = False  # also remove what the ledger does not have


@dataclass(frozen=True, slots=True)
class Lift(Command[str]):
    """Deny an image, a mirror or an item of one no longer; returns where its entry was."""

    uses_hosts = False
    before_runs = True
    what: str
    item: str = ""


@dataclass(frozen=True, slots=True)
class GetDenied(Command[tuple[DeniedThing, ...]]):
    """List what was taken down, and where it may still be."""

    uses_hosts = False
    before_runs = True


@dataclass(frozen=True, slots=True)
class GetStatus(Command[Status]):
    """Return the state of all mirrors."""

    uses_hosts = False
    of_record = True
    before_runs = True
    while_busy = True


@dataclass(frozen=True, slots=True)
class GetMirrors(Command[tuple[MirrorDetail, ...]]):
    """Return all about some mirrors, names or globs; with `every` further parts have the rest of their items."""

    uses_hosts = False
    of_record = True
    before_runs = True
    while_busy = True
    mirrors: tuple[str, ...]
    every: bool = False


@dataclass(frozen=True, slots=True)
class GetRuns(Command[tuple[RunRecord, ...]]):
    """List the newest `limit` runs of a mirror, newest first; with `before` only those with smaller numbers."""

    uses_hosts = False
    of_record = True
    while_busy = True
    mirror: str
    limit: int = 20
    before: int | None = None


@dataclass(frozen=True, slots=True)
class GetCatalog(Command[tuple[CatalogPart, ...]]):
    """List what these mirrors, or all, have at their targets, by name at the source and target."""

    uses_hosts = False
    of_record = True
    mirrors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LookAtFront(Command[FrontLook]):
    """Say what the front does with a reference, and why; upstream is not asked."""

    uses_hosts = False
    before_runs = True
    reference: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """A receiver of notifications took a message."""

    receiver: str
    kind: str
    host: str
    answer: str  # status, and the start of what it answered


@dataclass(frozen=True, slots=True)
class TryReceiver(Command[Delivered]):
    """Send a test message to a receiver of notifications."""

    uses_hosts = False  # it needs the secrets of its receiver, and no others
    before_runs = True
    receiver: str


WAITING: Final = "restart the daemon to apply it"
"""The message for each key in `Changes.waiting`."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes of a reload: mirrors by name, and other keys."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()  # `hosts`, `names`, `front`, `notify` and `settings.x`, applied now
    waiting: tuple[str, ...] = ()  # `settings.x` that differ from the start, and apply after a restart
    notices: tuple[str, ...] = ()  # what was ignored or has no effect, one sentence each


@dataclass(frozen=True, slots=True)
class Reload(Command[Changes]):
    """Reload the configuration; an invalid one is rejected, and the old one stays in force."""

    of_daemons = "no daemon holds this state directory; whoever starts next reads the configuration as it is"


@dataclass(frozen=True, slots=True)
class Cancel(Command[tuple[CancelledRun, ...]]):
    """End the runs of these mirrors that are under way in good order, and wait until they have ended."""

    of_daemons = "nobody holds this state directory, so nothing runs with it"
    while_busy = True
    mirrors: tuple[str, ...]


_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


def word(kind: type[Command[Any]]) -> str:
    """Return the name of a command on the control socket and in the dispatcher: `plan_mirrors`."""
    return _CAPITAL.sub("_", kind.__name__).lower()


def answer_type(kind: type[Command[Any]]) -> Any:
    """Return the type of a command's answer."""
    (base,) = kind.__orig_bases__  # type: ignore[attr-defined]  # every generic class has them
    return get_args(base)[0]


COMMANDS = {word(kind): kind for kind in Command.__subclasses__()}
"""All commands by name."""
