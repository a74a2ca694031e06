"""Chart versions that are restored: what overrides upstream at each target, and the steps for that. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from mirrord.errors import GuardError
from mirrord.model.digest import Digest
from mirrord.model.plan import Action, Item, Step
from mirrord.plan.offer import Offer
from mirrord.plan.restored import Restored
from mirrord.plan.semver import valid_version
from mirrord.syncer.values import Mirror
from mirrord.syncers.helm.names import ChartVersion, registry_lacks
from mirrord.syncers.helm.plan.choice import VersionChoice
from mirrord.syncers.helm.plan.survey import HelmSurvey, TargetContent

TOGETHER: Final = 4  # versions in a batch: charts are so small that their round trips are what takes time


def called(name: str) -> str:
    """Return the item of a name of the ledger (`ChartVersion.reference`)."""
    chart, _, version = name.partition(":")
    return f"{chart}-{version}"


def reference_of(item: str) -> str:
    """Return the name of the ledger that has this item, "" for none; of several the one with the longest version."""
    return next((f"{chart}:{version}" for chart, version in parted(item) if chart), "")


def parted(item: str) -> Iterator[tuple[str, str]]:
    """Yield the charts and versions that an item may mean, the longest version first."""
    ends = (place for place, sign in enumerate(item) if sign == "-" and valid_version(item[place + 1 :]))
    return ((item[:end], item[end + 1 :]) for end in ends)


def version_of(name: str, digest: str | None = None) -> ChartVersion:
    """Return the version that a name of the ledger means; nothing else is known of it."""
    chart, _, version = name.partition(":")
    found = Digest.parse(digest) if digest else None
    return ChartVersion(chart, version, found, (), None, deprecated=False, entry={})


def with_restored(survey: HelmSurvey, restored: Restored, mirror: Mirror) -> HelmSurvey:
    """Let restored versions override what upstream has at their targets, and say so unless that is all it is about."""
    if not restored.held:
        return survey
    targets = {target.name for target in mirror.targets}
    held: dict[str, dict[str, VersionChoice]] = {}
    away: dict[str, dict[str, Digest]] = {}
    for (target, name), digest in restored.to_stay.items():
        if target in targets:
            held.setdefault(target, {})[called(name)] = VersionChoice(version_of(name, digest), restored=True)
    for (target, name), digest in restored.away.items():
        if target in targets:
            away.setdefault(target, {})[called(name)] = Digest.parse(digest)
    said = () if survey.alone else _remarks(mirror.name, survey, restored)
    return replace(survey, restored=held, away=away, remarks=(*survey.remarks, *said))


def _remarks(mirror: str, survey: HelmSurvey, restored: Restored) -> Iterator[str]:
    """Return a sentence for each restored version that upstream has otherwise."""
    names = frozenset(restored.names)
    wanted = [one.chart for one in survey.choices.values() if one.chart.reference in names]
    offers = [Offer(Item(one.reference, str(one.digest or "")), (one.reference,)) for one in wanted]
    return restored.remarks(mirror, offers, alone=False, called=called)


def restored_steps(survey: HelmSurvey, paths: Mapping[str, str], index: str) -> Iterator[Step]:
    """Yield steps for what is restored and what is taken away; `paths` are those of registries.

    What is removed from an index of ours belongs to the group `index`.
    """
    items = sorted({(item, one.chart.digest) for held in survey.restored.values() for item, one in held.items()})
    numbers = {one: number // TOGETHER for number, one in enumerate(items)}
    for target, found in survey.targets.items():
        for item, choice in survey.restored.get(target, {}).items():
            chart, names = choice.chart, (choice.chart.file,)
            of_item, group = (item, str(chart.digest), target, names), f"restored {numbers[item, chart.digest]}"
            if _is_there(found, chart):
                yield Step(Action.KEEP, *of_item, "restored, and there", group=group, confirmed=True)
            elif target in paths and registry_lacks(paths[target], chart):
                yield Step(Action.KEEP, *of_item, "a registry cannot have it", group=group)
            else:
                there, where = found.held.get(item), survey.where.get(str(chart.digest), "restored")
                yield Step(
                    Action.COPY, *of_item, f"{where}: {f'it is {there} there' if there else 'not there'}", group=group
                )
        yield from _away(survey, target, found, index)


def _is_there(found: TargetContent, chart: ChartVersion) -> bool:
    """Whether a target has a version, and lists it where the index is ours."""
    listed = found.own is None or (chart.item in found.own and found.own[chart.item].digest == chart.digest)
    return listed and found.held.get(chart.item) == chart.digest


def _away(survey: HelmSurvey, target: str, found: TargetContent, index: str) -> Iterator[Step]:
    for item, digest in survey.away.get(target, {}).items():
        there, of_item = found.held.get(item), (item, str(digest), target, (f"{item}.tgz",))
        if there is None:
            continue
        if there != digest:
            why = f"it is {there} there, and not {digest} any more; only that is taken away"
            yield Step(Action.REFUSE, *of_item, why, code=GuardError.code, group=index)
        elif found.own is None:
            yield Step(Action.KEEP, *of_item, "taken away by a restore; mirrord cannot delete it there", group=index)
        else:
            yield Step(Action.DELETE, *of_item, "taken away by a restore", group=index)
