"""Repositories of a registry: the catalogue of docker-registry, in pages. The distribution-spec does not define it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from mirrord.wire.http.client import Http, base_url
from mirrord.wire.http.message import HttpRequest
from mirrord.wire.oci.paging import PAGE_LIMIT, in_pages
from mirrord.wire.oci.reference import valid_repository
from mirrord.wire.trust import api_authority

_SCOPE = "registry:catalog:*"


def list_repositories(http: Http, domain: str) -> AsyncIterator[str]:
    """Yield the path of each repository once; raises as `mirrord.wire.oci.paging.in_pages`.

    What is no repository is left out, as it cannot be requested.

    Args:
        http: how to get there.
        domain: the registry, as in `Reference`.

    Raises:
        RefusedError: the registry has no catalogue, or does not show it with these credentials.
    """
    url = f"{base_url(http.book, domain, api_authority(domain))}/v2/_catalog"
    first = HttpRequest("GET", url, domain, scope=_SCOPE, cap=PAGE_LIMIT)
    return in_pages(http, first, "repositories", f"{domain}: list of repositories", valid_repository)
