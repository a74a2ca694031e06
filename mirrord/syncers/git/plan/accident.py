"""Tells an accident at upstream from normal work: what would wipe a mirror is blocked until the operator allows it.

`git fetch --prune` of an emptied repository succeeds and deletes every branch; the push after it deletes them at every
destination. Seven requests to one forge since 2020 ask for this guard (go-gitea/gitea#14076); grokmirror refuses a
manifest that shrank by 5 %. A repository that vanished is no case for the guard: the survey fails, nothing changes.
"""

from __future__ import annotations

from mirrord.plan.guards import too_much
from mirrord.syncer.values import Mirror
from mirrord.syncers.git.names import spec_of
from mirrord.syncers.git.plan.survey import GitSurvey, tip
from mirrord.wire.git.refs import HEADS, Refs, Relation

_NAMED = 3


def guard(mirror: Mirror, survey: GitSurvey) -> str:
    """Say why nothing may change because upstream looks like an accident, or "".

    It is "" too when there is nothing to compare with, and with `--allow`.
    """
    return "" if mirror.allow else accident(mirror, survey, survey.baseline)


def accident(mirror: Mirror, survey: GitSurvey, before: Refs | None) -> str:
    """Say why going from `before` to what upstream has looks like an accident, or "".

    - Everything is gone.
    - None of several branches continues: another repository has taken the name.
    - The default branch begins another history, or is gone and the new one does not contain it; with `rewrites: block`
      also when it was rewritten.
    - More is lost or rewritten than `max_loss` allows. A branch counts as lost when the new default branch does not
      have its commits (a merged branch that is tidied away is no loss), a tag always. One ref is let pass in
      repositories of any size: of two branches one is half. With `max_loss: 0` none is.

    What `refs:` takes out and what was restored by hand is the operator's own doing, and does not count: compared is
    all that upstream has. Only what takes out everything is a mistake.
    """
    after, wanted = survey.choice.whole, survey.wanted
    if before is None or not before.refs:
        return ""
    if survey.upstream.refs and not wanted.refs:
        return f"`refs:` selects none of upstream's {len(survey.upstream.refs)} branches and tags any more"
    if (before.refs, before.head) == (after.refs, after.head):
        return ""
    if not after.refs:
        return f"upstream is empty; it had {_count(len(before.refs), 'branch or tag', 'branches and tags')}"
    return (
        _replaced(survey, before, after)
        or _default_branch(survey, before, after, follow=spec_of(mirror).rewrites == "follow")
        or _lost_too_much(survey, before, after, wanted, spec_of(mirror).max_loss)
    )


def _replaced(survey: GitSurvey, before: Refs, after: Refs) -> str:
    branches = [name for name in before.refs if name.startswith(HEADS)]
    if len(branches) < 2:
        return ""
    for name in branches:
        gone_on = survey.goes_on(before.refs[name], after.refs.get(name) or tip(after))
        if gone_on or name in survey.held_back or (name not in after.refs and name in survey.upstream.refs):
            return ""
    return f"upstream was replaced: none of its {len(branches)} branches goes on from what it was"


def _default_branch(survey: GitSurvey, before: Refs, after: Refs, *, follow: bool) -> str:
    old, name = tip(before), before.head
    if old is None or name is None or name in survey.held_back:
        return ""
    new, end = after.refs.get(name), tip(after)
    if survey.goes_on(old, new) or survey.goes_on(old, end):
        return ""
    if new is not None and survey.relation(old, new) is Relation.UNRELATED:
        return (
            f"upstream's default branch {_short(name)} was replaced: {new[:7]} has no history in common with {old[:7]}"
        )
    if new is not None and follow and survey.relation(old, new) is Relation.REWRITTEN:
        return ""
    if new is not None:
        return f"upstream's default branch {_short(name)} was rewritten: {new[:7]} does not contain {old[:7]}"
    successor = f"{_short(after.head)} does not contain it" if after.head else "there is no other"
    return f"upstream's default branch {_short(name)} is gone, and {successor}"


def _lost_too_much(survey: GitSurvey, before: Refs, after: Refs, wanted: Refs, max_loss: float) -> str:
    gone = [
        name
        for name, old in before.refs.items()
        if name not in after.refs
        and name not in survey.upstream.refs
        and not (name.startswith(HEADS) and survey.goes_on(old, tip(after)))
    ]
    rewritten = [
        name
        for name, old in before.refs.items()
        if (new := wanted.refs.get(name)) is not None and not survey.goes_on(old, new) and name not in survey.held_back
    ]
    verdict = too_much(len(gone) + len(rewritten), len(before.refs), max_loss)
    if not verdict:
        return ""
    did = [f"lost {len(gone)}"] if gone else []
    did += [f"rewrote {len(rewritten)}"] if rewritten else []
    of = f"of {_count(len(before.refs), 'branch or tag', 'branches and tags')}"
    names = [*gone, *rewritten]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"upstream {' and '.join(did)} {of} ({', '.join(map(_short, names[:_NAMED]))}{more}), {verdict}"


def _short(name: str) -> str:
    return name.removeprefix(HEADS).removeprefix("refs/")


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
