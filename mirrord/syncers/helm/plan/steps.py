"""Wanted versions x held versions → steps, each with its reason, and the problems and remarks of a plan."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Final

from mirrord.errors import GuardError
from mirrord.model.plan import Action, Plan, Step
from mirrord.plan.guards import some, too_much, unless_meant
from mirrord.plan.select import matches
from mirrord.syncer.values import Mirror
from mirrord.syncers.helm.names import INDEX, ChartVersion, registry_lacks, registry_paths, spec_of
from mirrord.syncers.helm.plan.choice import VersionChoice
from mirrord.syncers.helm.plan.restored import TOGETHER, restored_steps
from mirrord.syncers.helm.plan.survey import HelmDecisions, HelmSurvey, TargetContent, listing, published
from mirrord.syncers.helm.plan.takedown import still_held
from mirrord.syncers.helm.plan.trouble import Trouble, provenance_of
from mirrord.syncers.helm.spec import HelmSpec

INDEX_ITEM: Final = "index"
"""The item that stands for a target's index: its step is the last one, and shows all the others."""

LACKING: Final = "lacking"
"""Names, among the facts of a look, the targets and versions of which the operator has to decide, a line each."""

_RULES: Final = {
    "repository": "lower case letters and digits, with . _ or - between them",
    "tag": "at most 128 characters",
}


def problems(mirror: Mirror, survey: HelmSurvey) -> Iterator[str]:
    """Yield what is wrong with entries, whatever becomes of their archives; each stays so until upstream changes it."""
    yield from survey.problems
    for item, choice in survey.choices.items():
        if not choice.chart.urls and survey.lacks(item):
            yield f"{item}: its entry names no place to get it from"
    paths = registry_paths(mirror)
    for target, found in survey.targets.items():
        said: dict[str, None] = {}  # each once
        for choice in survey.choices.values():
            chart = choice.chart
            lacking = registry_lacks(paths[target], chart) if target in paths else ""
            if lacking:
                what = chart.item if lacking == "tag" else chart.name
                said[f"{what}: cannot be at {target}: a registry has no such {lacking} ({_RULES[lacking]})"] = None
            for key in chart.keys if target not in paths and found.own is None else ():
                if key != chart.name:  # helm finds it under that name upstream, and not there
                    own = f"{target}, which makes its own index, as {chart.name!r}"
                    said[f"{chart.name}: upstream lists it as {key[:80]!r}, and {own}"] = None
        yield from said


def remarks(mirror: Mirror, survey: HelmSurvey) -> Iterator[str]:
    """Yield what was put right, what has no effect, and what upstream changed without anything being changed here."""
    yield from survey.remarks
    if not survey.choices and not survey.left_out:
        count = len(survey.entries)
        versions = "1 version" if count == 1 else f"{count} versions"
        some = f"lists {versions}, and this mirror's selection takes none"
        none = some if count else "lists no charts yet"
        yield f"upstream {none}: there is nothing to mirror"
    listed, spec = {(entry.name, entry.version) for entry in survey.entries}, spec_of(mirror)
    skipped = [("skip", chart, version) for chart, versions in spec.skip.items() for version in versions]
    accepted = [("accept", chart, version) for chart, versions in spec.accept.items() for version in versions]
    for key, chart, version in (*skipped, *accepted):
        if (chart, version) not in listed and not survey.hides(f"{chart}-{version}"):
            without = f"`{key}` has it and upstream does not; write it as upstream does, or take it out"
            yield f"{chart}-{version}: {without}"
    yield from _ranges_of_none(survey, spec)
    if is_blind(survey, spec):
        yield "nothing is known of earlier runs: this one deletes nothing, and the next one compares with what it saw"
    if spec.changed != "keep":
        return
    for item, choice in survey.choices.items():
        ours = (found for target, found in survey.targets.items() if item not in survey.restored.get(target, ()))
        held = [found.held[item] for found in ours if item in found.held]
        other = [digest for digest in held if not choice.fits(digest)]
        if other:
            yield f"{item}: upstream changed its digest from {other[0]} to {choice.chart.digest}; ours stays"


