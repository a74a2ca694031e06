"""Which names at targets a mirror does not want any more, and which of them may be removed. Pure.

A name is removed only if the ledger says that this mirror wrote it and it still stands for what was written, if two
listings of the source that are a period apart agree that it is not wanted, and if its content could be brought back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from mirrord.errors import GuardError
from mirrord.model.digest import Digest
from mirrord.model.ledger import Settled
from mirrord.model.plan import Action, Plan, Step
from mirrord.plan.guards import some, too_much
from mirrord.plan.moving import written
from mirrord.plan.unwanted import PruneSurvey, Unwanted, divided, joined
from mirrord.syncer.values import Mirror
from mirrord.wire.oci.reference import referrers_tag, subject_tag

_LOST: Final = "no place is sure to keep its content, so it could not be brought back; `--irrecoverable` removes it"


def loss(survey: PruneSurvey, max_loss: float) -> str:
    """Return why the listing of the source, or the configuration, looks like an accident, one sentence, or "".

    What an earlier prune did not want any more is not lost anew.
    """
    before, listed, gone, unnamed = set[str](), set[str](), set[str](), set[str]()
    for key in survey.alive:
        repository, tag = divided(key[1], many=survey.many)
        wants = survey.wants.get(repository)
        if wants is None or key in survey.memory.names or key[1] in survey.since:
            continue
        if wants.empty:
            source = f"{repository}: " if repository else ""
            what = f"lists no {survey.words} at all, and some of it was mirrored"
            return f"{source}the source {what}: nothing is removed"
        before.add(key[1])
        if wants.listed is not None:
            listed.add(key[1])
        if wants.listed is not None and tag not in wants.listed:
            gone.add(key[1])
        elif wants.lacks(tag) and key not in survey.restored:
            unnamed.add(key[1])
    accident = partial(_accident, max_loss=max_loss, words=survey.words)
    return accident("the source no longer lists", gone, listed) or accident(
        "the configuration no longer names", unnamed, before
    )


def _accident(what: str, gone: Collection[str], before: Collection[str], *, max_loss: float, words: str) -> str:
    """Return the sentence about too many names that are gone, or ""."""
    if why := too_much(len(gone), len(before), max_loss):
        what = f"{what} {len(gone)} of {len(before)} {words} ({some(gone)}), {why}"
        return f"{what}: nothing is removed; if this is intended, set `prune: {{max_loss: 1}}` for a time"
    return ""


def looked(survey: PruneSurvey, now: datetime) -> Mapping[str, datetime]:
    """Return since when names are not wanted, with those of this listing; what is wanted again begins anew."""
    kept = {name: at for name, at in survey.since.items() if survey.unread_of(name)}
    return {**kept, **{one.name: survey.since.get(one.name, now) for one in survey.unwanted()}}


def hindrance(survey: PruneSurvey, one: Unwanted, now: datetime) -> str:
    """Return why a name stays whatever the target has, a clause, or ""."""
    if one.entry is None and not survey.wish.adopt:
        return "not written by this mirror; `--adopt` takes it over"
    if survey.published(one) and not survey.wish.adopt:
        return "the tag of a build that was published; `--adopt` prunes it, too"
    if one.entry and one.entry.outcome is not Settled.DONE:
        return "nobody knows what became of its last move; the next run of the mirror looks"
    if other := survey.claims.get(one.key):
        return f"mirror {other} has it, too"
    due = survey.since.get(one.name, now) + timedelta(seconds=survey.after)
    if one.name not in survey.since or now < due:
        return f"{one.why}; a prune after {written(due)} may remove it"
    return ""


def may_go(survey: PruneSurvey, now: datetime) -> Iterator[Unwanted]:
    """Yield the names about which the target has to be asked."""
    return (one for one in survey.unwanted() if not survey.lost and not hindrance(survey, one, now))


def of_same_content(survey: PruneSurvey, going: Sequence[Unwanted]) -> Iterator[Unwanted]:
    """Yield for each content that goes one other name that keeps it, as the ledger says: the target knows better."""
    keys = {one.key for one in going}
    content = {(one.target, one.repository, one.entry.after) for one in going if one.entry}
    for (target, name), entry in survey.alive.items():
        repository, tag = divided(name, many=survey.many)
        here = target, repository, entry.after
        if (target, name) not in keys and here in content:
            content.remove(here)
            yield Unwanted(target, name, repository, tag, entry, "")


def doomed(survey: PruneSurvey, now: datetime) -> Iterator[tuple[Unwanted, Digest]]:
    """Yield the names that still stand for what this mirror wrote, or that are adopted, with their digests."""
    for one in may_go(survey, now):
        head = survey.held.get(one.key)
        if head is not None and (one.entry is None or one.entry.after == head):
            yield one, head


def plan_prune(mirror: Mirror, survey: PruneSurvey, now: datetime) -> Plan:
    """Decide about every name that is not wanted."""
    steps = tuple(_steps(mirror, survey, now))
    missing = (*([survey.lost] if survey.lost else []), *survey.unread)
    nothing = "nothing was found in the ledger that this mirror wrote: nothing is removed"
    removes = any(step.action is Action.DELETE for step in steps)
    remarks = () if survey.alive or removes else (nothing,)
    code = GuardError.code if survey.lost else ""
    decisions = {repository: wants.mirror for repository, wants in survey.wants.items()}
    return Plan(mirror.name, mirror.kind, now, steps, missing=missing, remarks=remarks, code=code, decisions=decisions)


def _steps(mirror: Mirror, survey: PruneSurvey, now: datetime) -> Iterator[Step]:
    for (target, repository), error in survey.trouble.items():
        item = repository or mirror.name
        yield Step(Action.REFUSE, item, "", target, (), str(error), code=error.code, whole=True)
    going = list(doomed(survey, now))
    content = _Content(survey, going)
    digests = {one.key: digest for one, digest in going}
    for one in () if survey.lost else survey.unwanted():
        step = partial(_step, survey.called(one.name))
        expected = (one.entry.after if one.entry else None) or ""
        if why := hindrance(survey, one, now):
            yield step(Action.KEEP, one, expected, why)
        elif one.key in digests:
            if elsewhere := content.elsewhere(one, digests[one.key]):
                action, back = Action.DELETE, f"can be brought back from {', '.join(elsewhere)}"
            elif survey.wish.irrecoverable:
                action, back = Action.DELETE, "cannot be brought back"
            else:
                action, back = Action.KEEP, _LOST
            yield step(action, one, digests[one.key], f"{one.why}; {back}")
        elif head := survey.held.get(one.key):
            yield step(Action.KEEP, one, expected, f"somebody else moved it: it is {head} there")
        elif one.key in survey.held and (one.target, survey.called(one.name)) in survey.memory:
            yield step(Action.DELETE, one, expected, "gone there already")
    yield from _rests(survey)


def _step(item: str, action: Action, one: Unwanted, digest: str, reason: str) -> Step:
    return Step(action, item, digest, one.target, (one.tag,), reason, group=f"{one.repository}\n{one.target}")


def _rests(survey: PruneSurvey) -> Iterator[Step]:
    """Yield what a prune that was killed left: signatures of images that are gone, and items that are still counted."""
    kept = {(target, entry.after) for (target, _), entry in survey.alive.items()}
    seen = set[tuple[str, str, str]]()
    subjects = {at: {*map(subject_tag, tags)} for at, tags in survey.there.items()}
    for (target, name), entry in survey.moves.items():
        if entry.after is not None or entry.outcome is not Settled.DONE or survey.lost:
            continue
        repository, _ = divided(name, many=survey.many)
        group = f"{repository}\n{target}"
        item = survey.called(name)
        if (target, item) in survey.memory:
            yield Step(Action.DELETE, item, "", target, (), "it was removed before", group=group)
        if entry.before is None or (target, entry.before) in kept:
            continue
        about, key = referrers_tag(Digest(entry.before)), (target, repository, entry.before)
        if key not in seen and about in subjects.get((target, repository), ()):
            seen.add(key)
            why = "it is about an image that was removed"
            yield Step(Action.DELETE, joined(repository, about), entry.before, target, (), why, group=group, count=0)


class _Content:
    """Where content can be read once all doomed names are gone."""

    def __init__(self, survey: PruneSurvey, going: Sequence[tuple[Unwanted, Digest]]) -> None:
        self._survey = survey
        keys = {one.key for one, _ in going}
        self._going = {(one.repository, one.target, digest) for one, digest in going}
        self._stays = {
            (divided(name, many=survey.many)[0], target, entry.after)
            for (target, name), entry in survey.alive.items()
            if (target, name) not in keys and survey.held.get((target, name)) == entry.after
        }

    def elsewhere(self, one: Unwanted, digest: Digest) -> Sequence[str]:
        """Return the places that keep it."""
        found = self._survey.found.get((one.repository, digest), ())
        here = (one.repository, one.target, digest)
        own = [f"another tag at {one.target}"] if here in self._stays else []
        others = [place for place in found if place != one.target and self._kept(one.repository, place, digest)]
        return own + others

    def _kept(self, repository: str, place: str, digest: Digest) -> bool:
        key = (repository, place, digest)
        return key not in self._going or key in self._stays
