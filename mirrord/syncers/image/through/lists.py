"""Lists of an upstream, page by page: tags, and what refers to a manifest (distribution-spec, content discovery)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from mirrord.blobs.content_cache import ContentCache
from mirrord.blobs.store import Remote, read_stored
from mirrord.errors import ContentError, MirrordError, MissingError
from mirrord.files import LocalFile
from mirrord.model.digest import Digest
from mirrord.syncer.serving import Response
from mirrord.syncers.image.front.answers import VERSION, answer, page
from mirrord.syncers.image.front.path import BadRequestError, RegistryPath
from mirrord.syncers.image.through.asked import AskedName
from mirrord.syncers.image.through.failures import failed, out_of_date, serves_old, warning, why
from mirrord.syncers.image.through.manifests import FrontManifests, cache_name
from mirrord.syncers.image.through.reading import UpstreamReader
from mirrord.wire.http.message import HttpResponse
from mirrord.wire.number import whole
from mirrord.wire.oci.descriptor import OCI_INDEX, index_of
from mirrord.wire.oci.document import read_object, sequence
from mirrord.wire.oci.manifest import LIMIT, MOST_VALUES
from mirrord.wire.oci.paging import PAGE, names_of, next_link
from mirrord.wire.oci.reference import Reference, valid_tag
from mirrord.wire.offload import offload

LONGEST: Final = 1024  # characters of a query that goes upstream
MOST: Final = 500  # answers about referrers that are remembered
_SMALL: Final = 32 * 1024  # bytes of such an answer


Note = Callable[[MirrordError], None]


@dataclass(frozen=True, slots=True)
class _Remembered:
    answer: Response
    at: float


class UpstreamLists:
    """Passes lists through. Tags are always asked for; what refers to a manifest is remembered while it is fresh."""

    def __init__(
        self, cache: ContentCache, upstream: UpstreamReader, manifests: FrontManifests, clock: Callable[[], float]
    ) -> None:
        """Ask `upstream`, and `manifests` for the list that registries without the API have under a tag."""
        self._cache, self._upstream, self._manifests, self._clock = cache, upstream, manifests, clock
        self._referrers: OrderedDict[tuple[str, ...], _Remembered] = OrderedDict()

    async def tags(
        self, reference: Reference, called: AskedName, path: RegistryPath, query: Mapping[str, str], note: Note
    ) -> Response:
        """Return a page of tags; those in the cache where upstream does not answer.

        The client knows the repository as `called`; `note` gets the error of an upstream.

        Raises:
            BadRequestError: the query is none.
        """
        what = f"{reference.name}: tag list"
        asked = _query(query)
        if "n" in query and not whole(query["n"]):
            return answer(200, {"name": path.name, "tags": []}, {})
        try:
            got = await self._upstream.page(reference, "tags/list", asked, {})
            names = await offload(len(got.body), names_of, got.body, "tags", what, valid_tag)
            return answer(200, {"name": path.name, "tags": names}, _link(got, path, query, what))
        except MirrordError as error:
            note(error)
            state = await self._cache.repositories.state(cache_name(reference)) if serves_old(error) else None
            if state is None or not state.names:
                return failed(error, called, "list of tags", "NAME")
            part, link = page(state.names, f"/v2/{path.name}/tags/list", query)
            said = warning(f"{called.registry} {why(error)}; these are the tags in the cache")
            return answer(200, {"name": path.name, "tags": part}, {**link, **said})

    async def referrers(
        self,
        reference: Reference,
        called: AskedName,
        path: RegistryPath,
        query: Mapping[str, str],
        *,
        fresh: float,
        note: Note,
    ) -> Response:
        """Return what refers to a manifest; an empty list only if upstream says that it is empty.

        Raises:
            BadRequestError: the query is none.
        """
        # links to further pages have path and `ns`, warnings have the rest
        key = cache_name(reference), path.ref, _query(query), path.name, query.get("ns", ""), called.name
        known = self._referrers.get(key)
        if known is not None and self._clock() < known.at + fresh:
            return known.answer
        try:
            found = await self._listed(reference, called, path, query, fresh=fresh, note=note)
        except MirrordError as error:
            note(error)
            if known is not None and serves_old(error):
                said = out_of_date(called, why(error))
                return replace(known.answer, headers={**known.answer.headers, **said})
            return failed(error, called, f"list of referrers of {path.ref}", "MANIFEST")
        if isinstance(found.body, bytes) and len(found.body) <= _SMALL:
            self._referrers[key] = _Remembered(found, self._clock())
            self._referrers.move_to_end(key)
            if len(self._referrers) > MOST:
                self._referrers.popitem(last=False)
        return found

    async def _listed(
        self,
        reference: Reference,
        called: AskedName,
        path: RegistryPath,
        query: Mapping[str, str],
        *,
        fresh: float,
        note: Note,
    ) -> Response:
        what = f"{reference.name}: referrers of {path.ref}"
        try:
            got = await self._upstream.page(reference, f"referrers/{path.ref}", _query(query), {"Accept": OCI_INDEX})
        except MissingError:
            return await self._tagged(reference, called, Digest(path.ref), fresh, note)
        if len(got.body) > LIMIT:
            raise ContentError(f"{what}: {len(got.body)} bytes")
        document = await offload(len(got.body), read_object, got.body, what, MOST_VALUES)
        sequence(document.get("manifests"), what)
        if "manifests" not in document:
            raise ContentError(f"{what}: no index")
        applied = got.headers.get("oci-filters-applied", "")
        filters = {"OCI-Filters-Applied": "artifactType"} if "artifactType" in applied else {}
        headers = {"Content-Type": OCI_INDEX, **VERSION, **filters, **_link(got, path, query, what)}
        return Response(200, headers, got.body)

    async def _tagged(
        self, reference: Reference, called: AskedName, subject: Digest, fresh: float, note: Note
    ) -> Response:
        """Read the list that a registry without the API has under a tag (distribution-spec, "Referrers Tag Schema")."""
        headers = {"Content-Type": OCI_INDEX, **VERSION}
        try:
            found = await self._manifests.find(
                reference, f"{subject.algorithm}-{subject.hex}"[:128], fresh=fresh, whole=True
            )
        except MissingError:
            return Response(200, headers, index_of([]))
        if found.error is not None:
            note(found.error)
        if found.descriptor.media_type != OCI_INDEX:
            return Response(200, headers, index_of([]))
        body = await read_stored(found.body, LIMIT) if isinstance(found.body, LocalFile | Remote) else found.body
        return Response(200, headers | out_of_date(called, found.warning), body or b"")


def _query(query: Mapping[str, str]) -> str:
    """Return the query for upstream: what a client may ask for, or a link of the upstream has, and no namespace.

    Raises:
        BadRequestError: it is too long, or `n` is no number.
    """
    if "n" in query and whole(query["n"]) is None:
        raise BadRequestError(400, "PAGINATION_NUMBER_INVALID", "n must be a number")
    passed = {key: value for key, value in query.items() if key != "ns"}
    if "n" in passed:
        passed["n"] = str(min(whole(passed["n"]) or 0, PAGE))
    text = urlencode(passed, quote_via=quote)
    if len(text) > LONGEST:
        raise BadRequestError(400, "UNSUPPORTED", "the query is too long")
    return text


def _link(got: HttpResponse, path: RegistryPath, query: Mapping[str, str], what: str) -> dict[str, str]:
    """Return the link to the next page, which leads to us."""
    target = next_link(got.headers.get("link", ""), what)
    if target is None:
        return {}
    following = urlsplit(target).query
    ns = f"&ns={quote(query['ns'], safe='')}" if "ns" in query else ""
    if len(following) > LONGEST or not following.isascii() or not following.isprintable() or {*following} & {*'<>"'}:
        raise ContentError(f"{what}: the link to the next page has no query")
    return {"Link": f'</v2/{path.name}/{path.verb}/{path.ref}?{following}{ns}>; rel="next"'}
