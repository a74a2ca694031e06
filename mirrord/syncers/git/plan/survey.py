"""What was found at upstream, here and at the targets; which refs are wanted; what has to be asked about ancestry."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import translate

from mirrord.errors import MirrordError
from mirrord.syncers.git.spec import ALL_REFS
from mirrord.wire.git.lfs.objects import Pointer
from mirrord.wire.git.refs import HEADS, TAGS, Refs, Relation, alike, blocking, valid_ref

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_USUAL = (f"{HEADS}main", f"{HEADS}master")  # names of default branches
_GOES_ON = frozenset({Relation.SAME, Relation.FORWARD})


@dataclass(frozen=True, slots=True)
class RefChoice:
    """Which refs are mirrored, and what is wrong with those that cannot be."""

    # what is mirrored: what `refs:` selects, restored refs laid over it; HEAD is upstream's, or another branch where
    # that one is not among them
    refs: Refs
    whole: Refs  # all that upstream has, restored refs laid over it, whatever `refs:` selects
    problems: tuple[str, ...] = ()  # refs that upstream has and Git does not accept, one sentence each
    missing: tuple[str, ...] = ()  # what the operator asked for and cannot be, one sentence each
    stand_in: str = ""  # why another branch stands in for upstream's default one, a clause, or ""


@dataclass(frozen=True, slots=True)
class GitSurvey:
    """What was found."""

    upstream: Refs  # what the source says it has, all of it
    choice: RefChoice  # what of that is mirrored
    # what is served here since the last accepted run, restored refs laid over; None: there is no cache
    served: Refs | None = None
    # target name → what it holds; None: there is no such repository. `local` need not be among them
    targets: Mapping[str, Refs | None] = field(default_factory=dict)
    # restored refs, which override upstream's until they are released
    held_back: Mapping[str, str] = field(default_factory=dict)
    unasked: Mapping[str, str] = field(default_factory=dict)  # target name → why it could not be asked
    throttled: Collection[str] = frozenset()  # targets among them that said when they may be asked again
    # what became of an object: (old, new) → relation; `questions` says which are needed
    relations: Mapping[tuple[str, str], Relation] = field(default_factory=dict)
    # objects of targets that are not here with all that belongs to them; `strangers` says which may be
    lacking: frozenset[str] = frozenset()
    blind: bool = False  # nothing is known of earlier runs, so this one deletes nothing
    # targets that the record knows as written by this mirror, where they are now. Any other one is only written when it
    # has something in common with upstream
    known: frozenset[str] = frozenset()
    accident: str = ""  # why upstream looks like an accident, so that nothing may change, or "" (`guard`)
    # target name → LFS objects that are not known to be there (under `local`: that are not here)
    lfs: Mapping[str, frozenset[Pointer]] = field(default_factory=dict)
    unsearched: MirrordError | None = None  # why the history could not be searched for LFS objects, or None
    at: datetime = _NEVER  # when the pass began
    read: int = 0  # bytes that had to be fetched from upstream

    @property
    def baseline(self) -> Refs | None:
        """What upstream is compared with by the guard, or None when earlier runs left nothing."""
        return self.served if self.served and self.served.refs else None

    @property
    def wanted(self) -> Refs:
        """The refs to serve and to push."""
        return self.choice.refs

    @property
    def kept(self) -> Refs:
        """The refs to serve here: the wanted ones, and those that a run without records of earlier runs keeps."""
        spared = self.spared(self.served)
        if not self.served or not spared:
            return self.wanted
        return replace(self.wanted, refs={**self.wanted.refs, **{ref: self.served.refs[ref] for ref in spared}})

    def spared(self, held: Refs | None) -> frozenset[str]:
        """Return which of the refs that a target has stay, though not wanted: none in the way of wanted ones."""
        if not self.blind or held is None:
            return frozenset()
        gone = frozenset(held.refs.keys() - self.wanted.refs.keys())
        return gone - blocking(gone, self.wanted.refs)

    def relation(self, old: str, new: str) -> Relation:
        """Return what `new` is to `old`; what was not asked is not known."""
        return Relation.SAME if old == new else self.relations.get((old, new), Relation.UNKNOWN)

    def goes_on(self, old: str, new: str | None) -> bool:
        """Whether everything that `old` has is in `new` too."""
        return new is not None and self.relation(old, new) in _GOES_ON


def tip(refs: Refs) -> str | None:
    """Return what the default branch points to, or None when there is none."""
    return refs.refs.get(refs.head) if refs.head else None


def choose(patterns: tuple[str, ...], upstream: Refs, restored: Mapping[str, str]) -> RefChoice:
    """Select upstream's refs by `patterns` (`refs:`), and lay the restored ones over them.

    A ref that Git would not accept is left out and named: one bad name must not stop all others.
    """
    choice = _selected(patterns, upstream, restored)
    everything = choice if patterns == ALL_REFS else _selected(ALL_REFS, upstream, restored)
    return replace(choice, whole=replace(everything.refs, head=None) if everything.stand_in else everything.refs)


def _selected(patterns: tuple[str, ...], upstream: Refs, restored: Mapping[str, str]) -> RefChoice:
    selects = _selector(patterns)
    chosen = upstream.refs
    if patterns != ALL_REFS or upstream.odd:
        chosen = {name: oid for name, oid in chosen.items() if selects(name) and valid_ref(name)}
    left_out = "upstream has a ref that Git does not accept, left out:"
    problems = [f"{left_out} {name[:80]!r}" for name in upstream.odd if selects(name)]
    missing = list[str]()
    if upstream.refs and not chosen:
        missing.append(f"`refs:` selects none of upstream's {len(upstream.refs)} branches and tags")
    if restored:
        chosen, displaced = _overlaid(chosen, restored)
        missing += displaced
    head, stand_in = _head(upstream, chosen)
    refs = upstream  # the same object where all is chosen: what it has worked out it has for the next run, too
    if head != upstream.head or not alike(chosen, upstream.refs):
        refs = replace(upstream, refs=upstream.refs if alike(chosen, upstream.refs) else chosen, head=head)
    return RefChoice(refs, refs, tuple(problems), tuple(missing), stand_in)


def _overlaid(chosen: Mapping[str, str], restored: Mapping[str, str]) -> tuple[Mapping[str, str], list[str]]:
    """Return the chosen refs, overridden by restored ones, and a report of those that make room."""
    refs, displaced = dict(chosen), list[str]()
    for name, oid in restored.items():
        for other in [one for one in refs if one.startswith(f"{name}/") or name.startswith(f"{one}/")]:
            del refs[other]
            displaced.append(f"{other} cannot stand beside {name}, which was restored; release that one first")
        refs[name] = oid
    return refs, displaced


def _head(upstream: Refs, chosen: Mapping[str, str]) -> tuple[str | None, str]:
    """Return the default branch of what is chosen, and why it is not upstream's; without one a clone is empty."""
    if upstream.head in chosen:
        return upstream.head, ""
    branches = [name for name in chosen if name.startswith(HEADS)]
    stands_in = next((name for name in _USUAL if name in chosen), min(branches, default=None))
    if upstream.head is None:
        why = "upstream's HEAD leads to none" if upstream.dangling else "upstream does not say which its own is"
    else:
        there = upstream.head in upstream.refs
        why = f"upstream's own, {upstream.head.removeprefix(HEADS)}, {'is not mirrored' if there else 'does not exist'}"
    return stands_in, why if stands_in else ""


