"""Lists that registries send in pages (distribution-spec, "Listing Tags"), and the links from page to page."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from mirrord.errors import ContentError, TooLargeError
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import HttpRequest, HttpResponse
from mirrord.wire.oci.document import read_object, sequence
from mirrord.wire.offload import offload
from mirrord.wire.origin import check_url, joined

PAGE = 1000  # more is refused by ECR (go-containerregistry#681)
PAGES = 1000
MOST = 100_000  # names in one list
_SHOWN, _LONGEST = 5, 80  # of what is left out: names, and characters of each
PAGE_LIMIT = 8 * 1024 * 1024  # Google's registries ignore `n` and add a map of all manifests

# Possessive throughout: a header costs one pass, whatever is in it.
_PARAMETER = r""";\s*+([\w!#$&+.^`|~-]++)(?:\s*+=\s*+(?:"([^"]*+)"|([^\s",;]*+)))?+"""
_LINK = re.compile(rf"\s*+<(?P<target>[^<>]*+)>(?P<parameters>(?:\s*+{_PARAMETER})*+)\s*+(?:,|\Z)")
_PARAMETERS = re.compile(_PARAMETER)
_ELSEWHERE = frozenset({"prev", "previous", "first", "last", "self"})  # what no registry means the next page by

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ListPage(Generic[_T]):
    """One page of a list.

    Attributes:
        found: what is wanted of its entries.
        entries: all of them, as received.
        following: cursor of the next page, "" on the last one.
    """

    found: Sequence[_T]
    entries: Sequence[object]
    following: str


async def walk(read: Callable[[str], Awaitable[ListPage[_T]]], first: str, what: str) -> AsyncIterator[Sequence[_T]]:
    """Yield what is found in each page of a list.

    Args:
        read: returns the page of a cursor.
        first: cursor of the first page.
        what: the list, for errors.

    Raises:
        ContentError: a page is no such list, or the pages form a loop.
        TooLargeError: there are more than `PAGES`.
        MirrordError: a page could not be read. A part is never taken for the whole.
    """
    cursor, visited = first, set[str]()
    before: Sequence[object] = ()
    while cursor:
        if len(visited) >= PAGES:
            raise TooLargeError(f"{what}: more than {PAGES} pages")
        visited.add(cursor)
        page = await read(cursor)
        again = page.following and page.entries and page.entries == before
        if again or page.following in visited:
            raise ContentError(f"{what}: its pages form a loop")
        yield page.found
        cursor, before = page.following, page.entries


@dataclass(slots=True)
class LeftOut:
    """What was left out of a list because it cannot be requested: the number, and the first ones as ASCII."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: object) -> None:
        """Count one."""
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(ascii(name[:_LONGEST]) if isinstance(name, str) else type(name).__name__)

    def __str__(self) -> str:
        """Say what they are called, as far as there is room."""
        return ", ".join(self.first) + (" …" if self.count > len(self.first) else "")


async def in_pages(
    http: Http,
    first: HttpRequest,
    key: str,
    what: str,
    valid: Callable[[str], bool],
    *,
    left_out: LeftOut | None = None,
) -> AsyncIterator[str]:
    """Yield each valid name of a list once, in the registry's order, page by page.

    Args:
        http: how to get there.
        first: the request for the list, without a query.
        key: what the list is called in a page.
        what: the list, for errors.
        valid: whether a name can be requested; others are left out.
        left_out: where those are counted.

    Raises:
        UntrustedError: the link to the next page is not a proper URL.
        ContentError: a page is not such a list, or the pages form a loop.
        TooLargeError: a page, their number or that of the names is above its limit.
    """

    async def read(url: str) -> ListPage[str]:
        answer = await http.fetch(replace(first, url=url))
        found = await offload(len(answer.body), names_of, answer.body, key, what, valid, left_out)
        return ListPage(found, found, following(first, answer, what))

    seen: set[str] = set()
    async for found in walk(read, f"{first.url}?n={PAGE}", what):
        fresh = [name for name in dict.fromkeys(found) if name not in seen]
        seen.update(fresh)
        if len(seen) > MOST:
            raise _too_many(key, what)
        for name in fresh:
            yield name


def names_of(
    body: bytes, key: str, what: str, valid: Callable[[str], bool], left_out: LeftOut | None = None
) -> list[str]:
    """Return the valid names in the list `key` of one page. `null` is an empty page. Arguments, errors: `in_pages`."""
    document = read_object(body, what)
    if key not in document:
        raise ContentError(f"{what}: the answer has no `{key}`; the host may not be a registry")
    names = sequence(document[key], what)
    if len(names) > MOST:
        raise _too_many(key, what)
    found = [name for name in names if isinstance(name, str) and valid(name)]
    if left_out is not None and len(found) < len(names):
        for name in names:
            if not isinstance(name, str) or not valid(name):
                left_out.add(name)
    return found


def _too_many(key: str, what: str) -> TooLargeError:
    return TooLargeError(f"{what}: more than {MOST} {key}, which is the most; wanted ones can be named one by one")


def following(first: HttpRequest, answer: HttpResponse, what: str) -> str:
    """Return the URL of the page after `answer`, always at the address of the first; "" where that was the last one.

    A registry behind a proxy often knows itself by another name. Of an absolute target only path and query count,
    as with skopeo, so that no link leads to another host.

    Raises:
        ContentError: not a Link header.
        UntrustedError: it is no proper http(s) URL.
    """
    target = next_link(answer.headers.get("link", ""), what)
    if target is None:
        return ""
    url = joined(answer.url, target)
    check_url(url)
    parts, base = urlsplit(url), urlsplit(first.url)
    return f"{base.scheme}://{base.netloc}{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"


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
