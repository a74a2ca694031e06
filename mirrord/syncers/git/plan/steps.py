"""Wanted refs x held refs → steps, each with its reason."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from mirrord.errors import GuardError
from mirrord.model.plan import Action, Plan, Step
from mirrord.plan.guards import some, unless_meant
from mirrord.syncer.values import LOCAL, Mirror, Target
from mirrord.syncers.git.names import forge_at, options_of, spec_of
from mirrord.syncers.git.plan.accident import accident
from mirrord.syncers.git.plan.lost_objects import LostObject, displaced, lost_objects
from mirrord.syncers.git.plan.survey import GitSurvey, tip
from mirrord.wire.git.lfs.objects import Pointer
from mirrord.wire.git.refs import HEADS, TAGS, Refs, alike

EVERYTHING = "refs"
"""The item that stands for all refs of a target together."""
LFS = "lfs"
"""The item that stands for the LFS objects of a target, which are not known to be all there."""
DEFAULT_BRANCH = "HEAD"
"""The item that stands for a target's default branch; its digest is the full name of the branch."""
GROUP = "push"

_UNKNOWN = "not upstream; kept this time, since nothing is known of earlier runs"


@dataclass(frozen=True, slots=True)
class _Decider:
    """What every decision of one plan is made with."""

    mirror: Mirror
    survey: GitSurvey
    refused: Mapping[str, tuple[str, str]]  # by target, why and the code of that
    lost: Mapping[tuple[str, str], LostObject]

    @property
    def after(self) -> Refs:
        """Return what is wanted."""
        return self.survey.wanted

    def found(self, target: Target) -> Refs | None:
        """Return what a target has, or None when there is no repository."""
        return self.survey.served if target.name == LOCAL else self.survey.targets.get(target.name)


def plan(mirror: Mirror, survey: GitSurvey, now: datetime) -> Plan:
    """Decide about every ref at every target; when the guard speaks, about none."""
    choice = survey.choice
    remarks = [f"the default branch is {_short(choice.refs.head)}: {choice.stand_in}"] if choice.stand_in else []
    if not survey.upstream.refs and not survey.accident:
        remarks.append("upstream has no branches or tags yet: there is nothing to mirror, and no repository is made")
    remarks += _brought_back(mirror, survey)
    steps: list[Step] = []
    if survey.accident:
        why = unless_meant(mirror.name, survey.accident)
        blocked = (_everything(target, Action.REFUSE, why, "") for target in mirror.targets)
        steps += (replace(step, code=GuardError.code) for step in blocked)
    else:
        decider = _decider(mirror, survey, mirror.targets)
        for target in mirror.targets:
            steps += _decided(decider, target)
            remarks += filter(None, [_by_hand(decider, target)])
        if any(step.reason == _UNKNOWN for step in steps):
            blind = "this one deletes nothing, and the next one compares with what it saw"
            remarks.append(f"nothing is known of earlier runs: {blind}")
            remarks += _next_deletions(steps)
    notes = (choice.problems, choice.missing, tuple(remarks))
    return Plan(mirror.name, mirror.kind, now, tuple(steps), *notes, decisions=survey)


def _next_deletions(steps: Iterable[Step]) -> Iterator[str]:
    """Say for each target what the next run deletes, if upstream still does not have it."""
    kept: dict[str, list[str]] = {}
    for step in steps:
        if step.reason == _UNKNOWN:
            kept.setdefault(step.target, []).append(step.item)
    for target, refs in kept.items():
        yield f"the next run deletes at {target}: {some(refs)}"


def decide(mirror: Mirror, survey: GitSurvey, targets: Sequence[Target]) -> Mapping[str, Sequence[Step]]:
    """Decide about targets that could be seen only after the plan was made: each is refused, or has steps to take."""
    decider = _decider(mirror, survey, targets)
    return {target.name: tuple(_decided(decider, target)) for target in targets}


def _decider(mirror: Mirror, survey: GitSurvey, targets: Sequence[Target]) -> _Decider:
    refused = {target.name: found for target in targets if (found := _refusal(mirror, survey, target))[0]}
    lost = {(loss.ref, loss.oid): loss for loss in lost_objects(mirror, survey, frozenset(refused))}
    return _Decider(mirror, survey, refused, lost)


def _decided(decider: _Decider, target: Target) -> Iterable[Step]:
    unasked = decider.survey.unasked.get(target.name)
    if target.name in decider.refused:
        why, code = decider.refused[target.name]
        return [replace(_everything(target, Action.REFUSE, why, ""), code=code)]
    if unasked:
        return [_everything(target, Action.COPY, f"the target cannot be read: {unasked}", decider.after.fingerprint)]
    return _steps(decider, target)


