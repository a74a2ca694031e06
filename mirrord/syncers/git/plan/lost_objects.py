"""What a plan would lose: which objects, where, and how that is reported. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from mirrord.syncer.values import LOCAL, Mirror
from mirrord.syncers.git.plan.survey import GitSurvey
from mirrord.wire.git.refs import TAGS, Refs, alike


@dataclass(frozen=True, slots=True)
class LostObject:
    """An object that a ref points to now, and that nothing which is wanted goes on from."""

    ref: str  # full name of the ref
    oid: str  # the object
    verb: str  # what happens to the ref, `overwritten` or `deleted`
    here: str  # the same in a few words, where it happens to what is served; "" when it does at targets alone
    at: tuple[str, ...]  # the targets where it happens, by name; `local` is not among them
    absent: bool  # the object is not here: who wants to keep it has to fetch it from one of `at` before

    def outcome(self, done: Collection[str] | None = None) -> str:
        """Say what became of the ref; of targets what is known: nothing yet (None), or where it was `done`."""
        if self.here:
            return self.here
        if not done:
            failed = "" if done is None else ", which failed"
            return f"was to be {self.verb} at {', '.join(self.at)}{failed}"
        left = [name for name in self.at if name not in done]
        there = ", ".join(name for name in self.at if name in done)
        return f"{self.verb} at {there}{'; not at ' if left else ''}{', '.join(left)}"


def lost_objects(mirror: Mirror, survey: GitSurvey, refused: frozenset[str] = frozenset()) -> tuple[LostObject, ...]:
    """Return what is overwritten by force or deleted in the served refs, and at targets that are not `refused`.

    A tag is lost whenever it moves: its own object is in no later history. One ref may lose several objects, another
    one at each target.
    """
    after, served = survey.wanted, survey.served or Refs({})
    names = [target.name for target in mirror.targets if target.name not in refused and target.name != LOCAL]
    held = {name: refs for name in names if (refs := survey.targets.get(name))}
    found: dict[tuple[str, str], list[str]] = {lost: [] for lost in _given_up(survey, served, after)}
    for name, refs in held.items():
        for lost in _given_up(survey, refs, after):
            found.setdefault(lost, []).append(name)
    made = []
    for (ref, oid), at in found.items():
        verb = "overwritten" if ref in after.refs else "deleted"
        here = _reason(survey, ref, verb) if served.refs.get(ref) == oid else ""
        made.append(LostObject(ref, oid, verb, here, tuple(at), oid in survey.lacking))
    return tuple(made)


def _given_up(survey: GitSurvey, before: Refs, after: Refs) -> Iterator[tuple[str, str]]:
    if alike(before.refs, after.refs):
        return
    spared = survey.spared(before)
    for ref, old in before.refs.items():
        new = after.refs.get(ref)
        if new == old or ref in spared:
            continue
        if old in survey.lacking or new is None or ref.startswith(TAGS) or not survey.goes_on(old, new):
            yield ref, old


def _reason(survey: GitSurvey, ref: str, verb: str) -> str:
    if ref in survey.held_back or displaced(survey, ref):
        return f"{verb} by what was brought back"
    if verb == "deleted" and ref in survey.upstream.refs:
        return "no longer selected by `refs:`"
    return f"{verb} by upstream" if verb == "deleted" or ref.startswith(TAGS) else f"{verb} by upstream, by force"


def displaced(survey: GitSurvey, ref: str) -> bool:
    """Whether a ref makes room for one that was brought back: `dev/x` and `dev` cannot both be."""
    return any(ref.startswith(f"{name}/") or name.startswith(f"{ref}/") for name in survey.held_back)
