"""Wanted versions x held versions → steps, each with its reason."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Final

from mirrord.model import Action, Plan, Step
from mirrord.syncer import Mirror
from mirrord.syncers.helm.names import INDEX, spec_of
from mirrord.syncers.helm.plan.choice import Choice, choose
from mirrord.syncers.helm.plan.listing import listing, published
from mirrord.syncers.helm.plan.survey import HelmSurvey, Shelf
from mirrord.syncers.helm.spec import HelmSpec

INDEX_ITEM: Final = "index"
"""The item that stands for a target's index: its step is the last one, and shows all the others."""

SHOWN = 5  # names in a sentence
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
    if not before or len(lost) <= (max(1.0, spec.max_loss * len(before)) if spec.max_loss and len(before) > 1 else 0):
        return ""
    share = f"{len(lost)} of {len(before)}"
    return f"upstream's index lost {share} versions ({_some(lost)}), more than max_loss of {spec.max_loss:.0%} allows"


def plan(mirror: Mirror, survey: HelmSurvey, now: datetime) -> Plan:
    """Decide about every chart version at every target, and about every target's index."""
    if survey.unchanged:
        return Plan(mirror.name, mirror.kind, now, tuple(_all(mirror, Action.KEEP, survey.unchanged)))
    spec, told = spec_of(mirror), (survey.problems, survey.missing, survey.remarks)
    blocked = "" if mirror.allow else guard(survey, spec)
    if blocked:
        reason = f"{blocked}; when that is meant, run `mirrord sync {mirror.name} --allow`"
        return Plan(mirror.name, mirror.kind, now, tuple(_all(mirror, Action.REFUSE, reason)), *told)
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
    return Plan(mirror.name, mirror.kind, now, tuple(steps), *told)


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
    if action is Action.COPY and item in shelf.refused:
        action, reason = Action.REFUSE, shelf.refused[item]
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
        hidden = item not in listed and survey.hides(item)
        why = "no longer wanted" if item in listed else "no longer listed upstream"
        action, reason = Action.KEEP, f"{why}; kept (`removed: keep`)"
        if hidden:
            reason = "what upstream says of it cannot be read; kept"
        elif spec.removed == "delete":
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
    same = {chart.item: (chart.listed, published(chart)) for chart in listed} == {
        item: (own.listed, {**own.entry, "urls": list(own.urls)}) for item, own in shelf.own.items()
    }
    if same and target not in survey.rewrite:
        return _index(target, Action.KEEP, "lists all that is wanted")
    return _index(target, Action.COPY, "its entries are not as upstream has them" if not same else "to be written anew")


def _some(items: Collection[str]) -> str:
    shown = sorted(items)[:SHOWN]
    return ", ".join(shown) + (" …" if len(items) > SHOWN else "")
