"""What a chart mirror found, and what it decides from that. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from mirrord.errors import MirrordError
from mirrord.model import Action, Digest, Plan, Step
from mirrord.plan.select import matches
from mirrord.plan.semver import Constraint, Version
from mirrord.syncer import Mirror
from mirrord.syncers.helm.names import CHARTS, INDEX, ChartVersion, instant, spec_of
from mirrord.syncers.helm.spec import HelmSpec

INDEX_ITEM: Final = "index"
"""The item that stands for a target's index: its step is the last one, and shows all the others."""

SHOWN = 5  # names in a sentence
TOGETHER = 4  # versions in a batch: charts are so small that their round trips are what takes time


@dataclass(frozen=True, slots=True)
class Shelf:
    """What a target holds.

    Attributes:
        held: digests of the archives, by item.
        own: the entries of the index there, by item, when it is one that we write; None where the server makes it.
    """

    held: Mapping[str, Digest]
    own: Mapping[str, ChartVersion] | None = None


@dataclass(frozen=True, slots=True)
class HelmSurvey:
    """What upstream lists and targets hold.

    Attributes:
        entries: what upstream lists, in the order of its index.
        shelves: by target name; only targets that answered.
        unasked: target name → why it could not be asked.
        previous: the items that upstream listed at the last run that was accepted, None when nobody knows.
        unchanged: one sentence when nothing changed since a run that did all: nothing else was looked at then.
        rewrite: the targets whose index must be written anew even if it lists the same (another format…).
        problems: what helm would not have taken, one sentence each.
        extras: small files that belong beside the index.
        public_keys: names of the repository's keys.
        annotations: the index's own.
        facts: what to note when all is done.
    """

    entries: tuple[ChartVersion, ...] = ()
    shelves: Mapping[str, Shelf] = field(default_factory=dict)
    unasked: Mapping[str, MirrordError] = field(default_factory=dict)
    previous: frozenset[str] | None = None
    unchanged: str = ""
    rewrite: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()
    extras: Mapping[str, bytes] = field(default_factory=dict)
    public_keys: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """A chart version that is wanted.

    Attributes:
        chart: its entry.
        rivals: other entries of the same version; the archive's digest tells which one is right.
    """

    chart: ChartVersion
    rivals: tuple[ChartVersion, ...] = ()

    @property
    def digests(self) -> frozenset[Digest]:
        """Return every digest that the archive may have; none: any."""
        found = [one.digest for one in (self.chart, *self.rivals)]
        return frozenset() if None in found else frozenset(digest for digest in found if digest)

    def fits(self, digest: Digest) -> bool:
        """Whether an archive with this digest is the wanted one."""
        return not self.digests or digest in self.digests

    def entry(self, digest: Digest) -> ChartVersion:
        """Return the entry of the archive with this digest."""
        entry = next((one for one in (self.chart, *self.rivals) if one.digest == digest), self.chart)
        return replace(entry, digest=digest)


def choose(entries: Iterable[ChartVersion], spec: HelmSpec, now: datetime) -> Mapping[str, Choice]:
    """Select what the mirror wants, by item, the oldest first."""
    charts: dict[str, list[ChartVersion]] = defaultdict(list)
    for entry in entries:
        charts[entry.name].append(entry)
    wanted = [
        entry
        for name, versions in charts.items()
        if matches(name, spec.charts)
        for entry in _versions(versions, spec, now)
    ]
    choices: dict[str, Choice] = {}
    for entry in sorted(wanted, key=lambda one: (instant(one.created or "") or _LONG_AGO, one.item)):
        first = choices.get(entry.item)
        choices[entry.item] = Choice(first.chart, (*first.rivals, entry)) if first else Choice(entry)
    return choices


_LONG_AGO = (datetime.fromisoformat("0001-01-01T00:00:00+00:00"), "")


