"""Which versions of charts `keep` is about, how they are ranked. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from mirrord.model.digest import Digest
from mirrord.model.keep import Ranked, Ranks
from mirrord.plan.semver import Version
from mirrord.syncers.helm.names import ChartVersion
from mirrord.syncers.helm.plan.choice import constraint_of
from mirrord.syncers.helm.spec import HelmSpec


def by_version(charts: Iterable[ChartVersion], spec: HelmSpec) -> Ranks:
    """Return what ranks the archives of these charts, each chart for itself; what the mirror names exactly stays."""
    return partial(_ranked, {chart.path: chart for chart in charts}, spec)


def _ranked(
    charts: Mapping[str, ChartVersion], spec: HelmSpec, files: Mapping[str, Digest], _: Mapping[str, int]
) -> Mapping[str, Ranked]:
    ranges = {name: constraint_of(name, spec) for name in {chart.name for chart in charts.values()}}
    found = dict[str, Ranked]()
    for file in files:
        if (chart := charts.get(file)) is None:
            continue
        version, wanted = Version.parse(chart.version), ranges[chart.name]
        named = chart.version in spec.accept.get(chart.name, {}) or (wanted is not None and wanted.pins(version))
        stays = "the mirror names this version" if named else ""
        found[file] = Ranked(chart.name, (version.order,), chart.name, stays)
    return found
