"""GitLab: projects below nested groups, under `/api/v4`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from mirrord.errors import RefusedError
from mirrord.wire.answers import number
from mirrord.wire.forges import port
from mirrord.wire.forges.page import Page, page
from mirrord.wire.git.address import Address

if TYPE_CHECKING:
    from mirrord.wire.api import Document
    from mirrord.wire.http.client import Http

_FILES: Final = frozenset({"raw", "blob", "blame"})


class GitLab(port.Forge):
    """Projects called `GROUP/…/NAME` at gitlab.com or a host of one's own."""

    name = "gitlab"
    hosts = ("gitlab.com",)
    form = "GROUP[/SUBGROUP…]/NAME"
    creates = True
    switches = True
    raw = "-/raw"
    hints = port.refusals(
        (
            r"delete protected branches|default branch of a project cannot be deleted",
            "take the branch out of Protected branches there, or delete it on the project's pages",
        ),
        (r"not allowed to force push|protected branch", "allow force pushes for the branch under Protected branches"),
        (r"insufficient_scope", "give the token the scopes `api` and `write_repository`"),
        (
            r"pre-receive hook declined.{0,80}HEAD|branch name.{0,20}HEAD",
            "a branch called HEAD is refused there; take it out with `refs:`",
        ),
        (r"GitLab: LFS objects are missing", "its LFS objects are not there; leave `lfs: true` for this mirror"),
        (r"invalid_token|status 401", "the token is wrong or has expired; make a new one"),
    )

    def fits(self, address: Address) -> bool:
        """Whether there is a group."""
        return len(port.repository_of(address)) >= 2

    def raw_url(self, address: Address, file: Page) -> str | None:
        """Return the URL of the raw file, with the kind of ref where the page says which it is."""
        kind = {"branch": "?ref_type=heads", "tag": "?ref_type=tags"}.get(file.kind, "")
        return f"{super().raw_url(address, file)}{kind}"

    def page_of(self, host: str, words: tuple[str, ...]) -> Page | None:
        """Read the URL of a file or a raw file on any host, recognised by its form; of a project at gitlab.com."""
        at = words.index("-") if "-" in words else len(words)
        shown = "".join(words[at + 1 : at + 2])
        if 1 < at < len(words) - 2 and (shown in _FILES or shown == "tree"):
            return page(host, words[:at], words[at + 2 :] if shown in _FILES else ())
        return page(self.hosts[0], words[:at]) if host == self.hosts[0] else None

    async def create(self, http: Http, address: Address, visibility: str, description: str) -> str:
        """Make the project in its group, which has to be there."""
        *group, name = port.repository_of(address)
        root, host = f"{port.api_base(http, address)}/api/v4", port.web_host(address)
        space = await self.ask(http, "GET", f"{root}/namespaces/{quote('/'.join(group), safe='')}")
        body = {"name": name, "path": name, "namespace_id": number(space, host, "id")}
        body |= {"visibility": visibility, "description": description}
        try:
            await self.ask(http, "POST", f"{root}/projects", body)
        except RefusedError as error:
            if error.status not in (400, 409) or not await self.look_up(http, address):
                raise
        return ""

    async def set_default_branch(self, http: Http, address: Address, branch: str) -> None:
        """Make `branch` the default one; it has to be there."""
        await self.ask(http, "PUT", self._url(http, address), {"default_branch": branch})

    async def look_up(self, http: Http, address: Address) -> Document | None:
        """Ask for the project by its path."""
        return await self.found(http, self._url(http, address))

    def file_url(self, http: Http, address: Address, commit: str, path: str) -> str:
        """Return the URL of a raw file in its API."""
        return f"{self._url(http, address)}/repository/files/{quote(path, safe='')}/raw?ref={commit}"

    def _url(self, http: Http, address: Address) -> str:
        return f"{port.api_base(http, address)}/api/v4/projects/{quote('/'.join(port.repository_of(address)), safe='')}"
