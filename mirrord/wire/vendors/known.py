"""Which vendors there are, whose a registry is, and what the image syncer asks of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Final
from weakref import WeakKeyDictionary

from mirrord.errors import DeniedError, MissingError, RefusedError, TooLargeError, UnreachableError
from mirrord.keyedlock import KeyedLock
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.oci.catalog import list_repositories
from mirrord.wire.oci.paging import MOST, ListPage, walk
from mirrord.wire.oci.profiles import profile_of
from mirrord.wire.oci.reference import Reference, valid_repository
from mirrord.wire.origin import check_url
from mirrord.wire.secret import Credential
from mirrord.wire.trust import belongs
from mirrord.wire.vendors.gitlab import GitLabRegistry
from mirrord.wire.vendors.harbor import Harbor
from mirrord.wire.vendors.hub import DockerHub
from mirrord.wire.vendors.pages import FIRST
from mirrord.wire.vendors.port import Dated, Vendor, VendorApi, check_listable, folders
from mirrord.wire.vendors.quay import Quay

VENDORS: Final[Mapping[str, Vendor]] = {
    vendor.name: vendor for vendor in (DockerHub(), Quay(), GitLabRegistry(), Harbor())
}
_TRIES: Final = 2  # of a request for dates: images have them too
_RESTS: Final = 600.0  # seconds for which an API that cannot be reached is not asked for dates
_gone: Final[WeakKeyDictionary[Http, dict[str, float]]] = WeakKeyDictionary()
"""Until when (monotonic time) the API of a registry is not asked: each of many images would wait for it anew."""
_LOGIN: Final = 300.0  # seconds for which repositories share a login
_Key = tuple[str, Credential | None]
_logins: Final[WeakKeyDictionary[Http, dict[_Key, tuple[float, str | None]]]] = WeakKeyDictionary()
"""By registry and credential, until when a login is shared, and its header: Docker Hub limits the rate of logins."""
_signing: Final = KeyedLock()
_OTHER: Final = (
    "name the repositories without patterns, or write `profile: harbor`, `quay` or `gitlab` for it under hosts:"
)


def vendor_of(domain: str, word: str | None = None) -> Vendor | None:
    """Return whose a registry is: as `word` (`profile:`) says, else by its name, else None."""
    return VENDORS.get(profile_of(domain, word).name)


def api_host(book: HostBook, domain: str) -> str:
    """Return the host whose rules apply to a registry's own API: GitLab itself, for others that of the registry."""
    policy = book.policy(domain)
    vendor = vendor_of(domain, policy.profile)
    origin = check_url(vendor.base(book, domain)) if vendor else None
    return domain if origin is None or belongs(origin, policy) else origin.authority


async def repositories_for(http: Http, domain: str, patterns: Collection[str]) -> AsyncIterator[str]:
    """Yield the path of each repository of a registry once, at least all of those that patterns match.

    Raises:
        UsageError: the registry lists one namespace at a time, and a pattern begins in it.
        RefusedError: the registry has no list, or does not show it with these credentials.
        ContentError: an answer is no such list, or its pages form a loop.
        TooLargeError: it is too long.
        TransportError: the registry cannot be reached, fails or limits the rate.
    """
    vendor = vendor_of(domain, http.book.policy(domain).profile)
    check_listable(vendor, patterns)
    if vendor is None:
        try:
            async for path in list_repositories(http, domain):
                yield path
        except RefusedError as error:
            raise type(error)(f"{error}; {_OTHER}", error.status) from error
        return
    api = await vendor.open(http, domain)
    seen: set[str] = set()
    spaces = dict.fromkeys(map(vendor.space, folders(patterns)))
    with vendor.advised():
        for space in [""] if "" in spaces else spaces:
            what = f"{domain}: repositories of {space or 'all'}"
            async for page in walk(partial(vendor.names, api, space), FIRST, what):
                for path in page:
                    if path not in seen and valid_repository(path):
                        seen.add(path)
                        yield path
                if len(seen) > MOST:
                    raise TooLargeError(f"{domain}: more than {MOST} repositories, which is the most; name them")


class TagTimes:
    """When the tags of a repository were pushed, by the API of its registry; what was read once is kept.

    Asked without a credential first, since most images are public and Docker Hub wants a login for each token.
    """

    def __init__(self, vendor: Vendor, http: Http, reference: Reference) -> None:
        self._vendor, self._http, self._reference = vendor, http, reference
        self._known: dict[str, datetime | None] = {}
        self._pages = walk(self._read, FIRST, f"{reference.name}: dates of tags")
        self._api: VendorApi | None = None

    async def find(self, tags: Collection[str]) -> Mapping[str, datetime]:
        """Return the dates of tags, as far as they are known.

        The last pushed come first. It reads no more pages than there are tags: then images say it as cheaply.

        Raises:
            MirrordError: the API cannot be asked, or what it answers is no list of tags.
        """
        for _ in tags:
            if all(tag in self._known for tag in tags):
                break
            try:
                page = await anext(self._pages, None)
            except UnreachableError:
                _gone.setdefault(self._http, {})[self._reference.domain] = monotonic() + _RESTS
                raise
            if page is None:
                break
            self._known = dict(page) | self._known
            if len(self._known) > MOST:
                raise TooLargeError(f"{self._reference.name}: its API lists more than {MOST} tags, which is the most")
        found = {tag: self._known.get(tag) for tag in tags}
        return {tag: date for tag, date in found.items() if date is not None}

    async def _read(self, cursor: str) -> ListPage[Dated]:
        domain, path = self._reference.domain, self._reference.path
        if monotonic() < _gone.get(self._http, {}).get(domain, 0.0):
            raise UnreachableError(f"{domain}: its API could not be reached a moment ago, and is left alone")
        if self._api is None:
            opened = await self._vendor.open(self._http, domain, path, login=False)
            self._api = replace(opened, attempts=_TRIES)
            try:
                return await self._vendor.times(self._api, path, cursor)
            except (DeniedError, MissingError):
                self._api = await self._login()
                if self._api.authorization is None:
                    raise
        return await self._vendor.times(self._api, path, cursor)

    async def _login(self) -> VendorApi:
        return replace(await signed_in(self._http, self._vendor, self._reference), attempts=_TRIES)


async def signed_in(http: Http, vendor: Vendor, reference: Reference) -> VendorApi:
    """Return the API with the credential of a repository; others that have the same one share the login.

    Raises:
        MirrordError: the login failed.
    """
    domain, path, kept = reference.domain, reference.path, _logins.setdefault(http, {})
    key = domain, await http.book.credential(domain, path)
    async with _signing.hold((id(http), key)):
        until, authorization = kept.get(key, (0.0, None))
        if monotonic() < until:
            return replace(await vendor.open(http, domain, path, login=False), authorization=authorization)
        api = await vendor.open(http, domain, path, login=True)
        kept[key] = monotonic() + _LOGIN, api.authorization
        return api


def times_of(http: Http, reference: Reference) -> TagTimes | None:
    """Return what knows the dates of a repository's tags, None where its registry has no API for them."""
    vendor = vendor_of(reference.domain, http.book.policy(reference.domain).profile)
    return TagTimes(vendor, http, reference) if vendor and vendor.dated else None
