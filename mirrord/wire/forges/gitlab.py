"""GitLab: projects below nested groups, under `/api/v4`."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from mirrord.errors import MissingError, RefusedError
from mirrord.wire.forges.api import Api, Document, Fetches, base, number, text
from mirrord.wire.forges.port import (
    ForgeLocation,
    Page,
    explained,
    hints,
    joined,
    page,
    repository_of,
    short,
    web,
    web_host,
)
from mirrord.wire.git.address import Address

HOST: Final = "gitlab.com"
_FILES: Final = frozenset({"raw", "blob", "tree", "blame"})
_HINTS: Final = hints(
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


class GitLab:
    """Projects called `GROUP/…/NAME` at gitlab.com or a host of one's own."""

    name: Final = "gitlab"
    form: Final = "GROUP[/SUBGROUP…]/NAME"
    creates: Final = True
    switches: Final = True

    def __init__(self) -> None:
        """Build it once; there is no state."""
        self._api = Api("Bearer", self.explain)

    def fits(self, address: Address) -> bool:
        """Whether there is a group."""
        return len(repository_of(address)) >= 2

    def raw_url(self, address: Address, ref: str, path: str) -> str | None:
        """Return the raw URL."""
        return f"{web(address)}/{joined(*repository_of(address), '-/raw', short(ref), path)}"

    def parse_page(self, url: str) -> Page | None:
        """Read the URL of a file or a raw file on any host, told by its form; of a project at gitlab.com."""
        place = ForgeLocation.of(url)
        if place is None:
            return None
        words = place.words
        at = words.index("-") if "-" in words else len(words)
        if 1 < at < len(words) - 2 and words[at + 1] in _FILES:
            return page(place.host, words[:at], words[at + 2 :])
        return page(HOST, words[:at]) if place.host == HOST else None

    def explain(self, text: str) -> str | None:
        """Return the next step for refusals of pushes and of the API."""
        return explained(text, _HINTS)

    async def exists(self, http: Fetches, address: Address) -> bool | None:
        """Ask for the project by its path."""
        return await self._get(http, address) is not None

    async def create(self, http: Fetches, address: Address, visibility: str, description: str) -> str:
        """Make the project in its group, which has to be there."""
        *group, name = repository_of(address)
        root, host = self._root(http, address), web_host(address)
        space = await self._api.ask(http, "GET", f"{root}/namespaces/{quote('/'.join(group), safe='')}")
        space_id = number(space, host, "id")
        body = {
            "name": name,
            "path": name,
            "namespace_id": space_id,
            "visibility": visibility,
            "description": description,
        }
        try:
            await self._api.ask(http, "POST", f"{root}/projects", body)
        except RefusedError as error:
            if error.status not in (400, 409) or not await self._get(http, address):
                raise
        return ""

    async def default_branch(self, http: Fetches, address: Address) -> str | None:
        """Return the default branch."""
        return text(await self._get(http, address), "default_branch")

    async def set_default_branch(self, http: Fetches, address: Address, branch: str) -> None:
        """Make `branch` the default one; it has to be there."""
        await self._api.ask(http, "PUT", self._url(http, address), {"default_branch": branch})

    async def _get(self, http: Fetches, address: Address) -> Document | None:
        try:
            return await self._api.ask(http, "GET", self._url(http, address))
        except MissingError:
            return None

    def _root(self, http: Fetches, address: Address) -> str:
        return f"{base(http.book, web_host(address))}/api/v4"

    def _url(self, http: Fetches, address: Address) -> str:
        return f"{self._root(http, address)}/projects/{quote('/'.join(repository_of(address)), safe='')}"