def _refusal(mirror: Mirror, survey: GitSurvey, target: Target) -> tuple[str, str]:
    """Say why a target must not be written, with the error code of that; ("", "") if it may."""
    if why := _unwritable(mirror, survey, target):
        return why, ""
    held = None if target.name == LOCAL or target.name in survey.unasked else survey.targets.get(target.name)
    why = _stranger(mirror, survey, target, held) if held and held.refs and not mirror.allow else ""
    return (unless_meant(mirror.name, why), GuardError.code) if why else ("", "")


def _unwritable(mirror: Mirror, survey: GitSurvey, target: Target) -> str:
    """Say why a target cannot be written, or ""."""
    if target.name == LOCAL:
        return ""
    if unasked := survey.unasked.get(target.name):
        later = target.name in survey.throttled  # the run asks once more before it writes, and is put off
        blind = target.name not in survey.known and not mirror.allow and not later
        return f"the target cannot be read, so nothing is overwritten: {unasked}" if blind else ""
    if survey.targets.get(target.name) is not None:
        return ""
    if not options_of(target).create:
        return "there is no such repository; make it there, or write `create: true` at the target"
    forge, there = forge_at(mirror, target), "there is no such repository"
    make = "make it there, or say by `host:` which kind of host it is"
    return "" if forge.creates else f"{there}, and a {forge.name} host cannot be asked to make one; {make}"


def _stranger(mirror: Mirror, survey: GitSurvey, target: Target, held: Refs) -> str:
    """Say why what a target holds should not be replaced by what is wanted, or ""."""
    if not survey.wanted.refs:
        return f"upstream has no branches or tags, and {_many(len(held.refs))} there would be deleted"
    # Any ref there may point into the history that is wanted, or that was served before.
    after, end = survey.wanted, tip(survey.wanted)
    ours = after.objects | (survey.served.objects if survey.served else frozenset())
    related = target.name in survey.known or any(
        oid in ours or survey.goes_on(oid, after.refs.get(name) or end) for name, oid in held.refs.items()
    )
    if not related:
        return f"the target has {_many(len(held.refs))} and no commit of upstream: it may be another repository"
    # Without a cache the target itself is the only witness of what upstream used to be.
    why = "" if survey.baseline is not None else accident(mirror, survey, held)
    return f"nothing is known of earlier runs, and compared with what is there, {why}" if why else ""


def _steps(decider: _Decider, target: Target) -> Iterator[Step]:
    """Yield large files, what is pushed, the default branch, what is deleted: the order in which it can be done."""
    found = decider.found(target)
    held: Mapping[str, str] = found.refs if found else {}
    created = "created"
    if found is None and target.name != LOCAL:
        created = f"created, and so is the {options_of(target).visibility} repository"
    name, after = target.name, decider.after.refs
    if pointers := decider.survey.lfs.get(name):
        yield _lfs(name, pointers, decider.after.fingerprint)
    equal = alike(held, after)
    same = len(after) if equal else 0
    witnesses = (decider.after.head, *decider.after.names[:1])  # one is enough to know that a target was written
    for ref in () if equal else decider.after.names:
        old, new = held.get(ref), after[ref]
        if old == new:
            same += 1
            continue
        reason = created if old is None else _change(decider, ref, old, new)
        yield Step(Action.COPY, ref, new, name, (ref,), reason, group=GROUP, passing=ref not in witnesses)
    head = _default_branch(decider, target) if _switches(decider, target) else ""
    if head:
        branch = decider.after.head or ""
        yield Step(Action.COPY, DEFAULT_BRANCH, branch, name, (DEFAULT_BRANCH,), head, group=GROUP, passing=True)
    gone = () if equal else sorted(held.keys() - after.keys())
    spared = decider.survey.spared(found) if gone else frozenset[str]()
    for ref in gone:
        if ref in spared:
            yield Step(Action.KEEP, ref, held[ref], name, (ref,), _UNKNOWN, group=GROUP)
            continue
        reason = _deletion(decider, ref, held[ref])
        yield Step(Action.DELETE, ref, held[ref], name, (ref,), reason, group=GROUP, passing=True)
    whole = same == len(after) and not gone and not head
    if same or whole:
        reason = f"{_many(same)} {'is' if same == 1 else 'are'} as upstream" if same else ""
        reason = reason or "upstream has no branches or tags"
        kept = _everything(target, Action.KEEP, reason, decider.after.fingerprint, confirmed=whole)
        yield replace(kept, count=same)


