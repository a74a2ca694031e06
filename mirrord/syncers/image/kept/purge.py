"""What goes from a store of ours when something is taken down."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from mirrord.blobs.purge import Going
from mirrord.blobs.repositories import RepositoryState
from mirrord.model.digest import Digest
from mirrord.names.denied import Denied


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