def _ranges_of_none(survey: HelmSurvey, spec: HelmSpec) -> Iterator[str]:
    """Yield the ranges that are for no chart; from a registry only charts come that `charts` names."""
    names = {*spec.charts, *(entry.name for entry in survey.entries)}
    for key in spec.versions if isinstance(spec.versions, dict) else ():
        hidden = survey.hides(f"{key}-") or any(item.startswith(f"{key}-") for item in survey.unread)
        if not hidden and not any(matches(name, (key,)) for name in names):
            without = "`versions` has it and upstream has no such chart"
            yield f"{key}: {without}; write it as upstream does, or take it out"


def is_blind(survey: HelmSurvey, spec: HelmSpec) -> bool:
    """Whether something may have to be deleted while it is unknown what upstream listed before."""
    ours = (found for found in survey.targets.values() if found.own is not None)
    return survey.previous is None and spec.removed == "delete" and any(found.held for found in ours)


def waiting(survey: HelmSurvey, now: datetime) -> Iterator[str]:
    """Yield what is left alone for now, since it could not be had, but for what the operator has to decide."""
    for item, choice in survey.choices.items():
        trouble, prov = survey.troubles.get(item), survey.troubles.get(provenance_of(item))
        if trouble and not trouble.open and trouble.waits(choice, now) and survey.lacks(item):
            yield trouble.said
        if prov and prov.waits(choice, now):
            yield prov.said


def guard(survey: HelmSurvey, spec: HelmSpec) -> str:
    """Say why the index looks like an accident (helm/chartmuseum#374 emptied one), or "" when it does not.

    Where it is unknown what upstream listed before and deletion is allowed, our own indexes stand in for it.
    """
    before = survey.previous or frozenset()
    if survey.previous is None and spec.removed == "delete":
        before = frozenset(item for found in survey.targets.values() if found.own for item in found.held)
    lost = {item for item in before - {entry.item for entry in survey.entries} if not survey.hides(item)}
    why = too_much(len(lost), len(before), spec.max_loss, spared=len(before) > 1)
    return f"upstream lost {len(lost)} of {len(before)} versions ({some(lost)}), {why}" if why else ""


def plan(mirror: Mirror, survey: HelmSurvey, now: datetime) -> Plan:
    """Decide about every chart version at every target, and about every target's index."""
    if survey.unchanged:
        return _as_before(mirror, survey, now)
    whole = Plan(mirror.name, mirror.kind, now, problems=survey.problems, missing=survey.missing, code=survey.code)
    blocked = "" if mirror.allow else guard(survey, spec_of(mirror))
    if blocked:
        refused = _everywhere(mirror, Action.REFUSE, unless_meant(mirror.name, blocked))
        none = tuple(replace(step, code=GuardError.code) for step in refused)
        return replace(whole, steps=none, remarks=survey.remarks, decisions=HelmDecisions(survey, survey.problems))
    steps = _Steps(mirror, survey, now)
    made = (*steps.versions(), *restored_steps(survey, registry_paths(mirror), INDEX_ITEM), *steps.removed())
    changing = {step.target for step in made if step.active}
    indexes = tuple(steps.indexes(changing))
    lasting = tuple(problems(mirror, survey))
    waits = () if mirror.allow else waiting(survey, now)
    return replace(
        whole,
        denied=survey.left_out,
        steps=(*made, *indexes),
        problems=(*lasting, *waits),
        remarks=tuple(remarks(mirror, survey)),
        decisions=HelmDecisions(survey, lasting, steps.listed),
    )


def plan_restored(mirror: Mirror, survey: HelmSurvey, now: datetime) -> Plan:
    """Decide about restored versions alone; what else targets have stays."""
    steps = _Steps(mirror, survey, now)
    made = (*survey.refused, *restored_steps(survey, registry_paths(mirror), INDEX_ITEM))
    changing = {step.target for step in made if step.active}
    indexes = [step for step in steps.indexes(changing) if step.action is not Action.KEEP]
    decisions = HelmDecisions(survey, (), steps.listed)
    return Plan(mirror.name, mirror.kind, now, (*made, *indexes), decisions=decisions)