def _lfs(target: str, pointers: Collection[Pointer], digest: str) -> Step:
    """Bring objects; what is there already costs a question."""
    sizes = {pointer.oid: pointer.size for pointer in pointers}
    objects = "1 LFS object that is" if len(sizes) == 1 else f"{len(sizes)} LFS objects that are"
    reason = f"{objects} not {'here' if target == LOCAL else 'known to be there'}"
    return Step(Action.COPY, LFS, digest, target, (LFS,), reason, sum(sizes.values()), group=GROUP, passing=True)


def _change(decider: _Decider, ref: str, old: str, new: str) -> str:
    forward = decider.survey.goes_on(old, new)
    if forward and not ref.startswith(TAGS):
        return f"fast-forward from {old[:7]}"
    return f"{'moved' if forward else 'forced'}: {old[:7]} is overwritten{_keeping(decider, ref, old)}"


def _deletion(decider: _Decider, ref: str, old: str) -> str:
    if displaced(decider.survey, ref):
        why = "its name and that of what was brought back cannot both be"
    elif ref in decider.survey.upstream.refs:
        why = "not selected by `refs:`"
    elif decider.survey.blind:
        why = "its name and that of what is upstream cannot both be"
    else:
        served = decider.survey.served
        why = "no longer upstream" if served and ref in served.refs else "not upstream"
    return f"{why}: {old[:7]} is deleted{_keeping(decider, ref, old)}"


def _keeping(decider: _Decider, ref: str, old: str) -> str:
    """Say whether a backup is kept of what a ref gives up, and what has to be done for that."""
    loss = decider.lost.get((ref, old))
    if loss is None:
        return ""
    if not spec_of(decider.mirror).backups:
        return ", and is lost: `backups: 0s` keeps nothing" if loss.absent else ""
    return ", once it is fetched from there and kept as backup" if loss.absent else ", kept as backup"


def _default_branch(decider: _Decider, target: Target) -> str:
    """Say why the default branch of a target has to be set, or ""."""
    found, new = decider.found(target), decider.after.head
    old = found.head if found else None
    blind = found is not None and bool(found.refs) and old is None and not found.dangling  # old servers do not tell
    fits = old == new or (bool(decider.survey.choice.stand_in) and old in decider.after.refs and target.name != LOCAL)
    if new is None or blind or fits or options_of(target).default_branch == "keep":
        return ""
    return f"the default branch becomes {_short(new)}{f', it was {_short(old)}' if old else ''}"


def _switches(decider: _Decider, target: Target) -> bool:
    return target.name == LOCAL or forge_at(decider.mirror, target).switches


def _brought_back(mirror: Mirror, survey: GitSurvey) -> Iterator[str]:
    """Say which restored refs differ from upstream, and how to release them: restores are forgotten easily."""
    for ref, oid in survey.held_back.items():
        new = survey.upstream.refs.get(ref)
        theirs = f"upstream has {new[:7]}" if new else "upstream has none"
        again = f"`mirrord restore {mirror.name} {ref} --release` lets upstream decide again"
        if new != oid:
            yield f"{ref} was brought back and stays {oid[:7]}; {theirs}; {again}"


def _by_hand(decider: _Decider, target: Target) -> str:
    """Say what a person has to do where the default branch of a target is wrong and cannot be set from here, or ""."""
    found = None if target.name in decider.refused else decider.found(target)
    if found is None or _switches(decider, target) or not _default_branch(decider, target):
        return ""
    if found.head is None and not found.refs:
        return ""  # empty, and the server does not say what its HEAD is
    if found.head is None:
        now = "HEAD there leads to no branch; the default branch"
    else:
        lost = "" if found.head in {**found.refs, **decider.after.refs} else ", which does not exist"
        now = f"the default branch there is {_short(found.head)}{lost}; it"
    return f"{target.name}: {now} should be {_short(decider.after.head)}: set it there by hand"


def _short(name: str | None) -> str:
    return (name or "").removeprefix(HEADS)


def _everything(target: Target, action: Action, reason: str, digest: str, *, confirmed: bool = False) -> Step:
    group = GROUP if action is Action.COPY else ""
    return Step(
        action, EVERYTHING, digest, target.name, (EVERYTHING,), reason, group=group, confirmed=confirmed, whole=True
    )


def _many(number: int) -> str:
    return f"{number} ref{'' if number == 1 else 's'}"