def _versions(versions: Iterable[ChartVersion], spec: HelmSpec, now: datetime) -> list[ChartVersion]:
    prereleases = spec.newest is None if spec.prereleases is None else spec.prereleases
    constraint = Constraint.parse(spec.versions) if spec.versions else None
    found = []
    for entry in versions:
        version = Version.parse(entry.version)
        if (
            (spec.deprecated or not entry.deprecated)
            and (prereleases or not version.prerelease)
            and (constraint is None or constraint.allows(version, prereleases=prereleases and spec.prereleases is True))
            and ripe(entry, spec, now)
        ):
            found.append((version.order, entry))
    found.sort(key=lambda one: one[0], reverse=True)
    if spec.newest is None:
        return [entry for _, entry in found]
    newest = set(list(dict.fromkeys(entry.version for _, entry in found))[: spec.newest])
    return [entry for _, entry in found if entry.version in newest]


def ripe(entry: ChartVersion, spec: HelmSpec, now: datetime) -> bool:
    """Whether a version is old enough; one without a date is."""
    created = instant(entry.created or "")
    return not spec.min_age or created is None or (now - created[0]).total_seconds() >= spec.min_age


def guard(survey: HelmSurvey, spec: HelmSpec) -> str:
    """Say why the index looks like an accident (helm/chartmuseum#374 emptied one), or "" when it does not.

    Where nobody knows what upstream listed before and deleting is allowed, what our own indexes list stands for it.
    """
    before = survey.previous
    if before is None and spec.removed == "delete":
        before = frozenset(item for shelf in survey.shelves.values() for item in shelf.own or ())
    lost = (before or frozenset()) - {entry.item for entry in survey.entries}
    if not before or len(lost) <= (max(1.0, spec.max_loss * len(before)) if spec.max_loss and len(before) > 1 else 0):
        return ""
    share = f"{len(lost)} of {len(before)}"
    return f"upstream's index lost {share} versions ({_some(lost)}), more than max_loss of {spec.max_loss:.0%} allows"