def _as_before(mirror: Mirror, survey: HelmSurvey, now: datetime) -> Plan:
    """Say that nothing changed since all was done, and what was wrong then and still is."""
    versions = survey.facts.get("versions", "")
    count = int(versions) if versions.isdecimal() else 0
    kept = _everywhere(mirror, Action.KEEP, survey.unchanged)
    steps = [replace(step, count=count) for step in kept]
    lacking = survey.facts[LACKING].split("\n") if LACKING in survey.facts else None  # older notes do not tell
    for item, trouble in survey.troubles.items():
        if trouble.open:
            steps += [
                Step(Action.REFUSE, item, "", target.name, (f"{item}.tgz",), _left_alone(trouble), group=INDEX_ITEM)
                for target in mirror.targets
                if lacking is None or f"{target.name} {item}" in lacking
            ]
    wrong = (*survey.problems, *(trouble.said for trouble in survey.troubles.values() if not trouble.open))
    notices = (wrong, survey.missing, survey.remarks)
    return Plan(mirror.name, mirror.kind, now, tuple(steps), *notices, decisions=HelmDecisions(survey))


def _left_alone(trouble: Trouble) -> str:
    return f"{trouble.said}; asked for again from {trouble.until:%Y-%m-%d %H:%M} UTC on, or by `--allow`"


def _everywhere(mirror: Mirror, action: Action, reason: str) -> tuple[Step, ...]:
    return tuple(_index(target.name, action, reason) for target in mirror.targets)


def _index(target: str, action: Action, reason: str) -> Step:
    return Step(action, INDEX_ITEM, "", target, (INDEX,), reason, group=INDEX_ITEM, passing=True, count=0)


_CHANGED: Final = {
    "keep": (Action.KEEP, "ours stays (`changed: keep`)"),
    "replace": (Action.COPY, "it is replaced (`changed: replace`)"),
    "fail": (Action.REFUSE, "not taken (`changed: fail`); look which one is right"),
}


def _same(chart: ChartVersion, ours: ChartVersion) -> bool:
    """Whether an index of ours lists a version as wanted."""
    return chart.listed == ours.listed and published(chart) == {**ours.entry, "urls": list(ours.urls)}


