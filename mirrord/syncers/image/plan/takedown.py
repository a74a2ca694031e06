"""Which names at targets are removed since one thing was taken down. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mirrord.errors import TakenDownError
from mirrord.model.ledger import LedgerEntry
from mirrord.model.plan import Action, Plan, Step
from mirrord.names.denied import Denied, DeniedEntry, parted
from mirrord.syncer.values import Mirror
from mirrord.syncers.image.names import is_many
from mirrord.syncers.image.plan.called import called
from mirrord.syncers.image.plan.many import key_of, without_key


@dataclass(frozen=True, slots=True)
class DeniedName:
    """A name at a target of what was taken down.

    Attributes:
        target: its name in the configuration.
        key: the repository of a mirror of many; "" for a mirror of one.
        tag: the name there; "" where the ledger says that it is gone, and its manifest may still be there.
        digest: what it stands for, or did, as far as the ledger says.
        item: what the mirror calls it.
    """

    target: str
    key: str
    tag: str
    digest: str
    item: str


@dataclass(frozen=True, slots=True)
class LeftThere:
    """What is at a target and is not removed.

    Attributes:
        target: its name in the configuration.
        what: a name there.
        why: why it is left, and what to do.
    """

    target: str
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class TakedownSurvey:
    """What a mirror has of one thing that was taken down."""

    entry: DeniedEntry
    names: Sequence[DeniedName] = ()
    left: Sequence[LeftThere] = ()


def named(text: str) -> tuple[str, str]:
    """Return the repository of `host/path:tag` or `host/path@digest`, and the tag or digest."""
    name, at, digest = text.partition("@")
    return (name, digest) if at else parted(text)


def written_names(
    mirror: Mirror, moves: Mapping[tuple[str, str], LedgerEntry], entry: DeniedEntry
) -> Iterator[DeniedName]:
    """Yield what a mirror wrote, as its ledger says, and may be at targets no more."""
    denied, name_of, targets = Denied([entry]), called(mirror), {target.name for target in mirror.targets}
    whole, many = entry.whole == mirror.name, is_many(mirror)
    for (target, name), move in moves.items():
        digest = move.after or move.before
        if digest is None or target not in targets:
            continue
        source, places = name_of(name)
        names = (named(source), named(places.get(target, "")))
        if whole or denied.manifest("", digest) or any(denied.image(*one) for one in names):
            key, tag = (key_of(name), without_key(name)) if many else ("", name)
            yield DeniedName(target, key, tag if move.after else "", digest, name)


def plan_takedown(mirror: Mirror, survey: TakedownSurvey, now: datetime) -> Plan:
    """Remove each name; what is left is refused with the reason."""
    reason = f"taken down: {survey.entry.reason}"
    steps = [
        Step(
            Action.DELETE,
            one.item,
            one.digest,
            one.target,
            (one.tag,) if one.tag else (),
            reason,
            group=f"{one.target}\n{one.key}",
            count=int(bool(one.tag)),
        )
        for one in sorted(survey.names, key=lambda one: (one.target, one.key, one.tag))
    ]
    code = TakenDownError.code
    steps += [Step(Action.REFUSE, one.what, "", one.target, (), one.why, code=code) for one in survey.left]
    return Plan(mirror.name, mirror.kind, now, tuple(steps), decisions=survey)
