"""What was found at upstream and at the targets, and what a plan passes on beside its steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from mirrord.blobs.source import BlobSource
from mirrord.errors import MirrordError
from mirrord.model.digest import Digest
from mirrord.model.plan import Step
from mirrord.syncers.helm.names import CHARTS, ChartVersion
from mirrord.syncers.helm.plan.choice import VersionChoice
from mirrord.syncers.helm.plan.trouble import Troubles


@dataclass(frozen=True, slots=True)
class TargetContent:
    """What a target holds."""

    held: Mapping[str, Digest]  # digests of the archives, by item
    # the entries of the index there, by item, when it is one that we write; None where the server makes it
    own: Mapping[str, ChartVersion] | None = None
    # what must not be put there, by item, and why: something else would be lost
    refused: Mapping[str, str] = field(default_factory=dict)
    # what `local` dropped and does not keep, by item, with its content and why
    not_kept: Mapping[str, tuple[Digest, str]] = field(default_factory=dict)
    # of an index of ours, what it shows besides its entries: names of keys, and its annotations
    shown: tuple[tuple[str, ...], Mapping[str, str]] = ((), {})
    # what the next run should know of it; when they are lost, they cost requests
    facts: Mapping[str, str] = field(default_factory=dict, repr=False)

    def left(self, choice: VersionChoice) -> str:
        """Say why a version that is wanted is not brought back here; "" for one that may be."""
        digest, why = self.not_kept.get(choice.chart.item, (None, ""))
        return why if digest and choice.fits(digest) and choice.chart.item not in self.held else ""


@dataclass(frozen=True, slots=True)
class HelmSurvey:
    """What upstream lists and targets hold."""

    entries: tuple[ChartVersion, ...] = ()  # what upstream lists, in the order of its index
    # which of these are wanted, by item, the oldest first
    choices: Mapping[str, VersionChoice] = field(default_factory=dict)
    # what each target holds; only those that answered
    targets: Mapping[str, TargetContent] = field(default_factory=dict)
    unasked: Mapping[str, MirrordError] = field(default_factory=dict)  # target name → why it could not be asked
    troubles: Troubles = field(default_factory=dict)  # what could not be had at earlier looks
    # the items that upstream listed at the last run that was accepted, None when unknown
    previous: frozenset[str] | None = None
    unchanged: str = ""  # one sentence when nothing changed since a run that did all: nothing else was looked at then
    # the targets whose index must be rewritten even if it lists the same (another format…)
    rewrite: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()  # what was left out because helm would not have taken it, one sentence each
    remarks: tuple[str, ...] = ()  # what was put right
    missing: tuple[str, ...] = ()  # what could not be read this time, one sentence each
    code: str = ""  # the error code of what is missing where it is the same for all, else ""
    # the items that upstream lists and that are not among the entries, since they cannot be read
    unread: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()  # prefixes of the items of charts whose versions are unknown
    extras: Mapping[str, bytes] = field(default_factory=dict)  # small files that belong beside the index
    public_keys: tuple[str, ...] = ()  # names of the repository's keys
    annotations: Mapping[str, str] = field(default_factory=dict)  # the index's own
    # target → item → the version that overrides upstream there, since it was restored
    restored: Mapping[str, Mapping[str, VersionChoice]] = field(default_factory=dict)
    # target → item → the digest that is taken away there, since it was not there before a run that was undone
    away: Mapping[str, Mapping[str, Digest]] = field(default_factory=dict)
    # target → item → why it was taken down: what it holds of that
    denied: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    left_out: bool = False  # whether something that is wanted is left out, since it was taken down
    where: Mapping[str, str] = field(default_factory=dict)  # digest → what reasons say about where it comes from
    refused: tuple[Step, ...] = ()  # what cannot be restored
    alone: bool = False  # it is about some versions alone, restored or removed: nothing is said of all others
    facts: Mapping[str, str] = field(default_factory=dict)  # what to note when all is done

    def overridden(self, target: str) -> frozenset[str]:
        """Return the items about which a restore decides at a target, and not upstream."""
        return frozenset(self.restored.get(target, ())) | frozenset(self.away.get(target, ()))

    def choices_at(self, target: str) -> Mapping[str, VersionChoice]:
        """Return what is wanted at a target: what upstream has, but for what is restored there or taken away."""
        held, away = self.restored.get(target, {}), self.away.get(target, {})
        if not held and not away:
            return self.choices
        return {**{item: one for item, one in self.choices.items() if item not in away}, **held}

    def choice(self, step: Step) -> VersionChoice:
        """Return what a step is about."""
        return self.restored.get(step.target, {}).get(step.item) or self.choices[step.item]

    def hides(self, item: str) -> bool:
        """Whether upstream lists a version, or may list it, although it is not among the entries."""
        return item in self.unread or item.startswith(self.unknown)

    def lacks(self, item: str) -> bool:
        """Whether a target that answered does not have what upstream has."""
        choice = self.choices[item]
        return any(
            not found.left(choice) and (item not in found.held or not choice.fits(found.held[item]))
            for target, found in self.targets.items()
            if item not in self.restored.get(target, ()) and item not in self.away.get(target, ())
        )


@dataclass(frozen=True, slots=True)
class ChartArchive:
    """An archive that is here, and is what it should be."""

    chart: ChartVersion  # the entry that it is of
    source: BlobSource  # from where a pool has it, or gets it once more
    digest: Digest
    size: int  # of it, in bytes
    # returns the `.prov` beside the archive byte for byte, or None when there is none; raises `ContentError` when it is
    # not of this archive, `TransportError` when it is unknown whether there is one
    provenance: Callable[[], Awaitable[bytes | None]] = field(repr=False)
    odd: tuple[str, ...] = ()  # what is odd about it, and no reason to refuse it, a clause each


@dataclass(frozen=True, slots=True)
class HelmDecisions:
    """What a plan decided beside its steps."""

    survey: HelmSurvey  # from what
    problems: tuple[str, ...] = ()  # those of the plan that stay until upstream changes something
    # target → the new content of its index, where only the index changes
    listed: Mapping[str, tuple[ChartVersion, ...]] = field(default_factory=dict)
    # what is deleted at servers, by target and item, with the digest that is expected there
    removing: Mapping[tuple[str, str], ChartVersion] = field(default_factory=dict)


def listing(
    found: TargetContent,
    choices: Mapping[str, VersionChoice],
    put: Mapping[str, ChartVersion],
    deleted: Collection[str],
) -> tuple[ChartVersion, ...]:
    """Return the new content of a target's index, never more than the target holds.

    Args:
        found: what the target held before the run.
        choices: what is wanted.
        put: what this run added or replaced there.
        deleted: the items to remove from it.
    """
    own, charts = found.own or {}, []
    for item, choice in choices.items():
        ours, digest = own.get(item), found.held.get(item)
        if item in put:
            charts.append(put[item])
        elif digest is not None:
            stays = ours is not None and (not choice.fits(digest) or choice.restored)
            charts.append(ours if stays and ours is not None else choice.entry(digest))
    left = own.keys() - choices.keys() - set(deleted)
    others = (own[item] if item in found.held else as_theirs(own[item]) for item in sorted(left))
    return (*charts, *(chart for chart in others if chart.item in found.held or chart.elsewhere))


def as_theirs(chart: ChartVersion) -> ChartVersion:
    """Return an entry of an index of ours as one whose archive is elsewhere, if others listed it: it stays."""
    return chart if chart.urls == (_url(chart, CHARTS),) else replace(chart, elsewhere=True)


def _url(chart: ChartVersion, base: str) -> str:
    prefix = f"{base.rstrip('/')}/" if base else ""
    return prefix + quote(chart.file, safe="+")


def published(chart: ChartVersion, base: str = CHARTS) -> dict[str, object]:
    """Return what an index of ours says of a version: what upstream said, and where the archive is here.

    Args:
        chart: the version.
        base: what its URL begins with; relative to the index, or absolute; "" for beside the index.
    """
    entry = {
        **chart.entry,
        "name": chart.name,
        "version": chart.version,
        "urls": [*chart.urls] if chart.elsewhere else [_url(chart, base)],
    }
    entry.pop("created", None)
    entry.pop("digest", None)
    if chart.created:
        entry["created"] = chart.created
    if chart.digest:
        entry["digest"] = chart.digest.hex
    return entry
