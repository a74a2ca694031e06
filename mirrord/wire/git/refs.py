"""Refs of a repository: what they are called, what they point to, and how two states of one relate. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache

HEADS = "refs/heads/"
TAGS = "refs/tags/"

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|$)|\.$|/$")
_OID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Relation(StrEnum):
    """How the new object of a ref relates to its old one."""

    SAME = "same"
    FORWARD = "forward"  # the old commit is an ancestor of the new one
    REWRITTEN = "rewritten"  # it is not: a force push, or a tag that moved
    UNRELATED = "unrelated"  # not even a common ancestor: another history
    UNKNOWN = "unknown"  # the old object is not here


@lru_cache(65536)
def valid_ref(name: str) -> bool:
    """Whether `name` is a full ref name by the rules of git-check-ref-format(1)."""
    return name.startswith("refs/") and len(name) <= 4096 and name.count("/") >= 2 and not _FORBIDDEN.search(name)


def valid_oid(text: str) -> bool:
    """Whether `text` is an object id in full: 40 (SHA-1) or 64 (SHA-256) lower-case hex digits."""
    return _OID.fullmatch(text) is not None


def alike(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two states have the same refs; at once when they are one object, as an idle run arranges it."""
    return one is other or one == other


@dataclass(frozen=True)
class Refs:
    """Branches and tags of a repository at one moment."""

    refs: Mapping[str, str]  # full name → object id (hex) of the ref itself: the tag object for an annotated tag
    head: str | None = None  # the branch that HEAD points to, by its full name, there or not; None when unknown
    # tag → commit, for annotated tags, where the server sent it
    peeled: Mapping[str, str] = field(default_factory=dict, compare=False)
    dangling: bool = field(default=False, compare=False)  # HEAD leads to no commit: a clone checks nothing out

    @property
    def size(self) -> int:
        """About how many bytes a list of them has."""
        return 64 * len(self.refs)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return the names in order."""
        return tuple(sorted(self.refs))

    @cached_property
    def odd(self) -> tuple[str, ...]:
        """Return the names that Git does not accept, and those of neither branches nor tags."""
        return tuple(name for name in self.refs if not (name.startswith((HEADS, TAGS)) and valid_ref(name)))

    @cached_property
    def objects(self) -> frozenset[str]:
        """Return what they point to."""
        return frozenset(self.refs.values())

    @cached_property
    def _hash(self) -> hashlib._Hash:
        lines = "".join(f"{name} {self.refs[name]}\n" for name in self.names)
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape"))

    @property
    def digest(self) -> str:
        """SHA-256 over names and ids."""
        return self._hash.hexdigest()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over names, ids and HEAD: equal for equal states."""
        whole = self._hash.copy()
        whole.update(f"HEAD {self.head or ''}\n".encode("utf-8", "surrogateescape"))
        return whole.hexdigest()


def blocking(standing: Collection[str], coming: Collection[str]) -> frozenset[str]:
    """Return the refs that must go before others can come: files where those need folders, or below their names."""
    if not standing:
        return frozenset()
    folders = {parent for ref in coming for parent in parents(ref)}
    names = frozenset(coming)
    return frozenset(ref for ref in standing if ref in folders or not names.isdisjoint(parents(ref)))


def parents(ref: str) -> Iterator[str]:
    """Yield the names under which a ref lies: `refs/heads/a`, `refs/heads` and `refs` for `refs/heads/a/b`."""
    while "/" in ref:
        ref = ref.rpartition("/")[0]
        yield ref
