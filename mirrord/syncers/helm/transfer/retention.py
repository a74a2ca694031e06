"""What a server that keeps only so many versions of each chart drops for a new one (ChartMuseum's --per-chart-limit).

It drops what came first, however new that version is: by its own clock, to the second, and within one by file name
(`PutWithLimit`). No answer of it has the limit: it is learned from what disappears. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mirrord.plan.semver import Precedence, Version
from mirrord.syncers.helm.names import ChartVersion, instant

SAME: Final = 1.1  # seconds: versions that came so close to one another may have come in the same one
_NEVER: Final = float("-inf")


@dataclass(slots=True)
class Retention:
    """What is there, and what may be put without losing something newer."""

    there: dict[str, dict[str, float]]  # by chart, its versions and when each came, in seconds
    keeps: int | None = None  # how many versions of a chart stay, as far as that has shown
    bold: bool = False  # with `--allow`: continue where it is unknown how many stay
    wanted: Mapping[str, Collection[str]] = field(default_factory=dict)  # by chart, the wanted versions
    # the items that are there as upstream has them, so that they could come again
    ours: set[str] = field(default_factory=set)
    # how many versions of a chart there were at the most in earlier runs, all that were wanted and could be had: it
    # would be chance if the server kept exactly so many. None when unknown.
    seen: int | None = None
    _ahead: float | None = None

    def __post_init__(self) -> None:
        """Forget a `keeps` that the versions there disprove, or that the operator sets aside."""
        if self.bold or (self.keeps is not None and self.most > self.keeps):
            self.keeps = None

    @property
    def most(self) -> int:
        """How many versions there are of the chart that has most: so many of a chart the server does keep."""
        return max(map(len, self.there.values()), default=0)

    def refused(self, charts: Sequence[ChartVersion]) -> Mapping[str, str]:
        """Say which of these must not be put, and why, by item; they come the oldest first, and are not there."""
        found: dict[str, str] = {}
        for chart in reversed(charts):  # where there is room for a few older ones, the newest of them get it
            why = self.refusal(chart)
            if why:
                found[chart.item] = why
            elif self._lost(chart):
                self.came(chart, 0.0)
        return found

    def refusal(self, chart: ChartVersion) -> str:
        """Say why a version must not be put, or ""."""
        here, lost = self.there.get(chart.name, {}), self._lost(chart)
        if self.keeps is not None:
            kept, way = f"the server keeps {self.keeps} versions of a chart", f"set `newest: {self.keeps}`"
            if chart.version not in self._stay(chart):
                return f"{kept}, and there are newer ones; {way}"
            stuck = self._in_the_way(chart) and not self.makes_way(chart)
            return f"{kept}, and would drop {chart.name}-{stuck}, which is newer; {way}" if stuck else ""
        most = len(here)
        first = {f"{chart.name}-{one}" for one in self._goes(chart.name)} - {chart.item}  # it is replaced anyway
        believed = most <= (self.seen or 0) and first <= self.ours
        if self.bold or believed or not lost or most < max(self.most, self.seen or 0):
            return ""
        return (
            f"older than what is there: a server that keeps {most} versions of a chart would drop {chart.name}-{lost} "
            f"for it; set `newest: {most}`, or run `mirrord sync NAME --allow` where the server keeps more"
        )

    def makes_way(self, chart: ChartVersion) -> str:
        """Return the version to be deleted before this one is put, since the server would drop a newer one; or ""."""
        if not self._in_the_way(chart):
            return ""
        lowest = min(self.there[chart.name].keys() - self._stay(chart), key=_order, default="")
        return lowest if f"{chart.name}-{lowest}" in self.ours else ""

    def risky(self, chart: ChartVersion) -> bool:
        """Whether it is uncertain which version this one would push out."""
        return self.keeps is None and bool(self._lost(chart))

    def came(self, chart: ChartVersion, now: float) -> None:
        """Take notice of a version that was put at `now`, by a clock of ours."""
        here = self.there.setdefault(chart.name, {})
        if self._ahead is None:
            latest = (at for versions in self.there.values() for at in versions.values())
            self._ahead = max((0.0, *latest)) + 2 * SAME - now
        while chart.version not in here and self._full(chart.name):
            del here[min(here, key=lambda one: (here[one], one))]
        here[chart.version] = now + self._ahead
        self.ours.add(chart.item)

    def went(self, name: str, version: str) -> None:
        """Take notice of a version that was deleted."""
        self.there[name].pop(version, None)

    def learn(self, listed: Iterable[ChartVersion], put: Iterable[ChartVersion], now: float) -> frozenset[str]:
        """Compare with what is listed now; return the items that went while others of the same chart were put.

        Args:
            listed: what the index lists.
            put: what was put so far, in this order. What came last of a chart must be listed: before that the index
                does not show yet what became of it.
            now: by a clock of ours.
        """
        shown, gone, given = grouped(listed), set[str](), dict[str, list[str]]()
        for chart in put:
            given.setdefault(chart.name, []).append(chart.version)
        for name, versions in given.items():
            left = shown.get(name, {})
            if versions[-1] not in left:
                continue
            lost = {*self.there.get(name, {}), *versions} - left.keys()
            if lost:
                self.keeps = min(len(left), self.keeps or len(left))
            gone |= {f"{name}-{version}" for version in lost}
            self.there[name] = left
            self._ahead = max(self._ahead or 0.0, max(left.values()) - now)  # the server's clock, as far as it shows
        return frozenset(gone)

    def _full(self, name: str) -> bool:
        """Whether one more version of a chart drops one, as far as is known."""
        return self.keeps is not None and len(self.there.get(name, {})) >= self.keeps

    def _stay(self, chart: ChartVersion) -> Collection[str]:
        """Return the versions of a chart that should be there once this one is put: the newest."""
        found = {*self.there.get(chart.name, {}), *self.wanted.get(chart.name, ()), chart.version}
        return sorted(found, key=_order)[-(self.keeps or 0) :]

    def _in_the_way(self, chart: ChartVersion) -> str:
        """Return a version that would be dropped for this one, and should stay; or ""."""
        if not self._full(chart.name):
            return ""
        stay = self._stay(chart)
        return next((one for one in self._goes(chart.name) if one in stay and one != chart.version), "")

    def _lost(self, chart: ChartVersion) -> str:
        """Return a version newer than this one that may have to go for it, or ""."""
        newest = max(self._goes(chart.name), key=_order, default=chart.version)
        return newest if _order(newest) > _order(chart.version) else ""

    def _goes(self, name: str) -> list[str]:
        """Return the versions of which one goes for the next one that comes."""
        here = self.there.get(name, {})
        first, found = min(here.values(), default=0.0), list[str]()
        if first == _NEVER:  # the index does not tell when they came
            return list(here)
        for version in sorted(here, key=lambda one: (here[one], one)):
            if here[version] <= first + SAME and (not found or f"{version}.tgz" < f"{found[-1]}.tgz"):
                found.append(version)
        return found


def grouped(charts: Iterable[ChartVersion]) -> dict[str, dict[str, float]]:
    """Return, by chart, its versions and when each of them was created."""
    found: dict[str, dict[str, float]] = {}
    for chart in charts:
        created = instant(chart.created or "")
        found.setdefault(chart.name, {})[chart.version] = created[0].timestamp() if created else _NEVER
    return found


def _order(version: str) -> tuple[Precedence, str]:
    return Version.parse(version).order
