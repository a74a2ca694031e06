"""What of a repository is needed by what stays in it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from mirrord.blobs.repositories import ManifestRef
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


def _with_about(manifests: Manifests, tops: Iterable[Digest], about: Mapping[str, Collection[Digest]]) -> set[Digest]:
    found, left = set[Digest](), list(tops)
    while left:
        new = reached(manifests, left) - found
        found |= new
        left = [one for digest in new for one in about.get(digest, ()) if one not in found]
    return found
