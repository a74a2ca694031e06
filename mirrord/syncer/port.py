"""The port: what a syncer must and may offer.

A syncer is a folder under `mirrord.syncers` (or anywhere) and one line in the entry-point group
`mirrord.syncers.v1`, whose name is the kind and whose value is a `Syncer`.
The contract suite `mirrord.testing.contract` holds every installed one to these promises.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from mirrord.errors import ConfigError
from mirrord.model.memory import Memory
from mirrord.model.plan import Plan, Step
from mirrord.model.run import Receipt
from mirrord.printable import without_query
from mirrord.syncer.values import (
    LOCAL,
    Mirror,
    MirrorParts,
    PruneWish,
    Publication,
    Services,
    Target,
    Usage,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

    from mirrord.blobs.repositories import RepositoryState
    from mirrord.model.verification import VerifyFinding
    from mirrord.syncer.inspection import Inspection
    from mirrord.syncer.keeping import ListedNames
    from mirrord.syncer.restoring import Resetting, Restores
    from mirrord.syncer.serving import Serves
    from mirrord.syncer.takedown import TakesDown
    from mirrord.syncer.through import PullThrough
    from mirrord.wire.host import HostBook

Models = tuple[type["BaseModel"], type["BaseModel"]]
"""The models of a mirror's own keys, and of a target's."""

Claims = Callable[[Mirror], Callable[[str], Mapping[str, Collection[str]]]]
"""See `Syncer.claims`."""

OnReceipt = Callable[[Receipt], None]
"""Called with the receipt of each step."""


@runtime_checkable
class Session(Protocol):
    """One run in progress, with the state that its batches share."""

    async def execute(self, batch: Sequence[Step], on_receipt: OnReceipt) -> None:
        """Execute the steps of one group; report one receipt each, as soon as its step has ended.

        Work for many groups together may end after this has returned, but not after the context of `open` has exited
        normally.

        MUST NOT raise for a failure of a single target: that is a receipt. Raises `MirrordError`
        if the whole batch fails (the source is gone). MUST be cancellable at every await, and
        then leave no target partially published.
        """

    @property
    def read(self) -> int:
        """Content bytes read from the source so far."""


@dataclass(frozen=True, slots=True)
class Verifies:
    """How it is verified that targets still have what was mirrored.

    Attributes:
        look: compares targets with `Inspection.items`, without the source; what it cannot see is not equal.
        repairing: returns the syncer for a run that sends what was found missing or damaged, and nothing else of it.
        expected: completes the record, for a kind of which it knows only a part.
        elsewhere: returns the syncer for a run that does so without the source, from other targets and `local`; also
            given the digest of each target and item. Such a run does not count as one of the mirror
            (`mirrord.model.run.BESIDE`).
    """

    look: Callable[[Mirror, Services, Inspection], Awaitable[None]]
    repairing: Callable[[Syncer, Sequence[VerifyFinding]], Syncer]
    expected: Callable[[Mirror, Services, Memory], Awaitable[Memory]] | None = None
    elsewhere: Callable[[Syncer, Sequence[VerifyFinding], Mapping[tuple[str, str], str]], Syncer] | None = None


@dataclass(frozen=True, slots=True)
class Syncer:
    """An artifact kind, as functions without state; those with a default are optional.

    Attributes:
        kind: the value of `kind:`; equals the entry point's name.
        models: returns the pydantic models of a mirror's own keys (`from` and more) and of a target's besides `kind`
            and `to`; frozen, `extra="forbid"`. Called where a configuration is read.
        places: returns the origin and the address of each target by name, in canonical form. MUST be pure, and MUST
            raise `ConfigError` for an origin or a target that it cannot parse.
        survey: reads as little as possible of the source and the targets, and writes nothing but facts that save
            requests; its result is opaque to all but `plan`.
        plan: decides every step with its reason, once a run. MUST be pure and deterministic. Further input for `open`
            goes into `Plan.decisions`.
        open: begins to execute a plan; leaving the context releases everything, also after an error.
        measured: returns the plan with the sizes of what would be copied, where asking costs requests.
        publishing: returns the mirror with its source replaced by one build.
        pruning: returns the kind with other functions, whose runs remove at targets what a mirror does not want any
            more. Such a run does not count as one of the mirror (`mirrord.model.run.BESIDE`).
        takes_down: returns how content is taken down, for a kind that can do that.
        removes: whether its runs only remove, so that they are made of what was taken down, too.
        restores: for a kind that keeps backups of what its runs overwrite and delete.
        resets: returns how names are set back to what the ledger has of them, for a kind that can do that.
        remarks: returns what the log says at the start about programs that the kind needs, given its mirrors' number.
        ignored_keys: returns which keys under `hosts:` those programs cannot apply to a mirror, and likely mistakes in
            its addresses, a sentence each. Raises ConfigError with a problem for each key of a target that does not fit
            what `hosts:` says of its host. No I/O but files that keys name.
        sample: a mirror's own keys, such as `from`, that are valid. With them `places` checks a target of a mirror
            whose own keys are wrong; without `sample` it is checked once these are mended.
        hosts: returns the hosts that a mirror's `from` and its targets name, as `HostBook` spells them. A mirror for
            which it returns None, and a kind without it, need every entry of `hosts:`, and none is reported as unused.
            MUST be pure.
        parts: returns, for a mirror of many sources, a function that lists its parts; it may read files on this
            machine, and blocks. Returns None for a mirror of one source.
        check_files: reads files that a mirror names, for `mirrord check`, and returns what is not on this machine, a
            sentence each. It blocks, and raises `ConfigError` about what is wrong.
        written: returns what a mirror of one source writes: addresses of targets, and names there of which one mirror
            alone may decide, each with what gets it. Without it these are the addresses, and the origin. Pure.
        front: serves the content of `local` over HTTP.
        through: serves in place of `front`, for a kind whose content clients may pull through; needs `front`.
        address: returns the URL of a mirror's `local` content, below `settings.url`; needs `front`. Pure.
        called: returns, for a mirror, a function from an item to its name at the source (that of the source, where it
            has no name of its own) and its name at each target; a target without a name is left out. Without it they
            are `ORIGIN#ITEM` and `ADDRESS#ITEM`. Pure.
        claims: returns, for a mirror, a function from an item to the names that it may have at each target. A tag at a
            registry is `REPOSITORY:TAG` for every kind, in canonical form: no prune removes what another mirror has
            there, of whatever kind. Pure.
        uses: returns the commands by which clients use a target, given the URL of this server ("" while nobody knows
            it), the rules for hosts (which speak plain HTTP), and an item, or "" for the mirror as a whole. Call
            `uses_of`. Pure; without credentials.
        items: returns what a mirror has now, digest by item, where the record knows only a part; None while unknown.
        link: returns the URL of a page about a target for people, or "". Call `link_of`. Pure.
        kept: returns the repositories of `local` that `Mirror.keep` is about, each with what makes an item of a tag,
            given the items that the record has there. Pure.
        listed: for a kind that lists its names in an index, returns them as far as `keep` is about them, or None when
            nobody knows. Gets the state of one of the repositories `kept`. Nothing of the mirror runs meanwhile.
        example: an item for documents that show how to use one.
        held: returns the digests of names of the ledger at a target, None for a missing one; settles open moves.
        verifies: how targets are compared with the record.
        asked: for a kind whose content people may ask for: returns a mirror's own part for these references, in
            canonical form with a tag or digest, and platforms (all, if there are none). Without references it is known
            by its record alone. Pure.
    """

    kind: str
    models: Callable[[], Models]
    places: Callable[[Mirror], tuple[str, Mapping[str, str]]]
    survey: Callable[[Mirror, Services, Memory, datetime], Awaitable[Any]]
    plan: Callable[[Mirror, Any, datetime], Plan]
    open: Callable[[Mirror, Plan, Services], AbstractAsyncContextManager[Session]]
    measured: Callable[[Mirror, Plan, Services], Awaitable[Plan]] | None = None
    publishing: Callable[[Mirror, Publication], Mirror] | None = None
    pruning: Callable[[PruneWish], Syncer] | None = None
    takes_down: Callable[[], TakesDown] | None = None
    removes: bool = False
    restores: Restores | None = None
    resets: Callable[[], Resetting] | None = None
    remarks: Callable[[int], Awaitable[Sequence[tuple[str, str]]]] | None = None
    ignored_keys: Callable[[Mirror, HostBook], Sequence[str]] | None = None
    sample: Mapping[str, object] = field(default_factory=dict)
    hosts: Callable[[Mirror], Collection[str] | None] | None = None
    parts: Callable[[Mirror], Callable[[], MirrorParts] | None] | None = None
    check_files: Callable[[Mirror], Sequence[str]] | None = None
    written: Callable[[Mirror], Iterable[tuple[str, str]]] | None = None
    front: Serves | None = None
    through: PullThrough | None = None
    address: Callable[[Mirror, str], str] | None = None
    called: Callable[[Mirror], Callable[[str], tuple[str, Mapping[str, str]]]] | None = None
    claims: Claims | None = None
    uses: Callable[[Mirror, Target, str, HostBook, str], Sequence[Usage]] | None = None
    link: Callable[[Mirror, Target], str] | None = None
    items: Callable[[Mirror, Services], Awaitable[Mapping[str, str] | None]] | None = None
    kept: Callable[[Mirror, Iterable[str]], Mapping[str, Callable[[str], str]]] | None = None
    listed: Callable[[Mirror, Services, RepositoryState], Awaitable[ListedNames | None]] | None = None
    example: str = ""
    held: Callable[[Mirror, Target, Services, Collection[str]], Awaitable[Mapping[str, str | None]]] | None = None
    verifies: Verifies | None = None
    asked: Callable[[Sequence[str], Sequence[str]], Any] | None = None

    @property
    def spec(self) -> type[BaseModel]:
        """The model of a mirror's own keys."""
        return self.models()[0]

    def parts_of(self, mirror: Mirror) -> Callable[[], MirrorParts] | None:
        """Return a function that lists the parts of a mirror of many sources, or None for a mirror of one source."""
        return self.parts(mirror) if self.parts else None

    def written_by(self, mirror: Mirror) -> Iterable[tuple[str, str]]:
        """Return the places that a mirror of one source writes, each with what gets it."""
        if self.written:
            return self.written(mirror)
        source, places = self.places(mirror)
        return [(place, source) for place in places.values()]

    def shown_places(self, mirror: Mirror) -> tuple[str, Mapping[str, str]]:
        """Return origin and targets as `places` does, but as anybody may see them: some keep a token in a query."""
        source, places = self.places(mirror)
        return without_query(source), {name: without_query(place) for name, place in places.items()}

    def served_at(self, mirror: Mirror, url: str) -> str:
        """Return the URL of a mirror's `local` content, or "" without `local` or `url`."""
        served = any(target.name == LOCAL for target in mirror.targets)
        return self.address(mirror, url) if self.address and served and url else ""

    def uses_of(self, mirror: Mirror, target: Target, url: str, book: HostBook, item: str = "") -> Sequence[Usage]:
        """Return the commands by which clients use an item at a target, or with "" the mirror; the best one first.

        `url` is the address of this server for clients, "" while nobody knows it. None are known of names that
        nobody can type.
        """
        known = self.uses and item.isprintable() and (url or target.name != LOCAL)
        return self.uses(mirror, target, url, book, item) if self.uses and known else ()

    def link_of(self, mirror: Mirror, target: Target) -> str:
        """Return the URL of a page about a target for people: its `page`, else what the kind knows; "" for none."""
        return self.link(mirror, target) if self.link and target.name != LOCAL else ""

    @property
    def target_spec(self) -> type[BaseModel]:
        """The model of a target's own keys."""
        return self.models()[1]


GROUP = "mirrord.syncers.v1"


def load_syncers() -> Mapping[str, Syncer]:
    """Find all installed syncers; ConfigError names the entry point of one that is invalid, and the fix."""
    found: dict[str, Syncer] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        syncer = entry.load()
        if not isinstance(syncer, Syncer):
            raise ConfigError(
                f"syncer {entry.name} ({entry.value}) is not a mirrord.syncer.port.Syncer; correct the entry point"
            )
        if syncer.kind != entry.name:
            kinds = f"has kind {syncer.kind!r}, but its entry point is named {entry.name!r}"
            raise ConfigError(f"syncer {entry.value} {kinds}; make them equal")
        found[entry.name] = syncer
    return found
