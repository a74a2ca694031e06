"""Tags of a repository: listed in pages (distribution-spec, "Listing Tags"), and taken out ("Deleting tags")."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from typing import TYPE_CHECKING

from mirrord.errors import GuardError, MissingError, RefusedError
from mirrord.model.digest import Digest
from mirrord.wire.http.message import HttpRequest
from mirrord.wire.oci.descriptor import INDEXES
from mirrord.wire.oci.endpoint import Endpoint
from mirrord.wire.oci.paging import PAGE_LIMIT, LeftOut, in_pages
from mirrord.wire.oci.reference import valid_tag

if TYPE_CHECKING:
    from mirrord.wire.oci.client import Repository

_NO_TAGS = (400, 405)  # what a registry answers that deletes by digest only: docker-registry 2.8 says DIGEST_INVALID


async def remove_tags(repository: Repository, endpoint: Endpoint, names: Collection[str]) -> None:
    """Delete tags without deleting anything else.

    Where tags cannot be deleted (docker-registry 2.8) their manifest is, and with it every tag that stands for it
    (distribution/distribution#2317): only if no other tag stands for it or for an index that refers to it. What has no
    tag at all cannot be listed, and counts as nothing.

    Raises:
        GuardError: something else would be lost; no manifest was deleted.
        RefusedError: the registry does not delete.
    """
    doomed: dict[Digest, list[str]] = {}
    for name in names:
        head = await repository.head_manifest(name)
        if head is None:
            continue
        if endpoint.profile.deletes:
            title = endpoint.profile.title
            why = f"{title} does not delete by the registry's protocol; {endpoint.profile.deletes}"
            raise RefusedError(f"{repository.reference.name}:{name}: {why}", 405)
        try:
            await endpoint.http.fetch(_delete(endpoint, name))
        except RefusedError as error:
            if error.status not in _NO_TAGS:
                raise
            doomed.setdefault(head.digest, []).append(name)
    if not doomed:
        return
    needed = await _needed(repository, frozenset(names))
    for digest, called in doomed.items():
        if digest in needed:
            why = f"this registry deletes by digest only, and {needed[digest]} needs {digest}, too"
            raise GuardError(f"{repository.reference.name}: {', '.join(called)} stays: {why}")
    for digest in doomed:
        await endpoint.http.fetch(_delete(endpoint, digest))


async def _needed(repository: Repository, names: Collection[str]) -> Mapping[Digest, str]:
    """Return the digests that other tags than `names` point to, directly or through an index, with such a tag."""
    needed: dict[Digest, str] = {}
    async for tag in repository.tags():
        if tag in names:
            continue
        head = await repository.head_manifest(tag)
        left = [head] if head else []
        while left:
            fresh = [one for one in left if one.digest not in needed]
            needed |= dict.fromkeys((one.digest for one in fresh), tag)
            left = []
            for index in (one for one in fresh if one.media_type in INDEXES):
                with contextlib.suppress(MissingError):  # its tag went meanwhile, or it lacks a platform
                    left += (await repository.get_manifest(index.digest)).children
    return needed


def _delete(endpoint: Endpoint, ref: str) -> HttpRequest:
    return endpoint.call("DELETE", f"manifests/{ref}", ok=(200, 202, 204, 404))


def list_tags(endpoint: Endpoint, left_out: LeftOut | None = None) -> AsyncIterator[str]:
    """Yield each valid tag once, in the registry's order, page by page; invalid ones are counted in `left_out`.

    Raises:
        MissingError: the registry knows no such repository.
        UntrustedError: the link to the next page is not a proper URL.
        ContentError: a page is not a tag list, or the pages form a loop.
        TooLargeError: a page, their number or that of the tags is above its limit.
    """
    first = endpoint.call("GET", "tags/list", cap=PAGE_LIMIT)
    return in_pages(endpoint.http, first, "tags", f"{endpoint.reference.name}: tag list", valid_tag, left_out=left_out)
