"""How commits descend from one another: thousands of questions answered by one walk over the history. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import reduce
from operator import or_

from mirrord.wire.git.refs import Relation

Pair = tuple[str, str]
"""An old commit and a new one."""


def relate(listing: bytes, pairs: Iterable[Pair]) -> Mapping[Pair, Relation]:
    """Tell for each pair how the new commit follows from the old one.

    Every commit is given a set of marks as one number: a bit for each old commit that it contains, and a bit for each
    first commit (one without parents) that it goes back to. Two commits have history in common if, and only if, they
    have a first commit in common.

    Args:
        listing: what `git rev-list --topo-order --reverse --parents` says of all of them: parents come first.
        pairs: what is asked; all are in the listing.
    """
    asked = [(old.encode(), new.encode()) for old, new in pairs]
    bits = {old: 1 << place for place, old in enumerate(dict.fromkeys(old for old, _ in asked))}
    marks = _marks(listing, bits, {commit for pair in asked for commit in pair})

    def relation(old: bytes, new: bytes) -> Relation:
        if marks[new] & bits[old]:
            return Relation.FORWARD
        return Relation.REWRITTEN if (marks[new] & marks[old]) >> len(bits) else Relation.UNRELATED

    return {(old.decode(), new.decode()): relation(old, new) for old, new in asked}


def _marks(listing: bytes, bits: Mapping[bytes, int], wanted: Iterable[bytes]) -> Mapping[bytes, int]:
    """Return the marks of `wanted`; those of other commits are forgotten when their last child has them."""
    commits = [line.split(b" ") for line in listing.split(b"\n") if line]
    children = Counter(parent for _, *parents in commits for parent in parents) + Counter(wanted)
    marks: dict[bytes, int] = {}
    root = 1 << len(bits)
    for commit, *parents in commits:
        if parents:
            found = reduce(or_, (marks[parent] for parent in parents))
        else:
            found, root = root, root << 1
        own = bits.get(commit, 0)
        marks[commit] = found | own if own else found
        for parent in parents:
            children[parent] -= 1
            if not children[parent]:
                del marks[parent]
    return marks
