"""What of a repository is needed by what stays in it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from mirrord.blobs.repositories import Addition, ManifestRef, RepositoryState
from mirrord.errors import ConflictError
from mirrord.model.digest import Digest

Manifests = Mapping[Digest, ManifestRef]


def reached(manifests: Manifests, tops: Iterable[Digest]) -> set[Digest]:
    """Return those of these manifests that `tops` reach by what they refer to, inclusive."""
    found, left = set[Digest](), list(tops)
    while left:
        one = left.pop()
        if one not in found and one in manifests:
            found.add(one)
            left += manifests[one].refs
    return found


def unneeded(
    tags: Mapping[str, Digest], manifests: Manifests, tops: Collection[Digest], needed: Collection[Digest] = ()
) -> set[Digest]:
    """Return the manifests that go with `tops`: what only they reach, and what is about something that goes.

    Args:
        tags: the tags that stay.
        manifests: of the repository.
        tops: manifests that nobody needs, unless something else that stays refers to them.
        needed: further manifests that stay.
    """
    about = defaultdict[str, list[Digest]](list)
    for digest, link in manifests.items():
        if link.subject:
            about[link.subject].append(digest)
    going = _with_about(manifests, tops, about)
    stay = reached(manifests, [*tags.values(), *needed, *(manifests.keys() - going)])
    # a signature or an SBOM of what stays, though it was found as one of something that goes
    stay = _with_about(manifests, stay, about)
    return going - stay


def going(
    repository: str,
    state: RepositoryState,
    tags: Mapping[str, Digest],
    manifests: Collection[Digest],
    about: Mapping[str, Digest],
    *,
    free: Collection[Digest],
    instead: Addition,
) -> tuple[frozenset[str], frozenset[Digest]]:
    """Return which tags and manifests go, given those that nobody needs; see `Repositories.drop`.

    Raises:
        ConflictError: not all can go, and something would be published instead.
    """
    tags = {name: digest for name, digest in tags.items() if state.tags.get(name) == digest}
    replaced = {digest for name, digest in state.tags.items() if instead.tags.get(name, digest) != digest}

    def lost(names: Collection[str]) -> frozenset[Digest]:
        left = {name: digest for name, digest in {**state.tags, **instead.tags}.items() if name not in names}
        tops = {*(tags[name] for name in names), *manifests, *replaced}
        return frozenset(unneeded(left, state.manifests, tops, state.manifests.keys() - set(free)))

    names = frozenset(name for name, digest in tags.items() if digest in free or digest not in state.manifests)
    gone = lost(names)
    if stay := {name for name, digest in about.items() if digest not in gone}:
        names -= stay
        gone = lost(names)
    if instead.tags and tags.keys() - about.keys() - names:
        raise ConflictError(f"{repository}: some of what is listed no more is needed by others now")
    return names, gone


def _with_about(manifests: Manifests, tops: Iterable[Digest], about: Mapping[str, Collection[Digest]]) -> set[Digest]:
    found, left = set[Digest](), list(tops)
    while left:
        new = reached(manifests, left) - found
        found |= new
        left = [one for digest in new for one in about.get(digest, ()) if one not in found]
    return found