class _Steps:
    """Makes the steps of one plan."""

    def __init__(self, mirror: Mirror, survey: HelmSurvey, now: datetime) -> None:
        self._survey, self._spec, self._now, self._allow = survey, spec_of(mirror), now, mirror.allow
        self._paths = registry_paths(mirror)
        # target → the new content of its index, as far as it was needed to decide
        self.listed: dict[str, tuple[ChartVersion, ...]] = {}
        self._overridden = {target: survey.overridden(target) for target in survey.targets}

    def versions(self) -> Iterator[Step]:
        """Decide about what is wanted."""
        for number, choice in enumerate(self._survey.choices.values()):
            for target, found in self._survey.targets.items():
                overridden = choice.chart.item in self._overridden[target]
                decided = None if overridden else self._version(choice, target, found)
                if decided is not None:
                    action, reason = decided
                    there = found.held.get(choice.chart.item) if action is Action.KEEP else choice.chart.digest
                    names, group = (choice.chart.file,), str(number // TOGETHER)
                    kept = there is not None and action is Action.KEEP  # the target has just said so
                    there = there or choice.chart.digest
                    of_item = choice.chart.item, str(there or ""), target, names, reason
                    yield Step(action, *of_item, group=group, confirmed=kept)

    def _version(self, choice: VersionChoice, target: str, found: TargetContent) -> tuple[Action, str] | None:
        """Decide about a version at a target; None: what upstream has is wrong, which is reported as a problem."""
        chart, there = choice.chart, found.held.get(choice.chart.item)
        gone = self._survey.denied.get(target, {}).get(chart.item)
        if there is not None and choice.fits(there) and not gone:
            trouble = self._survey.troubles.get(provenance_of(chart.item))
            due = trouble and found.own is not None and (self._allow or not trouble.waits(choice, self._now))
            return (Action.COPY, "its provenance is asked for again") if due else (Action.KEEP, "already there")
        if why := found.left(choice):
            return Action.KEEP, f"not kept: {why}"
        action, reason = Action.COPY, "not there"
        if gone:
            reason = f"what is there was taken down: {gone}"
        elif there is not None:
            action, reason = _CHANGED[self._spec.changed]
            reason = f"upstream changed its digest from {there} to {chart.digest}: {reason}"
        if action is not Action.COPY:
            return action, reason
        if not chart.urls or (target in self._paths and registry_lacks(self._paths[target], chart)):
            return None
        trouble = self._survey.troubles.get(chart.item)
        if trouble and trouble.waits(choice, self._now) and not self._allow:
            return (Action.REFUSE, _left_alone(trouble)) if trouble.open else None
        return (Action.REFUSE, found.refused[chart.item]) if chart.item in found.refused else (action, reason)

    def removed(self) -> Iterator[Step]:
        """Decide about versions that targets hold and that are not wanted."""
        listed = {entry.item for entry in self._survey.entries}
        for target, found in self._survey.targets.items():
            for item in sorted(found.held.keys() - self._survey.choices.keys() - self._overridden[target]):
                gone = self._survey.denied.get(target, {}).get(item)
                action, reason = still_held(gone) if gone else self._unwanted(item, found, listed=item in listed)
                digest, names = str(found.held[item]), (f"{item}.tgz",)
                yield Step(action, item, digest, target, names, reason, group=INDEX_ITEM)

    def _unwanted(self, item: str, found: TargetContent, *, listed: bool) -> tuple[Action, str]:
        if not listed and self._survey.hides(item):
            return Action.KEEP, "what upstream says of it cannot be read; kept"
        why = "no longer wanted" if listed else "no longer listed upstream"
        if self._spec.removed == "keep":
            return Action.KEEP, f"{why}; kept (`removed: keep`)"
        if found.own is None:
            return Action.KEEP, f"{why}; kept there, unless `mirrord prune` removes it"
        if self._survey.previous is None:
            return Action.KEEP, f"{why}; kept this time, since nothing is known of earlier runs"
        return Action.DELETE, why

    def indexes(self, changing: Collection[str]) -> Iterator[Step]:
        """Decide about the index of each target; that of a `changing` one is written anyway. A registry has none."""
        for target, error in self._survey.unasked.items():  # what is to be said of it is left to the doing
            yield _index(target, Action.COPY, f"the target cannot be read: {error}")
        for target, found in self._survey.targets.items():
            if target in changing:
                action, reason = Action.COPY, "updated with these changes"
            else:
                action, reason = self._index_of(target, found)
            if target not in self._paths or action is Action.REFUSE:
                yield _index(target, action, reason)

    def _index_of(self, target: str, found: TargetContent) -> tuple[Action, str]:
        choices = self._survey.choices_at(target)
        left = all(map(found.left, choices.values())) if found.not_kept else False
        if choices and not left and found.held.keys().isdisjoint(choices):
            written = "" if target in self._paths else "; no index is written"
            return Action.REFUSE, f"none of the wanted versions ({len(choices)}) can be fetched{written}"
        if (own := found.own) is None:
            return Action.KEEP, "lists all that is wanted"
        listed = self.listed[target] = listing(found, choices, {}, ())
        if len(listed) != len(own) or not all(chart.item in own and _same(chart, own[chart.item]) for chart in listed):
            return Action.COPY, "its entries are not as upstream has them"
        rewrite = target in self._survey.rewrite
        return (Action.COPY, "to be rewritten") if rewrite else (Action.KEEP, "lists all that is wanted")
