"""Wanted versions x held versions → steps, each with its reason."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mirrord.model.plan import Action, Plan, Step
from mirrord.plan.guards import some, too_much, unless_meant
from mirrord.syncer.values import Mirror
from mirrord.syncers.helm.names import INDEX, registry_lacks, registry_paths, spec_of
from mirrord.syncers.helm.plan.choice import VersionChoice, choose
from mirrord.syncers.helm.plan.listing import listing, published
from mirrord.syncers.helm.plan.notices import problems, remarks, waiting
from mirrord.syncers.helm.plan.survey import HelmSurvey, TargetContent
from mirrord.syncers.helm.plan.trouble import Trouble, provenance_of
from mirrord.syncers.helm.spec import HelmSpec

INDEX_ITEM: Final = "index"
"""The item that stands for a target's index: its step is the last one, and shows all the others."""

LACKING: Final = "lacking"
"""Names, among the facts of a look, the targets and versions of which the operator has to decide, a line each."""

TOGETHER = 4  # versions in a batch: charts are so small that their round trips are what takes time


def guard(survey: HelmSurvey, spec: HelmSpec) -> str:
    """Say why the index looks like an accident (helm/chartmuseum#374 emptied one), or "" when it does not.

    Where nobody knows what upstream listed before and deleting is allowed, what our own indexes list stands for it.
    """
    before = survey.previous
    if before is None and spec.removed == "delete":
        before = frozenset(item for shelf in survey.shelves.values() for item in shelf.own or ())
    lost = {
        item for item in (before or frozenset()) - {entry.item for entry in survey.entries} if not survey.hides(item)
    }
    before = before or frozenset()
    why = too_much(len(lost), len(before), spec.max_loss, spared=len(before) > 1)
    return f"upstream's index lost {len(lost)} of {len(before)} versions ({some(lost)}), {why}" if why else ""


