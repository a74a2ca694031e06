"""What a plan tells beside its steps: what is left out because it is wrong upstream, and what is worth knowing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from mirrord.syncer.values import Mirror
from mirrord.syncers.helm.names import registry_lacks, registry_paths, spec_of
from mirrord.syncers.helm.plan.choice import VersionChoice
from mirrord.syncers.helm.plan.survey import HelmSurvey
from mirrord.syncers.helm.plan.trouble import provenance_of
from mirrord.syncers.helm.spec import HelmSpec


def problems(mirror: Mirror, survey: HelmSurvey) -> Iterator[str]:
    """Yield what is wrong with entries, whatever becomes of their archives; each stays so until upstream changes it."""
    yield from survey.problems
    for item, choice in survey.choices.items():
        if not choice.chart.urls and survey.lacks(item):
            yield f"{item}: its entry names no place to get it from"
    paths = registry_paths(mirror)
    for target, found in survey.targets.items():
        if target in paths:
            yield from _without_repository(target, paths[target], survey.choices.values())
        elif found.own is None:
            yield from _under_other_names(target, survey.choices.values())


def remarks(mirror: Mirror, survey: HelmSurvey) -> Iterator[str]:
    """Yield what was put right, what has no effect, and what upstream changed without anything being changed here."""
    yield from survey.remarks
    yield from _without_effect(spec_of(mirror), survey)
    ours = (found for found in survey.targets.values() if found.own is not None)
    if survey.previous is None and spec_of(mirror).removed == "delete" and any(found.held for found in ours):
        yield "nothing is known of earlier runs: this one deletes nothing, and the next one compares with what it saw"
    if spec_of(mirror).changed != "keep":
        return
    for item, choice in survey.choices.items():
        held = [found.held[item] for found in survey.targets.values() if item in found.held]
        other = [digest for digest in held if not choice.fits(digest)]
        if other:
            yield f"{item}: upstream changed its digest from {other[0]} to {choice.chart.digest}; ours stays"


def _without_effect(spec: HelmSpec, survey: HelmSurvey) -> Iterator[str]:
    """Name the versions that `skip` and `accept` have and upstream does not list, nor hides in what is unreadable."""
    listed = {(entry.name, entry.version) for entry in survey.entries}
    skipped = [("skip", chart, version) for chart, versions in spec.skip.items() for version in versions]
    accepted = [("accept", chart, version) for chart, versions in spec.accept.items() for version in versions]
    for key, chart, version in (*skipped, *accepted):
        item = f"{chart}-{version}"
        if (chart, version) not in listed and not survey.hides(item):
            yield f"{item}: `{key}` has it and upstream does not; write it as upstream does, or take it out"


def waiting(survey: HelmSurvey, now: datetime) -> Iterator[str]:
    """Yield what is left alone for now, since it could not be had, but for what the operator has to decide."""
    for item, choice in survey.choices.items():
        trouble, prov = survey.troubles.get(item), survey.troubles.get(provenance_of(item))
        if trouble and not trouble.open and trouble.waits(choice, now) and survey.lacks(item):
            yield trouble.said
        if prov and prov.waits(choice, now):
            yield prov.said


def _without_repository(target: str, path: str, choices: Iterable[VersionChoice]) -> Iterator[str]:
    """Name the charts, and the versions, for which a registry has no name."""
    named: set[str] = set()
    for choice in choices:
        kind = registry_lacks(path, choice.chart)
        what = choice.chart.item if kind == "tag" else choice.chart.name
        if kind and what not in named:
            named.add(what)
            yield f"{what}: cannot be at {target}: a registry has no such {kind} ({_RULES[kind]})"


_RULES: Final = {
    "repository": "lower case letters and digits, with . _ or - between them",
    "tag": "at most 128 characters",
}


def _under_other_names(target: str, choices: Iterable[VersionChoice]) -> Iterator[str]:
    """Name the charts that helm finds under another name upstream, and not at a server that makes its own index."""
    names = dict.fromkeys((choice.chart.name, key) for choice in choices for key in choice.chart.keys)
    for name, key in names:
        if key != name:
            yield f"{name}: upstream lists it as {key[:80]!r}, and {target}, which makes its own index, as {name!r}"
