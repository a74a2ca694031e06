"""Which artifacts are about a manifest: signatures, attestations, SBOMs.

Registries list them (distribution-spec, "Listing Referrers"). Where one does not, clients keep the list as an index
under a tag ("Referrers Tag Schema"): the subject's digest with `-` for `:`. A client that pushes a manifest with a
subject to such a registry MUST keep that index ("Pushing Manifests with Subject"). cosign 2 keeps signatures under
tags of its own instead: the same tag with `.sig`, `.att` or `.sbom` behind it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from mirrord.errors import BusyError, ContentError, MissingError, RefusedError, ServerError, TooLargeError
from mirrord.keyedlock import KeyedLock
from mirrord.model.digest import Digest
from mirrord.wire.http.message import HttpResponse
from mirrord.wire.oci.descriptor import IMAGES, OCI_INDEX, Descriptor, index_of, read_descriptor
from mirrord.wire.oci.document import read_object, sequence
from mirrord.wire.oci.manifest import LIMIT, MOST_VALUES, Manifest
from mirrord.wire.oci.paging import ListPage, following, walk
from mirrord.wire.oci.reference import referrers_tag
from mirrord.wire.offload import offload

if TYPE_CHECKING:
    from mirrord.wire.oci.client import Repository
    from mirrord.wire.oci.endpoint import Endpoint

ATTEMPTS = 5
MOST: Final = 1000  # referrers of one manifest
_WRITING: Final = KeyedLock()
_NO_API: Final = (400, 404, 405, 406, 410, 415, 501)
"""What registries and gateways without the API answer to a request for it; the specification says 404."""


class TaggedManifests(Protocol):
    """Manifests under names."""

    async def head_manifest(self, ref: str, /) -> Descriptor | None:
        """Return the manifest of a name, or None."""

    async def get_manifest(self, digest: str, /) -> Manifest:
        """Read a manifest."""


def entries_of(body: bytes, what: str) -> Sequence[object]:
    """Return the entries of a list of referrers, as they are written.

    Raises:
        ContentError: it is no such list.
        TooLargeError: it is larger than an index may be.
    """
    if len(body) > LIMIT:
        raise TooLargeError(f"{what}: {len(body)} bytes, at most {LIMIT} are taken")
    document = read_object(body, what, MOST_VALUES)
    if "manifests" not in document:
        raise ContentError(f"{what}: no index")
    return sequence(document["manifests"], what)


def read_entries(entries: Iterable[object], what: str) -> tuple[Sequence[Descriptor], Sequence[str]]:
    """Return the descriptors in a list of referrers, each digest once, and a sentence for each entry that is none."""
    found: dict[Digest, Descriptor] = {}
    wrong: list[str] = []
    for index, entry in enumerate(entries):
        try:
            one = read_descriptor(entry, f"{what}[{index}]")
        except ContentError as error:
            wrong.append(str(error))
        else:
            found.setdefault(one.digest, one)
    return tuple(found.values()), wrong


def has_all(manifest: Manifest, other: Manifest) -> bool:
    """Whether a manifest under one of cosign's tags has every signature of the other one.

    Each is a layer whose annotations have the signature: several may share the bytes that they are about.
    """
    ours, theirs = (_signatures(one) for one in (manifest, other))
    return theirs <= ours


async def may_set(place: TaggedManifests, tag: str, manifest: Manifest) -> bool:
    """Whether one of cosign's tags may be set to `manifest` at a place: nothing is lost that only that has.

    Raises as `head_manifest` and `get_manifest` of the place.
    """
    head = await place.head_manifest(tag)
    if head is None or head.digest == manifest.digest:
        return True
    try:
        return has_all(manifest, await place.get_manifest(head.digest))
    except ContentError:
        return False


def _signatures(manifest: Manifest) -> frozenset[str]:
    what = f"{manifest.digest}"
    layers = sequence(read_object(manifest.body, what, MOST_VALUES).get("layers"), what)
    return frozenset(json.dumps(layer, sort_keys=True) for layer in layers)


async def list_referrers(endpoint: Endpoint, subject: Digest) -> Sequence[object] | None:
    """Return the entries of what a registry lists about `subject`; None where it has no such API.

    Anything but an OCI index is no such list: proxies answer with a web page, or with an index of another type.

    Raises:
        ContentError: a page is no such list, or the pages form a loop.
        TooLargeError: there are more than `MOST`.
        DeniedError: it denies this, which says nothing of other repositories.
        TransportError: the registry cannot be reached, fails or asks for patience.
    """
    what = f"{endpoint.reference.name}: referrers of {subject}"
    first = endpoint.call("GET", f"referrers/{subject}", headers={"Accept": OCI_INDEX}, cap=LIMIT)
    try:
        answer = await endpoint.http.fetch(first)
    except (RefusedError, ServerError) as error:
        if error.status in _NO_API:
            return None
        raise
    if not _is_index(answer):
        return None
    begun: list[HttpResponse] = [answer]

    async def read(url: str) -> ListPage[object]:
        page = begun.pop() if begun else await endpoint.http.fetch(replace(first, url=url))
        if not _is_index(page):
            raise ContentError(f"{what}: a page of it is not an index")
        entries = await offload(len(page.body), entries_of, page.body, what)
        return ListPage(entries, entries, following(first, page, what))

    found: list[object] = []
    async for entries in walk(read, first.url, what):
        found.extend(entries)
        if len(found) > MOST:
            raise TooLargeError(f"{what}: more than {MOST}, which is the most; delete some there")
    return found


def _is_index(answer: HttpResponse) -> bool:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower() == OCI_INDEX


def as_listed(manifest: Manifest) -> Descriptor:
    """Return a manifest's entry in a list of referrers; its type is its own artifactType, else that of its config."""
    config = manifest.blobs[0].media_type if manifest.media_type in IMAGES else None
    kind = manifest.artifact_type or config
    return replace(manifest.descriptor, artifact_type=kind, annotations=manifest.annotations)


