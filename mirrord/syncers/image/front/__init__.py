"""The `local` store as a read-only registry (distribution-spec: pull and content discovery).

Only local files are read. Every name, tag and digest is validated before it becomes part of a path;
a blob is served only in a repository that links it (CVE-2024-39897).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from operator import itemgetter

from mirrord.blobs.repositories import ManifestRef, Repositories, RepositoryState
from mirrord.blobs.store import BlobStore, read_stored
from mirrord.errors import MirrordError, StorageError
from mirrord.model.digest import Digest
from mirrord.syncer.serving import Request, Response, check_local
from mirrord.syncer.values import Services
from mirrord.syncers.image.front.answers import VERSION, answer, blob_in, manifest_in, page, refusal, unreadable
from mirrord.syncers.image.front.denied_blobs import DeniedBlobs
from mirrord.syncers.image.front.path import BadRequestError, RegistryPath
from mirrord.wire.oci.descriptor import OCI_INDEX, index_of
from mirrord.wire.oci.manifest import LIMIT, Manifest
from mirrord.wire.oci.reference import valid_repository, valid_tag
from mirrord.wire.oci.referrers import as_listed

prefixes = ("/v2/",)
_ENTRIES: dict[tuple[Digest, str], tuple[str | None, Mapping[str, object]]] = {}  # subject, and entry about it
_REMEMBERED = 4096


async def respond(request: Request, services: Services) -> Response:
    """Map the path after `/v2/` to content."""
    if request.method == "POST":
        return refusal(405, "UNSUPPORTED", "this registry is read-only")
    if not request.path:
        return answer(200, {}, {})
    try:
        if request.path == "_catalog":
            return await _catalog(request.query, services)
        asked = RegistryPath.parse(request.path)
        found = await in_local(asked, asked.name, request.query, services)
        return found or refusal(404, "NAME_UNKNOWN", f"{asked.name} is not mirrored here")
    except StorageError as error:
        return unreadable(error)
    except BadRequestError as error:
        return refusal(error.status, error.code, str(error))


async def in_local(asked: RegistryPath, name: str, query: Mapping[str, str], services: Services) -> Response | None:
    """Answer from the repository `name` of `local`, however the client calls it; None if that does not exist.

    Raises:
        StorageError: it cannot be read, or is known to be away.
        BadRequestError: the query is wrong.
    """
    repositories, store = services.repositories, services.blobs
    if repositories is None or store is None:
        return None
    check_local(services)
    if asked.verb == "manifests":
        return await _manifest(name, asked, services, repositories, store)
    if asked.verb == "tags":
        return await _tags(name, asked, query, repositories)
    assert asked.digest is not None
    if asked.verb == "blobs":
        if services.uses:  # before the look whether it is linked: it stays for a while then
            services.uses.note(asked.digest)
        return await _blob(name, asked.digest, services, repositories, store)
    return await _referrers(name, asked, query, repositories, store)


async def _manifest(
    name: str, asked: RegistryPath, services: Services, repositories: Repositories, store: BlobStore
) -> Response | None:
    digest = asked.digest or await repositories.tag(name, asked.ref)
    if digest and services.uses:
        services.uses.note(digest)
    link = await repositories.manifest(name, digest) if digest else None
    if digest and link and services.uses:
        services.uses.note(digest, manifest=True)
    if digest is not None and link is not None:
        return await manifest_in(digest, link.media_type, store)
    if not await repositories.exists(name):
        return None
    valid = digest or valid_tag(asked.ref)
    why = f"{asked.ref} does not exist here" if valid else "not a valid tag"
    return refusal(404, "MANIFEST_UNKNOWN", why)


async def _blob(
    name: str, digest: Digest, services: Services, repositories: Repositories, store: BlobStore
) -> Response | None:
    if await repositories.links(name, digest):
        if entry := await services.once(DeniedBlobs).denying(name, digest, services):
            text = f"{digest} is of an image that was taken down: {entry.reason}{services.objection}"
            return refusal(451, "DENIED", text)
        return await blob_in(digest, store)
    there = await repositories.exists(name)
    return refusal(404, "BLOB_UNKNOWN", f"{digest} is not in this repository") if there else None


async def _tags(
    name: str, asked: RegistryPath, query: Mapping[str, str], repositories: Repositories
) -> Response | None:
    """List tags in lexical order, `n` of them after `last` (distribution-spec, Listing Tags)."""
    state = await repositories.state(name)
    if state is None:
        return None
    if asked.ref != "list":
        return refusal(404, "UNSUPPORTED", "only tags/list is supported")
    part, link = page(state.names, f"/v2/{asked.name}/tags/list", query)
    return answer(200, {"name": asked.name, "tags": part}, link)


async def _catalog(query: Mapping[str, str], services: Services) -> Response:
    """List repositories in lexical order, as docker-registry does; the specification does not define it."""
    check_local(services)
    names = await services.repositories.names() if services.repositories else ()
    part, link = page([*filter(valid_repository, names)], "/v2/_catalog", query)
    return answer(200, {"repositories": part}, link)


async def _referrers(
    name: str, asked: RegistryPath, query: Mapping[str, str], repositories: Repositories, store: BlobStore
) -> Response:
    """List the referrers of a manifest, optionally of one type (distribution-spec, Listing Referrers).

    A subject without referrers, or an unknown one, has an empty list: 404 would mean that the API is missing.
    """
    subject = Digest(asked.ref)
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
    part, link = page(list(sizes), f"/v2/{asked.name}/referrers/{subject}", query, sizes)
    return Response(200, {**headers, **VERSION, **link}, body=index_of([found[Digest(digest)] for digest in part]))


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
        _ENTRIES[key] = (manifest.subject.digest if manifest.subject else None), as_listed(manifest).entry()
    about, entry = _ENTRIES.get(key, (None, {}))
    return entry if about == subject else None
