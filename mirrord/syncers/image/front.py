"""The `local` store as a read-only registry (distribution-spec: pull and content discovery).

Only local files are read. Every name, tag and digest is validated before it becomes part of a path;
a blob is served only in a repository that links it (CVE-2024-39897).
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from operator import itemgetter
from urllib.parse import quote, unquote, urlencode

from mirrord.blobs.repositories import ManifestRef, Repositories, RepositoryState
from mirrord.blobs.store import BlobStore, own, read_stored
from mirrord.errors import ContentError, MirrordError, StorageError
from mirrord.model.digest import Digest
from mirrord.syncer.serving import Request, Response
from mirrord.syncer.values import Services
from mirrord.wire.oci.descriptor import OCI_INDEX, index_of
from mirrord.wire.oci.manifest import LIMIT, Manifest
from mirrord.wire.oci.reference import valid_repository, valid_tag
from mirrord.wire.oci.referrers import entry_of

_NUMBER = re.compile(r"[0-9]{1,9}")
_ROUTE = re.compile(r"(?P<name>.+)/(?P<verb>manifests|blobs|tags|referrers)/(?P<reference>[^/]+)")
_VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}
prefixes = ("/v2/",)
_LONGEST = 1024  # characters of a path; a name has at most 255, a reference at most 135
_PAGE = 1000  # default names on a page
_ENTRIES: dict[tuple[Digest, str], tuple[str | None, Mapping[str, object]]] = {}  # subject, and entry about it
_REMEMBERED = 4096
_FULL = LIMIT - 64 * 1024  # bytes of entries in an index: clients reject manifests of more than 4 MiB


class _PageError(Exception):
    """The page size of the client is not a number."""


async def respond(request: Request, services: Services) -> Response:
    """Map the path after `/v2/` to content."""
    if request.method == "POST":
        return refusal(405, "UNSUPPORTED", "this registry is read-only")
    if not request.path:
        return _answer(200, {}, {})
    try:
        catalog = request.path == "_catalog"
        return await (_catalog(request.query, services) if catalog else _in_repository(request, services))
    except StorageError:
        return refusal(500, "UNKNOWN", "the store cannot be read; see the log")
    except ContentError as error:
        return refusal(400, "DIGEST_INVALID", str(error))
    except _PageError as error:
        return refusal(400, "PAGINATION_NUMBER_INVALID", str(error))


async def _in_repository(request: Request, services: Services) -> Response:
    route = _ROUTE.fullmatch(unquote(request.path)) if len(request.path) <= _LONGEST else None
    if not route or not valid_repository(route["name"]):
        return refusal(404, "NAME_INVALID", "not a valid repository name")
    name, reference, repositories, store = route["name"], route["reference"], services.repositories, services.blobs
    if repositories is None or store is None:
        answer = None
    elif route["verb"] == "manifests":
        answer = await _manifest(name, reference, repositories, store)
    elif route["verb"] == "blobs":
        answer = await _blob(name, reference, repositories, store)
    elif route["verb"] == "tags":
        answer = await _tags(name, reference, request.query, repositories)
    else:
        answer = await _referrers(name, reference, request.query, repositories, store)
    return answer or refusal(404, "NAME_UNKNOWN", f"{name} is not mirrored here")


def refusal(status: int, code: str, message: str) -> Response:
    """Return an error in the format of the distribution specification."""
    return _answer(status, {"errors": [{"code": code, "message": message, "detail": None}]}, {})


def _answer(status: int, document: object, headers: Mapping[str, str]) -> Response:
    return Response(
        status, {"Content-Type": "application/json", **_VERSION, **headers}, body=json.dumps(document).encode()
    )


async def _manifest(name: str, reference: str, repositories: Repositories, store: BlobStore) -> Response | None:
    digest = Digest.parse(reference) if ":" in reference else await repositories.tag(name, reference)
    link = await repositories.manifest(name, digest) if digest else None
    if digest is not None and link is not None:
        return await _stored(digest, link.media_type, store, "MANIFEST_UNKNOWN")
    if not await repositories.exists(name):
        return None
    valid = digest or valid_tag(reference)
    why = f"{reference} does not exist here" if valid else "not a valid tag"
    return refusal(404, "MANIFEST_UNKNOWN", why)


async def _blob(name: str, reference: str, repositories: Repositories, store: BlobStore) -> Response | None:
    digest = Digest.parse(reference)
    if await repositories.links(name, digest):
        return await _stored(digest, "application/octet-stream", store, "BLOB_UNKNOWN")
    there = await repositories.exists(name)
    return refusal(404, "BLOB_UNKNOWN", f"{digest} is not in this repository") if there else None


async def _stored(digest: Digest, media_type: str, store: BlobStore, missing: str) -> Response:
    stored = await store.find(digest)
    if stored is None:
        return refusal(404, missing, f"{digest} is missing from the store; the next run copies it again")
    headers = {"Content-Type": media_type, "Docker-Content-Digest": digest, "ETag": f'"{digest}"', **_VERSION}
    # A manifest needs its headers, and not every client follows redirects.
    return Response(200, headers, own(stored) if missing == "MANIFEST_UNKNOWN" else stored)


async def _tags(name: str, what: str, query: Mapping[str, str], repositories: Repositories) -> Response | None:
    """List tags in lexical order, `n` of them after `last` (distribution-spec, Listing Tags)."""
    state = await repositories.state(name)
    if state is None:
        return None
    if what != "list":
        return refusal(404, "UNSUPPORTED", "only tags/list is supported")
    page, link = _page(state.names, f"/v2/{name}/tags/list", query)
    return _answer(200, {"name": name, "tags": page}, link)


async def _catalog(query: Mapping[str, str], services: Services) -> Response:
    """List repositories in lexical order, as docker-registry does; the specification does not define it."""
    names = await services.repositories.names() if services.repositories else ()
    page, link = _page([*filter(valid_repository, names)], "/v2/_catalog", query)
    return _answer(200, {"repositories": page}, link)


def _page(
    names: Sequence[str], path: str, query: Mapping[str, str], sizes: Mapping[str, int] | None = None
) -> tuple[Sequence[str], Mapping[str, str]]:
    """Return `n` of the sorted names after `last`, or as many as fit by their `sizes`; the header links to the rest.

    Raises:
        _PageError: `n` is no number.
    """
    wanted = query.get("n", str(_PAGE))
    if not _NUMBER.fullmatch(wanted):
        raise _PageError("n must be a number")
    start = bisect_right(names, query["last"]) if "last" in query else 0
    page = names[start : start + int(wanted)]
    if sizes:
        ends = list(accumulate(sizes[name] for name in page))
        page = page[: max(1, bisect_right(ends, _FULL))]
    if not page or start + len(page) == len(names):
        return page, {}
    following = urlencode({**query, "n": wanted, "last": page[-1]}, quote_via=quote)
    return page, {"Link": f'<{path}?{following}>; rel="next"'}


async def _referrers(
    name: str, reference: str, query: Mapping[str, str], repositories: Repositories, store: BlobStore
) -> Response:
    """List the referrers of a manifest, optionally of one type (distribution-spec, Listing Referrers).

    A subject without referrers, or an unknown one, has an empty list: 404 would mean that the API is missing.
    """
    subject = Digest.parse(reference)
    state = await repositories.state(name) or RepositoryState()
    about = dict(
        sorted((one for one in state.manifests.items() if one[1].subject in (None, subject)), key=itemgetter(0))
    )
    lost = await store.missing(about)
    kept = [(digest, link) for digest, link in about.items() if digest not in lost]
    found = {digest: entry for digest, link in kept if (entry := await _entry(digest, link, subject, store))}
    wanted, headers = query.get("artifactType"), {"Content-Type": OCI_INDEX}
    if wanted:
        found = {digest: entry for digest, entry in found.items() if entry.get("artifactType") == wanted}
        headers["OCI-Filters-Applied"] = "artifactType"
    sizes = {str(digest): len(json.dumps(entry)) for digest, entry in found.items()}
    page, link = _page(list(sizes), f"/v2/{name}/referrers/{subject}", query, sizes)
    return Response(200, {**headers, **_VERSION, **link}, body=index_of([found[Digest(digest)] for digest in page]))


async def _entry(digest: Digest, link: ManifestRef, subject: Digest, store: BlobStore) -> Mapping[str, object] | None:
    """Return the entry of a referrer of `subject`; None if it is not one, or cannot be read."""
    key = digest, link.media_type
    if key not in _ENTRIES and (stored := await store.find(digest)) is not None:
        try:
            manifest = Manifest.parse(await read_stored(stored, LIMIT), link.media_type, digest)
        except MirrordError:
            return None
        if len(_ENTRIES) >= _REMEMBERED:
            _ENTRIES.clear()
        _ENTRIES[key] = (manifest.subject.digest if manifest.subject else None), entry_of(manifest)
    about, entry = _ENTRIES.get(key, (None, {}))
    return entry if about == subject else None
