"""Decides what of one repository of `local` goes, and why. Pure but for the times of last use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from mirrord.blobs.reachable import reached, unneeded
from mirrord.blobs.repositories import RepositoryState
from mirrord.blobs.uses import ContentUses
from mirrord.model.collected import Gone
from mirrord.model.digest import Digest
from mirrord.model.keep import EVERYTHING, Keep
from mirrord.model.memory import Memory
from mirrord.plan.restored import Restored
from mirrord.plan.retention import READING, Clients, Retained, by_tag, expired, retained
from mirrord.syncer.keeping import ListedNames
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.wire.oci.reference import referrers_tag, subject_tag


@dataclass(frozen=True, slots=True)
class Owner:
    """Who decides about a repository.

    Attributes:
        keep: the rules.
        mirror: whose names they are, if that is known.
        item: returns the item of a tag.
        pinned: digests that stay, and so do their tags: those that items name, that are restored, and of branches.
    """

    keep: Keep
    mirror: Mirror | None = None
    item: Callable[[str], str] = str
    pinned: frozenset[str] = frozenset()

    def beside(self, other: Owner) -> Owner:
        """Return it where another mirror has names, too: what either one pins stays, and all if they do not agree."""
        keep = self.keep if self.keep == other.keep else EVERYTHING
        return replace(self, keep=keep, pinned=self.pinned | other.pinned)


@dataclass(slots=True)
class Found:
    """What a look at one repository found."""

    tags: dict[str, Digest] = field(default_factory=dict)
    about: dict[str, Digest] = field(default_factory=dict)  # those of them that go with an image or a chart
    why: dict[str, str] = field(default_factory=dict)  # by tag or digest
    manifests: dict[Digest, str] = field(default_factory=dict)


def judge(
    state: RepositoryState, owner: Owner, uses: ContentUses, now: float, listed: ListedNames | None = None
) -> Found:
    """Decide about one repository, in which the names are tags of images, or what an index has `listed`. Blocks.

    What a client used within the time of a rule stays, also where that use is not known here yet.
    """
    found, keep = Found(), owner.keep
    if keep.unused is not None:
        keep = replace(keep, unused=keep.unused + uses.unseen)
    needed_by = Counter(ref for link in state.manifests.values() for ref in link.refs)
    since = now - READING - uses.unseen

    def reading(digest: Digest) -> bool:  # what several images share says nothing about one of them
        parts = _content(state, digest)
        return any(uses.since(one, since) for one in parts if one in state.manifests or needed_by[one] < 2)

    def used(digest: Digest) -> float:  # who knows an index asks for the image of a platform alone
        return max(map(uses.last, {digest, *reached(state.manifests, [digest])}))

    clients = Clients(used, reading)
    ranks = listed.ranks if listed else by_tag
    verdicts: Mapping[str, Retained] = retained(state.tags, state.tagged, keep, now, clients, ranks=ranks)
    going = {name: state.tags[name] for name, verdict in verdicts.items() if not verdict.stays}
    found.tags = {name: digest for name, digest in going.items() if digest not in owner.pinned}
    found.why = {name: verdicts[name].why for name in found.tags}
    left = {name: digest for name, digest in state.tags.items() if name not in found.tags}
    needed = reached(state.manifests, left.values()) | {Digest(one) for one in owner.pinned}
    lost = {one: at for one, at in state.lost.items() if one in state.manifests and one not in needed}
    lost = {one: at for one, at in lost.items() if one not in found.tags.values()}
    found.manifests = dict(expired(lost, keep, now, clients))
    gone = goes(state, owner, found)
    for name, other in (listed.beside if listed else _signatures(state)).items():
        if other in gone:
            found.tags[name], found.about[name] = state.tags[name], other
            found.why[name] = f"it is about {'a version' if listed else 'an image'} that goes"
    return found


def _signatures(state: RepositoryState) -> Mapping[str, Digest]:
    """Return the tags of signatures, each with its image."""
    subjects = {referrers_tag(one): one for one in state.manifests}
    return {name: subject for name in state.tags if (subject := subjects.get(subject_tag(name)))}


def pinned(state: RepositoryState, owner: Owner) -> set[Digest]:
    """Return the manifests of a repository that stay whatever names them."""
    return {digest for digest in state.manifests if digest in owner.pinned}


def pins(memory: Memory, restored: Restored) -> tuple[list[str], frozenset[str]]:
    """Return the items that a mirror has in `local`, and the digests that stay."""
    items = [item for target, item in memory if target == LOCAL]
    branches = {one.digest for (target, _), one in memory.names.items() if target == LOCAL and not one.stays}
    return items, frozenset({*filter(None, map(_digest, items)), *restored.digests, *branches})


def goes(state: RepositoryState, owner: Owner, found: Found) -> set[Digest]:
    """Return the manifests that go with what was found."""
    left = {name: digest for name, digest in state.tags.items() if name not in found.tags}
    return unneeded(left, state.manifests, {*found.tags.values(), *found.manifests}, pinned(state, owner))


def went(
    name: str, state: RepositoryState, found: Found, tags: Collection[str], manifests: Collection[Digest]
) -> tuple[set[Digest], list[tuple[Gone, set[Digest]]]]:
    """Return what a repository links without these, and what went of it with the content that nothing there needs."""
    left = {digest: link for digest, link in state.manifests.items() if digest not in manifests}
    content = {*left, *(ref for link in left.values() for ref in link.refs)}
    rows = [Gone(name, tag, found.tags[tag], found.why[tag]) for tag in sorted(tags)]
    rows += [Gone(name, "", one, found.manifests[one]) for one in sorted(found.manifests.keys() & manifests)]
    return content, [(row, _content(state, Digest(row.digest)) - content) for row in rows]


def _content(state: RepositoryState, digest: Digest) -> set[Digest]:
    manifests = reached(state.manifests, [digest])
    return {digest, *manifests, *(ref for one in manifests for ref in state.manifests[one].refs)}


def _digest(item: str) -> str:
    """Return the digest that an item is named by; "" for one that is named by a tag."""
    digest = item.rpartition("@")[2]
    return digest if ":" in digest and "/" not in digest else ""