async def tagged_list(repository: Repository, subject: Digest) -> Manifest | None:
    """Return the list under the tag of what is about `subject`; None where there is none.

    Raises:
        ContentError: the tag points to something else than an index.
        MirrordError: as `Repository.get_manifest`.
    """
    tag = referrers_tag(subject)
    try:
        listed = await repository.get_manifest(tag)
    except MissingError:
        return None
    if listed.digest == subject:  # GitLab reads the tag as that digest (oras-project/oras-go#1396)
        return None
    if listed.media_type != OCI_INDEX:
        raise ContentError(f"{repository.reference.name}:{tag} is not a list of referrers; delete that tag there")
    return listed


async def add_referrers(repository: Repository, subject: Digest, manifests: Sequence[Manifest]) -> bool:
    """Add `manifests` to the list under the tag of what they are about; return whether it lacked one of them.

    Registries have no compare-and-swap: what another client wrote at the same moment may be lost
    (google/go-containerregistry#2205). So the tag is read again after each write, until our entries stay, and within
    this process one writes at a time. Another client that has read the list before may still write it later: see
    `Repository.relist`.

    Raises:
        ContentError: the tag points to something else than an index.
        TooLargeError: the index would be larger than registries and clients take.
        BusyError: others overwrote our entries each time.
        MirrordError: as `Repository.get_manifest` and `put_manifest`.
    """
    tag = referrers_tag(subject)
    async with _WRITING.hold((repository.host, repository.repository, tag)):
        return await _add(repository, manifests, tag, subject)


async def _add(repository: Repository, manifests: Sequence[Manifest], tag: str, subject: Digest) -> bool:
    for attempt in range(ATTEMPTS):
        entries: list[object] = []
        there: Collection[Digest] = ()
        if listed := await tagged_list(repository, subject):
            there = {child.digest for child in listed.children}
            entries = [*await offload(len(listed.body), entries_of, listed.body, tag)]
        lacking = [as_listed(one).entry() for one in manifests if one.digest not in there]
        if not lacking:
            return attempt > 0
        body = index_of([*entries, *lacking])
        if len(body) > LIMIT:
            why = f"the list of what refers to it would have {len(body)} bytes, and {LIMIT} are the most"
            raise TooLargeError(f"{repository.reference.name}:{tag}: {why}; delete referrers there")
        await repository.put_manifest(await offload(len(body), Manifest.parse, body, OCI_INDEX), tag)
    raise BusyError(f"{repository.reference.name}:{tag}: others changed this list of referrers during every attempt")
