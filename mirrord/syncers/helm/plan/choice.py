"""Which of the listed chart versions are wanted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from mirrord.model.digest import Digest
from mirrord.plan.select import matches
from mirrord.plan.semver import Constraint, Version, valid_version
from mirrord.syncers.helm.names import ChartVersion, instant
from mirrord.syncers.helm.spec import HelmSpec


@dataclass(frozen=True, slots=True)
class VersionChoice:
    """A chart version that is wanted."""

    chart: ChartVersion  # its entry
    # other entries of the same version; the archive's digest tells which one is right
    rivals: tuple[ChartVersion, ...] = ()
    restored: bool = False  # it overrides upstream; only name, version and digest are known of it

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


def selected(chart: str, spec: HelmSpec, others: Iterable[str] = ()) -> bool:
    """Whether a chart of this name is wanted, or one that goes by one of the `others`."""
    names = (chart, *others)
    wanted = any(matches(name, spec.charts) for name in names)
    return wanted and not any(matches(name, spec.exclude) for name in names)


def constraint_of(chart: str, spec: HelmSpec) -> Constraint | None:
    """Return the range that holds for a chart: that of its very name, else of the first glob that matches."""
    ranges = {"*": spec.versions} if isinstance(spec.versions, str) else spec.versions or {}
    text = ranges.get(chart) or next((text for glob, text in ranges.items() if matches(chart, (glob,))), None)
    return Constraint.parse(text) if text else None


def concerns(chart: str, version: str, spec: HelmSpec) -> bool:
    """Whether what is wrong with a version matters: problems of unwanted versions are not reported.

    Args:
        chart: its name, or "" when that is not known.
        version: as written, or "" when all of the chart is meant.
        spec: what is wanted.
    """
    if not chart:
        return True
    if not selected(chart, spec) or version in spec.skip.get(chart, ()):
        return False
    constraint = constraint_of(chart, spec) if valid_version(version) else None
    return constraint is None or constraint.allows(Version.parse(version), prereleases=True)


def choose(entries: Iterable[ChartVersion], spec: HelmSpec, now: datetime) -> Mapping[str, VersionChoice]:
    """Select what the mirror wants, by item, the oldest first."""
    charts: dict[str, list[ChartVersion]] = defaultdict(list)
    for entry in entries:
        if entry.version not in spec.skip.get(entry.name, ()):
            accepted = spec.accept.get(entry.name, {}).get(entry.version)  # in place of the index's digest
            charts[entry.name].append(replace(entry, digest=Digest(accepted)) if accepted else entry)
    wanted = [
        _versions(versions, spec, now)
        for name, versions in charts.items()
        if selected(name, spec, [key for entry in versions for key in entry.keys])
    ]
    choices: dict[str, VersionChoice] = {}
    for entry in _oldest_first(wanted):
        first = choices.get(entry.item)
        choices[entry.item] = VersionChoice(first.chart, (*first.rivals, entry)) if first else VersionChoice(entry)
    return choices


def _oldest_first(charts: Iterable[list[ChartVersion]]) -> list[ChartVersion]:
    """Sort by time, and within a chart by version: a place that limits versions of a chart drops what came first.

    A version that was made after a higher one (1.9.9 after 2.0.0) comes before it.
    """
    timed = []
    for versions in charts:
        when = _LONG_AGO
        for entry in versions:
            when = max(when, instant(entry.created or "") or _LONG_AGO)
            timed.append(((when, entry.name), entry))
    return [entry for _, entry in sorted(timed, key=lambda one: one[0])]


_LONG_AGO = (datetime.fromisoformat("0001-01-01T00:00:00+00:00"), "")


def _versions(versions: Sequence[ChartVersion], spec: HelmSpec, now: datetime) -> list[ChartVersion]:
    """Return the wanted versions of one chart, the lowest first."""
    prereleases = spec.newest is None if spec.prereleases is None else spec.prereleases
    constraint = constraint_of(versions[0].name, spec)
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
    found.sort(key=lambda one: one[0])
    if spec.newest is None:
        return [entry for _, entry in found]
    newest = set(list(dict.fromkeys(entry.version for _, entry in found))[-spec.newest :])
    return [entry for _, entry in found if entry.version in newest]


def ripe(entry: ChartVersion, spec: HelmSpec, now: datetime) -> bool:
    """Whether a version is old enough; one without a date is."""
    created = instant(entry.created or "") if spec.min_age else None
    return created is None or (now - created[0]).total_seconds() >= spec.min_age
