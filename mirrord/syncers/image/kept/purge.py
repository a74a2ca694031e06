"""What goes from a store of ours when something is taken down."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain

from mirrord.blobs.purge import Going
from mirrord.blobs.repositories import RepositoryState
from mirrord.model.digest import Digest
from mirrord.names.denied import Denied
from mirrord.wire.oci.reference import referrers_tag, subject_tag


def denied_in(denied: Denied, sources: Callable[[str], Sequence[str]], whole: Collection[str] = ()) -> Going:
    """Return what says which tags and manifests of a repository go.

    Args:
        denied: what was taken down.
        sources: returns what a repository has copies of, in canonical form.
        whole: repositories of which all goes.
    """
    return lambda name, state: (
        (state.tags, state.manifests.keys()) if name in whole else _going(state, denied, sources(name))
    )


def recorded(going: Going, denied: Denied, brought: Collection[str], left: list[str]) -> Going:
    """Let go only what the ledger has: names of content that it says came to `local`.

    Of a repository of which it has nothing all stays. What is about an image stays with it.

    Args:
        going: says what goes otherwise.
        denied: what was taken down.
        brought: the content that the ledger has.
        left: gets what stays.
    """
    doomed = [digest for entry in denied.entries for digest in entry.digests]

    def only(name: str, state: RepositoryState) -> tuple[Mapping[str, Digest], Collection[Digest]]:
        tags, manifests = going(name, state)
        if not (tags or manifests):
            return tags, manifests
        known = any(digest in brought for digest in chain(doomed, state.tags.values(), state.manifests))
        stays = {tag: one for tag, one in tags.items() if one not in brought and not subject_tag(tag)}
        left.extend(f"{name}:{tag}" for tag in stays)
        held = _reached(stays.values(), state)
        if not known:
            refs = {ref for digest in manifests if digest in state.manifests for ref in state.manifests[digest].refs}
            others = refs.union(held, state.tags.values())
            left.extend(f"{name}@{digest}" for digest in manifests if digest not in others)
            return {}, ()
        about = {referrers_tag(digest) for digest in held}
        return {tag: one for tag, one in tags.items() if tag not in stays and subject_tag(tag) not in about}, manifests

    return only


def _reached(digests: Iterable[Digest], state: RepositoryState) -> set[Digest]:
    """Return manifests with those that they refer to."""
    found, due = set[Digest](), [*digests]
    while due:
        if (one := due.pop()) in state.manifests and one not in found:
            found.add(one)
            due += state.manifests[one].refs
    return found


def _going(
    state: RepositoryState, denied: Denied, sources: Sequence[str]
) -> tuple[Mapping[str, Digest], Collection[Digest]]:
    if sources and all(denied.repository(source) for source in sources):
        return state.tags, state.manifests.keys()
    tops = {digest for digest in state.manifests if denied.manifest("", digest)}
    tags = {
        tag: digest
        for tag, digest in state.tags.items()
        if digest in tops
        or denied.manifest("", tag)
        or (sources and all(denied.manifest(source, tag) for source in sources))
    }
    return tags, tops
