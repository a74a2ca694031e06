"""Tags taken out of a repository (distribution-spec, "Deleting tags" and "Deleting manifests")."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from mirrord.errors import GuardError, MissingError, RefusedError
from mirrord.model.digest import Digest
from mirrord.wire.http.message import HttpRequest
from mirrord.wire.oci.descriptor import INDEXES
from mirrord.wire.oci.endpoint import Endpoint

if TYPE_CHECKING:
    from mirrord.wire.oci.client import Repository

_NO_TAGS = (400, 405)  # what a registry answers that deletes by digest only: docker-registry 2.8 says DIGEST_INVALID


async def remove_tags(repository: Repository, endpoint: Endpoint, names: Collection[str]) -> None:
    """Take tags away, each with what else it takes away only if that is nothing.

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
    """Return the digests that tags other than `names` stand for or lead to, with such a tag."""
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
    return replace(endpoint.call("DELETE", f"manifests/{ref}"), ok=(200, 202, 204, 404))
