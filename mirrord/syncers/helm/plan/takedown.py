"""Versions of charts that were taken down: left out of runs, and removed at targets. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from mirrord.errors import TakenDownError
from mirrord.model.digest import Digest
from mirrord.model.ledger import LedgerEntry
from mirrord.model.plan import Action, Plan, Step
from mirrord.names.denied import Denied, DeniedEntry
from mirrord.plan.guards import some
from mirrord.plan.restored import Restored
from mirrord.syncer.values import Mirror
from mirrord.syncers.helm.names import registry_paths
from mirrord.syncers.helm.plan.choice import VersionChoice
from mirrord.syncers.helm.plan.restored import called, version_of
from mirrord.syncers.helm.plan.survey import HelmSurvey


@dataclass(frozen=True, slots=True)
class WrittenVersion:
    """A version at a target of what was taken down, as the ledger says or an index of ours lists it.

    Attributes:
        target: its name in the configuration.
        reference: its name in the ledger.
        digest: of its archive.
        gone: whether the ledger says so; what else is gone is to be written down.
    """

    target: str
    reference: str
    digest: str
    gone: bool = False

    @property
    def item(self) -> str:
        """What plans and reports call it."""
        return called(self.reference)


@dataclass(frozen=True, slots=True)
class LeftVersion:
    """What is at a target and is not removed: what it is, why, and what to do."""

    target: str
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class TakenDownVersions:
    """What targets have of one thing that was taken down.

    Attributes:
        entry: what it is.
        versions: what a mirror has of it at its targets, or had.
        left: what is not removed.
        manifests: (target, name in the ledger) → the manifest of a version in a registry.
    """

    entry: DeniedEntry
    versions: Sequence[WrittenVersion] = ()
    left: Sequence[LeftVersion] = ()
    manifests: Mapping[tuple[str, str], Digest] = field(default_factory=dict)


def written_versions(
    mirror: Mirror, moves: Mapping[tuple[str, str], LedgerEntry], entry: DeniedEntry
) -> Iterator[WrittenVersion]:
    """Yield what a mirror wrote of what was taken down, as its ledger says, and may be at targets no more."""
    denied, targets = Denied([entry]), {target.name for target in mirror.targets}
    for (target, name), move in moves.items():
        digest = move.after or move.before
        if digest and target in targets and denied.item(mirror.name, called(name), digest):
            yield WrittenVersion(target, name, digest, gone=move.after is None)


def plan_takedown(mirror: Mirror, survey: TakenDownVersions, now: datetime) -> Plan:
    """Remove each version; what is left is refused with the reason."""
    reason, registries = f"taken down: {survey.entry.reason}", registry_paths(mirror)
    steps = [
        Step(
            Action.DELETE,
            one.item,
            one.digest,
            one.target,
            () if one.gone else (version_of(one.reference).file,),
            reason,
            group=f"{one.target}\n{one.reference.partition(':')[0] if one.target in registries else ''}",
            count=int(not one.gone),
        )
        for one in sorted(survey.versions, key=lambda one: (one.target, one.reference))
    ]
    code = TakenDownError.code
    steps += [Step(Action.REFUSE, one.what, "", one.target, (), one.why, code=code) for one in survey.left]
    return Plan(mirror.name, mirror.kind, now, tuple(steps), decisions=survey)


def wanted_still(
    mirror: Mirror, choices: Mapping[str, VersionChoice], denied: Denied | None
) -> tuple[Mapping[str, VersionChoice], Sequence[str]]:
    """Leave out what was taken down, by its name or by the digest that upstream lists; also say so."""
    if not denied:
        return choices, ()
    digests = {item: choice.chart.digest or "" for item, choice in choices.items()}
    gone = {item: entry for item, one in digests.items() if (entry := denied.item(mirror.name, item, one))}
    items: dict[str, list[str]] = {}
    for item, entry in gone.items():
        items.setdefault(entry.reason, []).append(item)
    said = [f"{some(those)}: taken down, so not mirrored: {reason}" for reason, those in items.items()]
    return {item: choice for item, choice in choices.items() if item not in gone}, said


def with_denied(mirror: Mirror, survey: HelmSurvey, denied: Denied | None, said: Sequence[str]) -> HelmSurvey:
    """Note what targets hold of what was taken down, and say what is left out since it was."""
    if not denied:
        return survey
    found = {
        target: {
            item: entry.reason
            for item, digest in content.held.items()
            if (entry := denied.item(mirror.name, item, digest))
        }
        for target, content in survey.targets.items()
    }
    held = {target: items for target, items in found.items() if items}
    return replace(survey, denied=held, left_out=bool(said), remarks=(*survey.remarks, *said))


def without_denied(mirror: Mirror, restored: Restored, denied: Denied | None) -> Restored:
    """Restore nothing that was taken down; it stays so once that is lifted."""
    if not denied:
        return restored
    return restored.changed(lambda name, one: "" if denied.item(mirror.name, called(name), one) else one)


def still_held(why: str) -> tuple[Action, str]:
    """Decide about a version that was taken down, and is at a target all the same."""
    return Action.KEEP, f"taken down: {why}; no run deletes it there, `mirrord takedown` does or says how"
