"""Lists of an upstream, page by page: tags, and what refers to a manifest (distribution-spec, content discovery)."""

from __future__ import annotations

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
from mirrord.syncers.image.front.path import BadRequestError
from mirrord.syncers.image.through.failures import failed, out_of_date, serves_old, warning, why
from mirrord.syncers.image.through.manifests import FrontManifests, cache_name
from mirrord.syncers.image.through.pull import FrontPull
from mirrord.syncers.image.through.reading import UpstreamReader
from mirrord.syncers.image.through.remembered import LastUsed
from mirrord.wire.http.message import HttpResponse
from mirrord.wire.number import whole
from mirrord.wire.oci.descriptor import OCI_INDEX, index_of
from mirrord.wire.oci.manifest import LIMIT
from mirrord.wire.oci.paging import PAGE, names_of, next_link
from mirrord.wire.oci.reference import referrers_tag, valid_tag
from mirrord.wire.oci.referrers import entries_of
from mirrord.wire.offload import offload

LONGEST: Final = 1024  # characters of a query that goes upstream
MOST: Final = 500  # answers about referrers that are remembered
_SMALL: Final = 32 * 1024  # bytes of such an answer


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
        self._referrers = LastUsed[tuple[str, ...], _Remembered](MOST)

    async def tags(self, pull: FrontPull) -> Response:
        """Return a page of tags; those in the cache where upstream does not answer.

        Raises:
            BadRequestError: the query is none.
        """
        reference, called, path, query = pull.reference, pull.called, pull.path, pull.request.query
        what = f"{reference.name}: tag list"
        asked = _query(query)
        if "n" in query and not whole(query["n"]):
            return answer(200, {"name": path.name, "tags": []}, {})
        try:
            got = await self._upstream.page(reference, "tags/list", asked, {})
            names = await offload(len(got.body), names_of, got.body, "tags", what, valid_tag)
            return answer(200, {"name": path.name, "tags": names}, _link(got, pull, what))
        except MirrordError as error:
            pull.report_failed(error)
            state = await self._cache.repositories.state(cache_name(reference)) if serves_old(error) else None
            if state is None or not state.names:
                return failed(error, called, "list of tags", "NAME")
            part, link = page(state.names, f"/v2/{path.name}/tags/list", query)
            said = warning(f"{called.registry} {why(error)}; these are the tags in the cache")
            return answer(200, {"name": path.name, "tags": part}, {**link, **said})

    async def referrers(self, pull: FrontPull) -> Response:
        """Return what refers to a manifest; an empty list only if upstream says that it is empty.

        Raises:
            BadRequestError: the query is none.
        """
        called, path, query = pull.called, pull.path, pull.request.query
        # links to further pages have path and `ns`, warnings have the rest
        key = cache_name(pull.reference), path.ref, _query(query), path.name, query.get("ns", ""), called.name
        known = self._referrers.get(key)
        if known is not None and self._clock() < known.at + pull.rules.keys.fresh:
            return known.answer
        try:
            found = await self._listed(pull)
        except MirrordError as error:
            pull.report_failed(error)
            if known is not None and serves_old(error):
                said = out_of_date(called, why(error))
                return replace(known.answer, headers={**known.answer.headers, **said})
            return failed(error, called, f"list of referrers of {path.ref}", "MANIFEST")
        if isinstance(found.body, bytes) and len(found.body) <= _SMALL:
            self._referrers.put(key, _Remembered(found, self._clock()))
        return found

    async def _listed(self, pull: FrontPull) -> Response:
        rest, query = f"referrers/{pull.path.ref}", _query(pull.request.query)
        what = f"{pull.reference.name}: referrers of {pull.path.ref}"
        try:
            got = await self._upstream.page(pull.reference, rest, query, {"Accept": OCI_INDEX})
        except MissingError:
            return await self._tagged(pull)
        await offload(len(got.body), entries_of, got.body, what)
        applied = got.headers.get("oci-filters-applied", "")
        filters = {"OCI-Filters-Applied": "artifactType"} if "artifactType" in applied else {}
        headers = {"Content-Type": OCI_INDEX, **VERSION, **filters, **_link(got, pull, what)}
        return Response(200, headers, got.body)

    async def _tagged(self, pull: FrontPull) -> Response:
        """Read the list that a registry without the API has under a tag (distribution-spec, "Referrers Tag Schema")."""
        headers, tag = {"Content-Type": OCI_INDEX, **VERSION}, referrers_tag(Digest(pull.path.ref))
        try:
            found = await self._manifests.find(pull.reference, tag, fresh=pull.rules.keys.fresh, whole=True)
        except MissingError:
            return Response(200, headers, index_of([]))
        if found.error is not None:
            pull.report_failed(found.error)
        if found.descriptor.media_type != OCI_INDEX:
            return Response(200, headers, index_of([]))
        body = await read_stored(found.body, LIMIT) if isinstance(found.body, LocalFile | Remote) else found.body
        return Response(200, headers | out_of_date(pull.called, found.warning), body or b"")


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


def _link(got: HttpResponse, pull: FrontPull, what: str) -> dict[str, str]:
    """Return the link to the next page, which leads to us."""
    path, query = pull.path, pull.request.query
    target = next_link(got.headers.get("link", ""), what)
    if target is None:
        return {}
    following = urlsplit(target).query
    ns = f"&ns={quote(query['ns'], safe='')}" if "ns" in query else ""
    if len(following) > LONGEST or not following.isascii() or not following.isprintable() or {*following} & {*'<>"'}:
        raise ContentError(f"{what}: the link to the next page has no query")
    return {"Link": f'</v2/{path.name}/{path.verb}/{path.ref}?{following}{ns}>; rel="next"'}