def questions(survey: GitSurvey) -> tuple[tuple[str, str], ...]:
    """Return the pairs (old, new) whose relation the decisions need; `survey` has no relations yet.

    For a changed ref: its old and its new object, and what upstream has, for the guard. For a ref that goes:
    whether the default branch has it.
    """
    asked: dict[tuple[str, str], None] = {}
    chosen, whole = survey.choice.refs, survey.choice.whole
    for after in (chosen,) if whole is chosen else (chosen, whole):
        end = tip(after)
        for before in (survey.served, *survey.targets.values()):
            if before is None or (before.refs, before.head) == (after.refs, after.head):
                continue
            for name, old in before.refs.items():
                new = after.refs.get(name) or end
                if new is not None and new != old:
                    asked[old, new] = None
            old_tip = tip(before)
            if old_tip and end and old_tip not in (end, after.refs.get(before.head or "")):
                asked[old_tip, end] = None
    return tuple(asked)


def strangers(survey: GitSurvey) -> frozenset[str]:
    """Return the objects of targets that are neither wanted nor served here: nothing, on a day like any other."""
    after = survey.wanted
    known = after.objects | survey.served.objects if survey.served else after.objects
    held = (refs for refs in survey.targets.values() if refs is not None and not alike(refs.refs, after.refs))
    return frozenset().union(*(refs.objects - known for refs in held))


def _selector(patterns: tuple[str, ...]) -> Callable[[str], object]:
    """Return a function that says whether a ref is selected; compiled once, for thousands of refs."""
    if patterns == ALL_REFS:
        return lambda name: name.startswith((HEADS, TAGS))
    taken = re.compile("|".join(translate(one) for one in patterns if not one.startswith("^")))
    left = re.compile("|".join(translate(one[1:]) for one in patterns if one.startswith("^")) or r"(?!)")
    return lambda name: taken.match(name) and not left.match(name)
