"""Which chart versions at targets a mirror does not want any more, and how they go. Pure.

The rules are those of `mirrord.plan.prune`; a chart is to them what a repository is of images.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from mirrord.errors import UnsupportedError
from mirrord.model.plan import Action, Plan, Step
from mirrord.plan import prune
from mirrord.plan.guards import unless_meant
from mirrord.plan.unwanted import Key, PruneSurvey, Wants, divided
from mirrord.syncer.values import LOCAL, Mirror, Target
from mirrord.syncers.helm.names import api_of, spec_of
from mirrord.syncers.helm.plan.choice import selected
from mirrord.syncers.helm.plan.restored import called, version_of
from mirrord.syncers.helm.plan.steps import INDEX_ITEM, guard
from mirrord.syncers.helm.plan.survey import HelmDecisions, HelmSurvey

_UNNAMED: Final = "the mirror does not name this chart any more"
_LEFT_OUT: Final = "the mirror does not select it any more"
_GONE: Final = "upstream does not list it any more"
_UNREAD: Final = "it is listed there, and what it is cannot be read"
_CODING: Final = "Coding has no API by which mirrord deletes charts; delete it there by hand"


@dataclass(frozen=True, slots=True)
class Upstream:
    """What upstream lists.

    Attributes:
        survey: its entries, which of them are wanted, and what it hides.
        versions: chart → all versions that it lists, also those that are not wanted.
    """

    survey: HelmSurvey = field(default_factory=HelmSurvey)
    versions: Mapping[str, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HelmPruneSurvey:
    """What a prune looks at.

    Attributes:
        names: which versions are not wanted, and what becomes of each.
        there: what the targets hold.
    """

    names: PruneSurvey
    there: HelmSurvey = field(default_factory=lambda: HelmSurvey(alone=True))


def wants(mirror: Mirror, upstream: Upstream, names: Iterable[str]) -> Mapping[str, Wants]:
    """Return what is wanted of each chart that the mirror selects, or has in the ledger by these names.

    What upstream lists and cannot be read is wanted; a chart of which that is unknown is left out.
    """
    survey, spec = upstream.survey, spec_of(mirror)
    wanted = defaultdict[str, set[str]](set)
    for choice in survey.choices.values():
        wanted[choice.chart.name].add(choice.chart.version)
    for name in names:
        chart, version = divided(name, many=True)
        wanted[chart] |= {version} if survey.hides(called(name)) else set()
    found, empty = dict[str, Wants](), not any(upstream.versions.values())
    for chart, versions in wanted.items():
        listed = upstream.versions.get(chart)
        if survey.hides(f"{chart}-"):
            continue
        if listed is None and not selected(chart, spec):
            found[chart] = Wants(mirror, frozenset(versions), otherwise=_UNNAMED)
            continue
        why = dict.fromkeys(set(listed or ()) - versions, _LEFT_OUT)
        found[chart] = Wants(mirror, frozenset(versions), listed or (), why, _GONE, empty=empty)
    return found


def refused(mirror: Mirror, upstream: Upstream) -> str:
    """Return why a run would not accept the index either, one sentence, or ""."""
    why = guard(upstream.survey, spec_of(mirror))
    return f"{unless_meant(mirror.name, why)}: nothing is removed" if why else ""


def pruned(mirror: Mirror) -> Collection[Target]:
    """Return the targets that are pruned; what `local` keeps is decided by its own keys."""
    return [target for target in mirror.targets if target.name != LOCAL]


def passing(mirror: Mirror, target: Target) -> bool:
    """Whether a target may drop by itself what nobody wants, so that nothing can be brought back from there."""
    ours = api_of(mirror, target) in (LOCAL, "directory")
    return (target.name == LOCAL and mirror.keep is not None) or (ours and spec_of(mirror).removed == "delete")


def plan_prune(mirror: Mirror, found: HelmPruneSurvey, now: datetime) -> Plan:
    """Decide about every version that is not wanted."""
    made = prune.plan_prune(mirror, found.names, now)
    apis = {target.name: api_of(mirror, target) for target in mirror.targets}
    doomed = {one.key: (one.name, digest) for one, digest in prune.doomed(found.names, now)}
    charts = {(key[0], called(name)): version_of(name, digest) for key, (name, digest) in doomed.items()}
    listed = {
        (target, f"{chart}-{version}")
        for (target, chart), versions in found.names.there.items()
        for version in versions
        if apis[target] != "directory"  # of an index of ours that lists what is not there, the entry goes
    }
    unread = listed - charts.keys()
    loose = {key for key in charts if apis[key[0]] == "directory" and key[1] not in _own(found.there, key[0])}
    steps = tuple(_step(step, apis[step.target], charts, unread, loose) for step in made.steps)
    removing = {(step.target, step.item) for step in steps if step.action is Action.DELETE}
    decisions = HelmDecisions(found.there, removing={key: chart for key, chart in charts.items() if key in removing})
    return replace(made, steps=steps, decisions=decisions)


def _own(there: HelmSurvey, target: str) -> Collection[str]:
    """Return what the index of a folder lists."""
    return (there.targets[target].own or {}) if target in there.targets else ()


def _step(step: Step, api: str, charts: Mapping[Key, object], unread: Collection[Key], loose: Collection[Key]) -> Step:
    """Return a step as it is done at a target: a folder has an index, which is written once; some is `loose` there."""
    if step.whole:
        return step
    if step.action is Action.DELETE and step.names and (step.target, step.item) in unread:
        step = replace(step, action=Action.KEEP, reason=_UNREAD)
    if (step.target, step.item) in loose:
        step = replace(step, reason=f"{step.reason}; no index lists it")
    indexed = api == "directory" and (step.target, step.item) not in loose
    step = replace(step, names=(f"{step.item}.tgz",), group=INDEX_ITEM if indexed else f"at {step.target}")
    if api == "coding" and step.action is Action.DELETE and (step.target, step.item) in charts:
        return replace(step, action=Action.REFUSE, reason=f"{step.reason}; {_CODING}", code=UnsupportedError.code)
    return step
