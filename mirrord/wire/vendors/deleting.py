"""Deletes tags by the APIs of registries that do not, or not one alone, by the registry's protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from mirrord.errors import MirrordError
from mirrord.model.digest import Digest
from mirrord.wire.ecr import EcrRegistry, ecr_registry
from mirrord.wire.http.client import Http
from mirrord.wire.oci.reference import Reference
from mirrord.wire.vendors.known import signed_in, vendor_of
from mirrord.wire.vendors.port import Vendor, VendorApi

_BATCH: Final = 100
"""Images in one request to Amazon, which is the most that it takes."""


class TagDeleter(Protocol):
    """Deletes tags of one repository; no other tag of their images goes with them."""

    async def delete(self, names: Mapping[str, Digest]) -> Mapping[str, MirrordError | None]:
        """Delete tags that stand for these digests; return by tag why it is still there, None for one that is gone.

        `MissingError` is one that the API does not find: gone, moved (at Harbor), or not to be seen by us.
        """


async def tag_deleter(http: Http, reference: Reference) -> TagDeleter | None:
    """Return what deletes tags of a repository by an API, None where the registry's protocol has to do.

    Raises:
        MirrordError: the login failed.
    """
    policy = http.book.policy(reference.domain)
    if registry := ecr_registry(policy):
        return _AtAmazon(registry, registry.repository(reference.path))
    vendor = vendor_of(reference.domain, policy.profile)
    if vendor is None or not vendor.deletes:
        return None
    api = await signed_in(http, vendor, reference)
    return _ByApi(vendor, api, reference.path) if api.authorization else None


class _AtAmazon:
    def __init__(self, registry: EcrRegistry, repository: str) -> None:
        self._registry, self._repository = registry, repository

    async def delete(self, names: Mapping[str, Digest]) -> Mapping[str, MirrordError | None]:
        """See `TagDeleter.delete`."""
        from mirrord.wire.vendors.aws import delete_tags  # noqa: PLC0415 - only Amazon's registries need it

        ends: dict[str, MirrordError | None] = {}
        tags = list(names)
        for start in range(0, len(tags), _BATCH):
            some = tags[start : start + _BATCH]
            try:
                ends |= await delete_tags(self._registry, self._repository, some)
            except MirrordError as error:
                ends |= dict.fromkeys(some, error)
        return ends


class _ByApi:
    def __init__(self, vendor: Vendor, api: VendorApi, path: str) -> None:
        self._vendor, self._api, self._path = vendor, api, path

    async def delete(self, names: Mapping[str, Digest]) -> Mapping[str, MirrordError | None]:
        """See `TagDeleter.delete`; one after the other, since these APIs limit the rate."""
        ends: dict[str, MirrordError | None] = {}
        for tag, digest in names.items():
            try:
                await self._vendor.delete_tag(self._api, self._path, tag, digest)
            except MirrordError as error:
                ends[tag] = error
            else:
                ends[tag] = None
        return ends
