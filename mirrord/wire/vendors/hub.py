"""Docker Hub, whose API is at hub.docker.com (docs.docker.com/reference/api/hub)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from mirrord.errors import ContentError
from mirrord.wire.answers import needed
from mirrord.wire.host import HUB, HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.oci.created import moment
from mirrord.wire.oci.paging import ListPage
from mirrord.wire.secret import Credential, Secret
from mirrord.wire.vendors import port
from mirrord.wire.vendors.pages import SIZE, counted, entries_of, texts

if TYPE_CHECKING:
    from mirrord.model.digest import Digest

_LONGEST: Final = 16 * 1024  # characters of a token


class DockerHub(port.Vendor):
    """Namespaces of repositories. What is public needs no login; user name and password get a token for the rest."""

    name = "hub"
    title = "Docker Hub"
    scoped = True
    deletes = "give docker.io under hosts: a user name and a personal access token that may read, write and delete"
    hint = "check the namespace, and give docker.io under hosts: a user name and a personal access token that may read"

    async def open(self, http: Http, domain: str, repository: str = "", *, login: bool = True) -> port.VendorApi:
        """Return the API, logged in where there is a user name and a password."""
        api = port.VendorApi(http, domain, self.base(http.book, domain), domain)
        credential = await http.book.credential(domain, repository) if login else None
        if credential is None or credential.identity:
            return api
        from mirrord.wire.api import sign_in  # noqa: PLC0415 - as in `port`

        account = credential.account("identifier", "secret")
        with self.advised():
            answer = await sign_in(http, f"{api.base}/v2/auth/token", account, host=domain)
        token = needed(answer, domain, "access_token")
        if len(token) > _LONGEST or not token.isascii() or not token.isprintable() or " " in token:
            raise ContentError(f"{domain}: the token of its API cannot be sent in a header; has the API changed?")
        return replace(api, authorization=Credential("jwt", Secret(token)).token("Bearer"))

    def base(self, book: HostBook, domain: str) -> str:
        """Return hub.docker.com for Docker Hub."""
        return "https://hub.docker.com" if domain == HUB else super().base(book, domain)

    def place_of_tag(self, path: str, tag: str, digest: Digest) -> str:  # noqa: ARG002 - the port's signature
        """Return `/v2/repositories/{namespace}/{repository}/tags/{tag}/` (docker/hub-feedback#496, #2006)."""
        return f"/v2/repositories/{quote(path)}/tags/{quote(tag, safe='')}/"

    async def names(self, api: port.VendorApi, space: str, cursor: str) -> ListPage[str]:
        """Read `GET /v2/namespaces/{namespace}/repositories`."""
        what = f"{api.domain}: repositories of {space}"
        path = f"/v2/namespaces/{quote(space, safe='')}/repositories?page_size={SIZE}&page={cursor}"
        document = (await api.get(path)).document
        entries = entries_of(document, what, "results")
        found = [f"{space}/{name}" for name in texts(entries, "name")]
        return ListPage(found, entries, _following(document, cursor))

    async def times(self, api: port.VendorApi, path: str, cursor: str) -> ListPage[port.Dated]:
        """Read `GET /v2/namespaces/{namespace}/repositories/{repository}/tags`."""
        what = f"{api.domain}: tags of {path}"
        space, _, name = path.partition("/")
        place = f"/v2/namespaces/{quote(space, safe='')}/repositories/{quote(name, safe='')}/tags"
        document = (await api.get(f"{place}?page_size={SIZE}&page={cursor}&ordering=last_updated")).document
        entries = entries_of(document, what, "results")
        found = [(name, _pushed(one)) for one in entries for name in texts([one], "name")]
        return ListPage(found, entries, _following(document, cursor))


def _pushed(entry: object) -> datetime | None:
    tag = entry if isinstance(entry, Mapping) else {}
    return moment(tag.get("tag_last_pushed")) or moment(tag.get("last_updated"))


def _following(document: object, cursor: str) -> str:
    following = document.get("next") if isinstance(document, Mapping) else None
    return counted(cursor, more=bool(following))
