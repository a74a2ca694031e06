"""Pages of files: what their URLs say of repository, ref and path, and what the repository makes of that. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from mirrord.errors import MissingError, UsageError
from mirrord.wire.git.address import Address
from mirrord.wire.git.refs import HEADS, TAGS, Refs, valid_oid

_FULL: Final = {"branch": ("refs", "heads"), "tag": ("refs", "tags")}
_SHORTEST: Final = 7  # hex digits of a commit id that hosts show


@dataclass(frozen=True, slots=True)
class Page:
    """What a URL from a browser names: a repository, and perhaps a file in it.

    Only the repository knows where a branch ends and a path begins in a URL (`feature/x/docs/a.md`). Every host writes
    one after the other, so the words can be put into another host's URL without knowing.
    """

    address: Address  # the repository, as it is cloned
    words: tuple[str, ...] = ()  # the segments of ref and path, decoded; empty for the repository itself
    kind: str = ""  # `branch`, `tag` or `commit` where the URL says so, else ""

    @property
    def ref(self) -> str:
        """The ref as far as one can tell: the first word, a full name when the URL says of which kind it is."""
        first = self.words[0] if self.words else ""
        return {"branch": HEADS, "tag": TAGS}.get(self.kind, "") + first

    @property
    def path(self) -> str:
        """Everything after the first word."""
        return "/".join(self.words[1:])

    @property
    def full(self) -> tuple[str, ...]:
        """The words, behind `refs/heads` or `refs/tags` when the URL says that the ref is a branch or a tag."""
        return (*_FULL.get(self.kind, ()), *self.words)

    @property
    def commit(self) -> bool:
        """Whether the ref is a commit: the URL says so, or it is a whole object id."""
        return self.kind == "commit" or (not self.kind and bool(self.words) and valid_oid(self.words[0]))


@dataclass(frozen=True, slots=True)
class RepositoryFile:
    """A file in a repository, by names that were looked up there."""

    ref: str  # full name of the branch or tag, or the commit itself
    commit: str  # object id of the commit, in full
    path: str  # in the repository


def resolved(file: Page, refs: Refs) -> RepositoryFile:
    """Find where the ref of a page ends and the path begins: the longest branch or tag that exists, a branch first.

    Raises:
        MissingError: the repository has no such branch or tag.
        UsageError: a commit id is shortened, and no branch or tag points to it.
    """
    if file.commit:
        first = file.words[0]
        known = (first,) if valid_oid(first) else {oid for oid in _commits(refs) if oid.startswith(first)}
        if len(known) != 1 or len(first) < _SHORTEST:
            raise UsageError(f"{file.address.host}: {first[:64]} is not a whole commit id; write all of it")
        (commit,) = known
        return RepositoryFile(commit, commit, file.path)
    spaces = {"branch": (HEADS,), "tag": (TAGS,)}.get(file.kind, (HEADS, TAGS))
    for count in range(len(file.words) - 1, 0, -1):
        for space in spaces:
            ref = space + "/".join(file.words[:count])
            if ref in refs.refs:
                return RepositoryFile(ref, refs.peeled.get(ref, refs.refs[ref]), "/".join(file.words[count:]))
    raise MissingError(f"{file.address}: no branch or tag is called {file.words[0][:200]!a}, nor begins so")


def _commits(refs: Refs) -> set[str]:
    return {refs.peeled.get(ref, oid) for ref, oid in refs.refs.items()}


def page(host: str, words: Sequence[str], rest: Sequence[str] = (), kind: str = "") -> Page:
    """Return the page of a repository; `refs/heads/…` and `refs/tags/…` in front of the rest say of which kind it is.

    Raises:
        MirrordError: a word is missing, or nothing that an address may hold.
    """
    path = "/".join(words).removesuffix(".git")
    if not all(words) or not path:
        raise UsageError(f"{host}: the URL names no repository; open the file there, and take its address")
    address = Address.parse(f"https://{host}/{quote(path)}.git")
    rest = tuple(word for word in rest if word)
    if any(word in (".", "..") for word in rest):
        raise UsageError(f"{host}: the URL has `.` or `..` in its path; write the path as it is in the repository")
    if not kind and len(rest) > 2 and rest[0] == "refs" and rest[1] in ("heads", "tags"):
        kind, rest = ("branch" if rest[1] == "heads" else "tag"), rest[2:]
    return Page(address, rest, kind)
