"""Tags of a repository: listed in pages (distribution-spec, "Listing Tags"), and taken out ("Deleting tags")."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Collection, Mapping
from typing import TYPE_CHECKING

from mirrord.errors import ContentError, GuardError, MissingError, RefusedError, TooLargeError
from mirrord.model.digest import Digest
from mirrord.wire.http.message import HttpRequest
from mirrord.wire.oci.descriptor import INDEXES
from mirrord.wire.oci.document import read_object, sequence
from mirrord.wire.oci.endpoint import Endpoint
from mirrord.wire.oci.reference import valid_tag
from mirrord.wire.offload import offload

if TYPE_CHECKING:
    from mirrord.wire.oci.client import Repository

PAGE = 1000  # more is refused by ECR (go-containerregistry#681)
PAGES = 1000
MOST = 100_000  # tags of one repository
PAGE_LIMIT = 8 * 1024 * 1024  # Google's registries ignore `n` and add a map of all manifests

# Possessive throughout: a header costs one pass, whatever is in it.
_PARAMETER = r""";\s*+([\w!#$&+.^`|~-]++)(?:\s*+=\s*+(?:"([^"]*+)"|([^\s",;]*+)))?+"""
_LINK = re.compile(rf"\s*+<(?P<target>[^<>]*+)>(?P<parameters>(?:\s*+{_PARAMETER})*+)\s*+(?:,|\Z)")
_PARAMETERS = re.compile(_PARAMETER)
_ELSEWHERE = frozenset({"prev", "previous", "first", "last", "self"})  # what no registry means the next page by
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


async def list_tags(endpoint: Endpoint) -> AsyncIterator[str]:
    """Yield each valid tag once, in the registry's order, page by page; invalid ones are left out.

    Raises:
        MissingError: the registry knows no such repository.
        UntrustedError: the link to the next page is not a proper URL.
        ContentError: a page is not a tag list, or the pages form a loop.
        TooLargeError: a page, their number or that of the tags is above its limit.
    """
    what = f"{endpoint.reference.name}: tag list"
    url: str | None = f"{endpoint.call('GET', 'tags/list').url}?n={PAGE}"
    visited: set[str] = set()
    seen: set[str] = set()
    while url is not None:
        visited.add(url)
        answer = await endpoint.http.fetch(endpoint.call_url("GET", url, cap=PAGE_LIMIT))
        found = await offload(len(answer.body), read_tags, answer.body, what)
        fresh = [tag for tag in dict.fromkeys(found) if tag not in seen]
        seen.update(fresh)
        if len(seen) > MOST:
            raise _too_many(what)
        for tag in fresh:
            yield tag
        target = next_link(answer.headers.get("link", ""), what)
        url = None if target is None else endpoint.page(answer, target)
        if url in visited or (url is not None and found and not fresh):
            raise ContentError(f"{what}: its pages form a loop")
        if url is not None and len(visited) >= PAGES:
            raise TooLargeError(f"{what}: more than {PAGES} pages")


def read_tags(body: bytes, what: str) -> list[str]:
    """Return the tags of one page. `null` is an empty page; invalid tags are left out, as they cannot be requested.

    Raises as `list_tags`.
    """
    document = read_object(body, what)
    if "tags" not in document:
        raise ContentError(f"{what}: the answer has no `tags`; the host may not be a registry")
    tags = sequence(document["tags"], what)
    if len(tags) > MOST:
        raise _too_many(what)
    return [tag for tag in tags if isinstance(tag, str) and valid_tag(tag)]


def _too_many(what: str) -> TooLargeError:
    return TooLargeError(f"{what}: more than {MOST} tags, which is the most; wanted ones can be named one by one")


def next_link(header: str, what: str) -> str | None:
    """Return the target of the link to the next page (RFC 8288), or None on the last page.

    That is the link with `rel="next"`, else the first one that does not say to be something else: there are registries
    that leave `rel` out or write it their own way, and every other client follows what they send.

    Raises:
        ContentError: not a Link header. Taking it for the end would take a part for the whole list.
    """
    position, other = 0, None
    while position < len(header):
        link = _LINK.match(header, position)
        if link is None:
            raise ContentError(f"{what}: malformed Link header")
        found = _PARAMETERS.findall(link["parameters"])
        rels = (quoted or bare for name, quoted, bare in found if name.lower() == "rel")  # the first one counts
        relations = set(next(rels, "").lower().split())
        if "next" in relations:
            return link["target"]
        if other is None and not relations & _ELSEWHERE:
            other = link["target"]
        position = link.end()
    return other
