"""Comments of merge requests at GitLab, which calls them notes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from mirrord.wire.answers import identifier, mapping, needed, text
from mirrord.wire.forges.forge_api import ForgeApi
from mirrord.wire.forges.issues import PAGES, IssueComment, Issues, issues_of
from mirrord.wire.forges.port import api_base, repository_of, web_host
from mirrord.wire.secret import Credential, Secret
from mirrord.wire.trust import api_owner

if TYPE_CHECKING:
    from mirrord.wire.git.address import Address
    from mirrord.wire.http.client import Http

_PAGE: Final = 100
_NEEDED: Final = "give the token the scope `api` and the role Reporter in the project"


class GitLabNotes:
    """The notes of merge requests of one project; errors and what is sent once are as for `Issues`."""

    def __init__(self, http: Http, address: Address, token: Secret) -> None:
        """Ask about a project with a token; nothing is sent."""
        headers = {"Accept": "application/json", "Authorization": Credential("", token).token("Bearer")}
        self._api = ForgeApi(http, api_owner(web_host(address)), headers, _NEEDED)
        self._root = f"{api_base(http, address)}/api/v4"
        self._url = f"{self._root}/projects/{quote('/'.join(repository_of(address)), safe='')}/merge_requests"
        self._of = ""  # the merge request whose comments were read last

    async def login(self) -> str:
        """Return the name of the token's account; that of a project's token is a bot's."""
        return needed(await self._api.ask("GET", f"{self._root}/user"), self._api.host, "username")

    async def comments_of_pull(self, number: str) -> AsyncIterator[IssueComment]:
        """Yield the comments of a merge request, the oldest first; not what GitLab itself notes there."""
        self._of = number
        for page in range(1, PAGES + 1):
            order = f"sort=asc&order_by=created_at&per_page={_PAGE}&page={page}"
            found = await self._api.entries(f"{self._url}/{number}/notes?{order}")
            for one in found[:_PAGE]:
                if not mapping(one).get("system"):
                    author, body = text(one, "author", "username") or "", text(one, "body") or ""
                    yield IssueComment(author, body, identifier(one))
            if len(found) != _PAGE:
                return

    async def comment_pull(self, number: str, body: str) -> None:
        """Write a comment into a merge request, in Markdown."""
        await self._api.ask("POST", f"{self._url}/{number}/notes", {"body": body})

    async def revise_in_pull(self, comment: str, body: str) -> None:
        """Write a comment anew, of the merge request whose comments were read last."""
        await self._api.ask("PUT", f"{self._url}/{self._of}/notes/{comment}", {"body": body})


def pull_comments_of(http: Http, forge: str, address: Address, token: Secret) -> Issues | GitLabNotes:
    """Return the comments of a repository's pull requests at `github`, `gitee`, `gitea` or `gitlab`."""
    return GitLabNotes(http, address, token) if forge == "gitlab" else issues_of(http, forge, address, token)