def plan(mirror: Mirror, survey: HelmSurvey, now: datetime) -> Plan:
    """Decide about every chart version at every target, and about every target's index."""
    if survey.unchanged:
        return Plan(mirror.name, mirror.kind, now, tuple(_all(mirror, Action.KEEP, survey.unchanged)))
    spec = spec_of(mirror)
    blocked = "" if mirror.allow else guard(survey, spec)
    if blocked:
        reason = f"{blocked}; when that is meant, run `mirrord sync {mirror.name} --allow`"
        return Plan(mirror.name, mirror.kind, now, tuple(_all(mirror, Action.REFUSE, reason)), survey.problems)
    choices = choose(survey.entries, spec, now)
    steps = [
        step
        for number, choice in enumerate(choices.values())
        for target, shelf in survey.shelves.items()
        for step in (_step(choice, target, shelf, spec, str(number // TOGETHER)),)
    ]
    steps += [
        step for target, shelf in survey.shelves.items() for step in _removed(target, shelf, choices, survey, spec)
    ]
    moving = {step.target for step in steps if step.active}
    for target, error in survey.unasked.items():
        steps.append(_index(target, Action.COPY, f"not known what is there: {error}"))
    for target, shelf in survey.shelves.items():
        steps.append(_index_step(survey, choices, target, shelf, moving))
    return Plan(mirror.name, mirror.kind, now, tuple(steps), survey.problems)


def _all(mirror: Mirror, action: Action, reason: str) -> Iterator[Step]:
    return (_index(target.name, action, reason) for target in mirror.targets)


def _index(target: str, action: Action, reason: str) -> Step:
    return Step(action, INDEX_ITEM, "", target, (INDEX,), reason, group=INDEX_ITEM)


def _step(choice: Choice, target: str, shelf: Shelf, spec: HelmSpec, group: str) -> Step:
    item = choice.chart.item
    there = shelf.held.get(item)
    wanted = choice.chart.digest
    action, reason = Action.COPY, "not there"
    if there is not None and choice.fits(there):
        action, reason = Action.KEEP, "already there"
    elif not choice.chart.urls:
        action, reason = Action.REFUSE, "its entry names no place to get it from"
    elif there is not None:
        action, reason = _CHANGED[spec.changed]
        reason = f"upstream changed its digest from {there} to {wanted}: {reason}"
    names = (choice.chart.file,)
    return Step(action, item, str(there if action is Action.KEEP else wanted or ""), target, names, reason, group=group)


_CHANGED: Final = {
    "keep": (Action.KEEP, "ours stays (`changed: keep`)"),
    "replace": (Action.COPY, "it is replaced (`changed: replace`)"),
    "fail": (Action.REFUSE, "not taken (`changed: fail`); look which one is right"),
}


def _removed(
    target: str, shelf: Shelf, choices: Mapping[str, Choice], survey: HelmSurvey, spec: HelmSpec
) -> Iterator[Step]:
    listed = {entry.item for entry in survey.entries}
    for item in sorted(shelf.held.keys() - choices.keys()):
        why = "no longer wanted" if item in listed else "no longer listed upstream"
        action, reason = Action.KEEP, f"{why}; kept (`removed: keep`)"
        if spec.removed == "delete":
            if shelf.own is None:
                reason = f"{why}; mirrord cannot delete it there, do it by hand"
            elif survey.previous is None and item not in listed:
                reason = f"{why}; kept this time, since nothing is known of earlier runs"
            else:
                action, reason = Action.DELETE, why
        digest = str(shelf.held[item])
        yield Step(action, item, digest, target, (f"{item}.tgz",), reason, group=INDEX_ITEM)


def _index_step(
    survey: HelmSurvey,
    choices: Mapping[str, Choice],
    target: str,
    shelf: Shelf,
    moving: Collection[str],
) -> Step:
    if target in moving:
        return _index(target, Action.COPY, "shows what changes")
    if shelf.own is None:
        return _index(target, Action.KEEP, "lists all that is wanted")
    listed = listing(shelf, choices, {}, ())
    same = {chart.item: published(chart) for chart in listed} == {
        item: {**own.entry, "urls": list(own.urls)} for item, own in shelf.own.items()
    }
    if same and target not in survey.rewrite:
        return _index(target, Action.KEEP, "lists all that is wanted")
    return _index(target, Action.COPY, "its entries are not as upstream has them" if not same else "to be written anew")


def listing(
    shelf: Shelf, choices: Mapping[str, Choice], put: Mapping[str, Digest], deleted: Collection[str]
) -> tuple[ChartVersion, ...]:
    """Return what a target's index shall list, never more than the target holds.

    Args:
        shelf: what the target held before the run.
        choices: what is wanted.
        put: what this run added or replaced there.
        deleted: the items that it shall list no more.
    """
    own, charts = shelf.own or {}, []
    for item, choice in choices.items():
        digest = put.get(item) or shelf.held.get(item)
        if digest is None:
            continue
        ours = own.get(item)
        stays = item not in put and not choice.fits(digest) and ours is not None
        charts.append(ours if stays and ours is not None else choice.entry(digest))
    left = own.keys() - choices.keys() - set(deleted)
    return (*charts, *(own[item] for item in sorted(left) if item in shelf.held))


def published(chart: ChartVersion, base: str = CHARTS) -> dict[str, object]:
    """Return what an index of ours says of a version: what upstream said, and where the archive is here.

    Args:
        chart: the version.
        base: what its URL begins with; relative to the index, or absolute; "" for beside the index.
    """
    prefix = f"{base.rstrip('/')}/" if base else ""
    entry = {**chart.entry, "name": chart.name, "version": chart.version, "urls": [prefix + chart.file]}
    entry.pop("created", None)
    entry.pop("digest", None)
    if chart.created:
        entry["created"] = chart.created
    if chart.digest:
        entry["digest"] = chart.digest.hex
    return entry


def _some(items: Collection[str]) -> str:
    shown = sorted(items)[:SHOWN]
    return ", ".join(shown) + (" …" if len(items) > SHOWN else "")