def plan(mirror: Mirror, survey: HelmSurvey, now: datetime) -> Plan:
    """Decide about every chart version at every target, and about every target's index."""
    if survey.unchanged:
        return _as_before(mirror, survey, now)
    spec = spec_of(mirror)
    blocked = "" if mirror.allow else guard(survey, spec)
    if blocked:
        none = tuple(_all(mirror, Action.REFUSE, unless_meant(mirror.name, blocked)))
        told = (survey.problems, survey.missing, survey.remarks)
        return Plan(mirror.name, mirror.kind, now, none, *told, decisions=survey)
    choices = choose(survey.entries, spec, now)
    desk = _Desk(mirror, survey, now, registry_paths(mirror))
    steps = [
        step
        for number, choice in enumerate(choices.values())
        for target in survey.shelves
        if (step := desk.step(choice, target, str(number // TOGETHER)))
    ]
    steps += [
        step for target, shelf in survey.shelves.items() for step in _removed(target, shelf, choices, survey, spec)
    ]
    moving = {step.target for step in steps if step.active}
    for target, error in survey.unasked.items():
        steps.append(_index(target, Action.COPY, f"not known what is there: {error}"))
    for target, shelf in survey.shelves.items():
        steps.append(_index_step(survey, choices, target, shelf, moving))
    wrong = (*problems(mirror, survey, choices), *(() if mirror.allow else waiting(survey, choices, now)))
    told = (wrong, survey.missing, tuple(remarks(mirror, survey, choices)))
    return Plan(mirror.name, mirror.kind, now, tuple(steps), *told, decisions=survey)


def _as_before(mirror: Mirror, survey: HelmSurvey, now: datetime) -> Plan:
    """Say that nothing changed since all was done, and what was wrong then and still is."""
    steps = list(_all(mirror, Action.KEEP, survey.unchanged))
    lacking = survey.facts[LACKING].split("\n") if LACKING in survey.facts else None  # older notes do not tell
    for item, trouble in survey.troubles.items():
        if trouble.open:
            steps += [
                Step(Action.REFUSE, item, "", target.name, (f"{item}.tgz",), _left_alone(trouble), group=INDEX_ITEM)
                for target in mirror.targets
                if lacking is None or f"{target.name} {item}" in lacking
            ]
    wrong = [trouble.said for trouble in survey.troubles.values() if not trouble.open]
    told = ((*survey.problems, *wrong), survey.missing, survey.remarks)
    return Plan(mirror.name, mirror.kind, now, tuple(steps), *told, decisions=survey)


def _left_alone(trouble: Trouble) -> str:
    return f"{trouble.said}; asked for again from {trouble.until:%Y-%m-%d %H:%M} UTC on, or by `--allow`"


def _all(mirror: Mirror, action: Action, reason: str) -> Iterator[Step]:
    return (_index(target.name, action, reason) for target in mirror.targets)


def _index(target: str, action: Action, reason: str) -> Step:
    return Step(action, INDEX_ITEM, "", target, (INDEX,), reason, group=INDEX_ITEM)


@dataclass(frozen=True, slots=True)
class _Desk:
    """What every decision about a version is made with; `paths` are those of targets that are registries."""

    mirror: Mirror
    survey: HelmSurvey
    now: datetime
    paths: Mapping[str, str]

    def step(self, choice: VersionChoice, target: str, group: str) -> Step | None:
        """Decide about a version at a target; None: what upstream has is wrong, which is told as a problem."""
        item, shelf = choice.chart.item, self.survey.shelves[target]
        there, wanted = shelf.held.get(item), choice.chart.digest
        if there is not None and choice.fits(there):
            action, reason = self._there(choice, shelf)
        else:
            action, reason = Action.COPY, "not there"
            if there is not None:
                action, reason = _CHANGED[spec_of(self.mirror).changed]
                reason = f"upstream changed its digest from {there} to {wanted}: {reason}"
            if action is Action.COPY:
                if not choice.chart.urls or (target in self.paths and registry_lacks(self.paths[target], choice.chart)):
                    return None
                trouble = self._trouble(item, choice)
                if trouble and not trouble.open:
                    return None
                if trouble or item in shelf.refused:
                    action, reason = Action.REFUSE, _left_alone(trouble) if trouble else shelf.refused[item]
        digest = str(there if action is Action.KEEP else wanted or "")
        return Step(action, item, digest, target, (choice.chart.file,), reason, group=group)

    def _there(self, choice: VersionChoice, shelf: TargetContent) -> tuple[Action, str]:
        """Leave what is there, unless its provenance could not be had and may be had by now, for an index of ours."""
        trouble = self.survey.troubles.get(provenance_of(choice.chart.item))
        due = trouble and shelf.own is not None and (self.mirror.allow or not trouble.waits(choice, self.now))
        return (Action.COPY, "its provenance is asked for again") if due else (Action.KEEP, "already there")

    def _trouble(self, item: str, choice: VersionChoice) -> Trouble | None:
        """Return what keeps a version from being asked for now."""
        trouble = self.survey.troubles.get(item)
        return trouble if trouble and trouble.waits(choice, self.now) and not self.mirror.allow else None


_CHANGED: Final = {
    "keep": (Action.KEEP, "ours stays (`changed: keep`)"),
    "replace": (Action.COPY, "it is replaced (`changed: replace`)"),
    "fail": (Action.REFUSE, "not taken (`changed: fail`); look which one is right"),
}


def _removed(
    target: str, shelf: TargetContent, choices: Mapping[str, VersionChoice], survey: HelmSurvey, spec: HelmSpec
) -> Iterator[Step]:
    listed = {entry.item for entry in survey.entries}
    for item in sorted(shelf.held.keys() - choices.keys()):
        hidden = item not in listed and survey.hides(item)
        why = "no longer wanted" if item in listed else "no longer listed upstream"
        action, reason = Action.KEEP, f"{why}; kept (`removed: keep`)"
        if hidden:
            reason = "what upstream says of it cannot be read; kept"
        elif spec.removed == "delete":
            if shelf.own is None:
                reason = f"{why}; mirrord cannot delete it there, do it by hand"
            elif survey.previous is None:
                reason = f"{why}; kept this time, since nothing is known of earlier runs"
            else:
                action, reason = Action.DELETE, why
        digest = str(shelf.held[item])
        yield Step(action, item, digest, target, (f"{item}.tgz",), reason, group=INDEX_ITEM)


def _index_step(
    survey: HelmSurvey,
    choices: Mapping[str, VersionChoice],
    target: str,
    shelf: TargetContent,
    moving: Collection[str],
) -> Step:
    if target in moving:
        return _index(target, Action.COPY, "updated with these changes")
    if choices and not any(item in shelf.held for item in choices):
        return _index(target, Action.REFUSE, f"not one of {len(choices)} wanted versions can be had")
    if shelf.own is None:
        return _index(target, Action.KEEP, "lists all that is wanted")
    listed = listing(shelf, choices, {}, ())
    same = {chart.item: (chart.listed, published(chart)) for chart in listed} == {
        item: (own.listed, {**own.entry, "urls": list(own.urls)}) for item, own in shelf.own.items()
    }
    if same and target not in survey.rewrite:
        return _index(target, Action.KEEP, "lists all that is wanted")
    return _index(target, Action.COPY, "its entries are not as upstream has them" if not same else "to be written anew")
