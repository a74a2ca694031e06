"""GitLab's container registry, whose API is GitLab's own (docs.gitlab.com/api/container_registry)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from mirrord.errors import MissingError
from mirrord.wire.http.client import Http
from mirrord.wire.oci.paging import ListPage
from mirrord.wire.origin import check_url
from mirrord.wire.trust import realms_of
from mirrord.wire.vendors import port
from mirrord.wire.vendors.pages import SIZE, entries_of, linked, texts

if TYPE_CHECKING:
    from mirrord.wire.host import HostBook
    from mirrord.wire.secret import Credential


class GitLabRegistry(port.Vendor):
    """Repositories of projects below groups. It dates a tag by its image, one request a tag: no gain for a mirror."""

    name = "gitlab"
    title = "GitLab"
    scoped = True
    dated = False
    hint = "check the name of the group or the project, and that the token may `read_api`"

    async def open(self, http: Http, domain: str, repository: str = "", *, login: bool = True) -> port.VendorApi:
        """Return GitLab's API, with its own credential, else with that of the registry."""
        base = self.base(http.book, domain)
        host = check_url(base).authority
        # the credential of the registry goes to this realm with every login anyhow
        credential = await http.book.credential(host) or await http.book.credential(domain, repository)
        return port.VendorApi(http, domain, base, host, self.authorization(credential if login else None))

    def base(self, book: HostBook, domain: str) -> str:
        """Return GitLab itself: the first origin that issues tokens for its registry."""
        realm = next(iter(realms_of(book.policy(domain))), None)
        return str(check_url(realm)) if realm else super().base(book, domain)

    def authorization(self, credential: Credential | None) -> str | None:
        """Return an access token as OAuth clients send it."""
        return credential.token("Bearer") if credential and not credential.identity else None

    def space(self, folder: str) -> str:
        """Return the folder: groups have subgroups."""
        return folder

    async def names(self, api: port.VendorApi, space: str, cursor: str) -> ListPage[str]:
        """Read `GET /groups/:id/registry/repositories`, which has those of subgroups too; else that of a project."""
        what = f"{api.domain}: repositories of {space}"
        place = f"{quote(space, safe='')}/registry/repositories?per_page={SIZE}&page={cursor}"
        try:
            answer = await api.get(f"/api/v4/groups/{place}")
        except MissingError:
            if "/" not in space:
                raise
            answer = await api.get(f"/api/v4/projects/{place}")
        entries = entries_of(answer.document, what)
        return ListPage(texts(entries, "path"), entries, linked(answer, entries, cursor, what))
