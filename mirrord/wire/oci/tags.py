"""Tags of a repository: listed in pages (distribution-spec, "Listing Tags"), and deleted ("Deleting tags")."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from mirrord.errors import RefusedError
from mirrord.model.digest import Digest
from mirrord.wire.oci.endpoint import Endpoint
from mirrord.wire.oci.paging import PAGE_LIMIT, LeftOut, in_pages
from mirrord.wire.oci.reference import valid_tag

if TYPE_CHECKING:
    from mirrord.wire.oci.client import Repository

_NO_TAGS: Final = (400, 405)
"""What a registry answers that deletes by digest only, or not at all: docker-registry 2.8 says DIGEST_INVALID."""
_OFF: Final = 405
_SWITCH: Final = (
    "the registry does not delete: where it is docker-registry, set REGISTRY_STORAGE_DELETE_ENABLED=true for it, else"
    " remove the tag there by hand"
)


async def delete(endpoint: Endpoint, ref: str) -> None:
    """Delete a tag, or a manifest by digest with all its tags; what is not there is no error.

    Raises:
        RefusedError: the registry says no, or (without a status) is known to refuse every DELETE.
    """
    if endpoint.profile.deletes:
        why = f"{endpoint.profile.title} does not delete by the registry's protocol; {endpoint.profile.deletes}"
        raise RefusedError(f"{endpoint.reference.name}:{ref}: {why}")
    await endpoint.http.fetch(endpoint.call("DELETE", f"manifests/{ref}", ok=(200, 202, 204, 404)))


async def delete_tag(repository: Repository, tag: str) -> bool:
    """Delete a tag and nothing else; return False where that cannot be done, as at docker-registry 2.8.

    Raises:
        RefusedError: the registry does not delete.
    """
    try:
        await repository.delete(tag)
    except RefusedError as error:
        if error.status not in _NO_TAGS:
            raise
        return False
    return True


async def delete_manifest(repository: Repository, digest: Digest) -> None:
    """Delete a manifest, and with it every tag that stands for it (distribution/distribution#2317).

    Raises:
        RefusedError: the registry does not delete.
    """
    try:
        await repository.delete(digest)
    except RefusedError as error:
        if error.status == _OFF:
            raise RefusedError(f"{error}; {_SWITCH}", error.status) from error
        raise


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
