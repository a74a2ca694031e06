"""Which of the listed chart versions are wanted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from mirrord.model import Digest
from mirrord.plan.select import matches
from mirrord.plan.semver import Constraint, Version
from mirrord.syncers.helm.names import ChartVersion, instant
from mirrord.syncers.helm.spec import HelmSpec


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
    wanted = [_versions(versions, spec, now) for name, versions in charts.items() if matches(name, spec.charts)]
    choices: dict[str, Choice] = {}
    for entry in _oldest_first(wanted):
        first = choices.get(entry.item)
        choices[entry.item] = Choice(first.chart, (*first.rivals, entry)) if first else Choice(entry)
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


def _versions(versions: Iterable[ChartVersion], spec: HelmSpec, now: datetime) -> list[ChartVersion]:
    """Return the wanted versions of one chart, the lowest first."""
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
    found.sort(key=lambda one: one[0])
    if spec.newest is None:
        return [entry for _, entry in found]
    newest = set(list(dict.fromkeys(entry.version for _, entry in found))[-spec.newest :])
    return [entry for _, entry in found if entry.version in newest]


def ripe(entry: ChartVersion, spec: HelmSpec, now: datetime) -> bool:
    """Whether a version is old enough; one without a date is."""
    created = instant(entry.created or "")
    return not spec.min_age or created is None or (now - created[0]).total_seconds() >= spec.min_age
