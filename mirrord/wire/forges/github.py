"""GitHub, and GitHub Enterprise Server on hosts of one's own."""

from __future__ import annotations

from typing import Final

from mirrord.wire.forges.api import Api, Fetches, base
from mirrord.wire.forges.owned import OwnedApi
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

HOST: Final = "github.com"
_RAW: Final = ("raw.githubusercontent.com", "raw.github.com")
_FILES: Final = frozenset({"blob", "raw", "tree", "blame", "edit", "commits"})
_HINTS: Final = hints(
    (r"workflow.{0,40}scope|refusing to allow .{0,60}workflow", "give the token the scope `workflow`"),
    (r"GH001|exceeds GitHub's file size limit", "a file is larger than 100 MB; GitHub takes it with Git LFS only"),
    (r"GH008|unknown Git LFS objects?", "its LFS objects are not there; leave `lfs: true` for this mirror"),
    (
        r"GH006|GH013|protected branch|rule violations",
        "let the mirror's account bypass the branch's rules, force pushes too",
    ),
    (r"secondary rate limit|rate limit exceeded", "the token has asked too often; lower `requests` for the host"),
    (r"SAML|single sign-on", "authorise the token for the organisation's single sign-on"),
    (r"Resource not accessible|Must have admin rights", "give the token Administration and Contents: read and write"),
    (r"Bad credentials|status 401", "the token is wrong or has expired; make a new one"),
)


def _root(http: Fetches, address: Address) -> str:
    host = web_host(address)
    return "https://api.github.com" if host == HOST else f"{base(http.book, host)}/api/v3"


class GitHub:
    """Repositories called `OWNER/NAME` at github.com or a GitHub Enterprise Server."""

    name: Final = "github"
    form: Final = "OWNER/NAME"
    creates: Final = True
    switches: Final = True

    def __init__(self) -> None:
        """Build it once; there is no state."""
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        extra = {"has_issues": False, "has_projects": False, "has_wiki": False}
        self._owned = OwnedApi(Api("Bearer", self.explain, headers), _root, extra)

    def fits(self, address: Address) -> bool:
        """Whether it is `OWNER/NAME`."""
        return len(repository_of(address)) == 2

    def raw_url(self, address: Address, ref: str, path: str) -> str | None:
        """Return the URL at raw.githubusercontent.com, or below the repository on another host."""
        words = repository_of(address)
        if web_host(address) == HOST:
            return f"https://{_RAW[0]}/{joined(*words, short(ref), path)}"
        return f"{web(address)}/{joined(*words, 'raw', short(ref), path)}"

    def parse_page(self, url: str) -> Page | None:
        """Read a page of a repository, a file, or a raw file."""
        place = ForgeLocation.of(url)
        if place is None:
            return None
        words = place.words
        if place.host in _RAW:
            return page(HOST, words[:2], words[2:])
        if place.host != HOST:
            return None
        return page(HOST, words[:2], words[3:] if words[2:3] and words[2] in _FILES else ())

    def explain(self, text: str) -> str | None:
        """Return the next step for GitHub's refusals, on pushes (GH001, GH006, GH008) and of its API."""
        return explained(text, _HINTS)

    async def exists(self, http: Fetches, address: Address) -> bool | None:
        """Ask for the repository by its name."""
        return await self._owned.get(http, address) is not None

    async def create(self, http: Fetches, address: Address, visibility: str, description: str) -> str:
        """Make the repository without issues, projects and wiki, which a mirror has no use for."""
        await self._owned.create(http, address, private=visibility != "public", description=description)
        return ""

    async def default_branch(self, http: Fetches, address: Address) -> str | None:
        """Return the default branch."""
        return await self._owned.default_branch(http, address)

    async def set_default_branch(self, http: Fetches, address: Address, branch: str) -> None:
        """Make `branch` the default one; it has to be there."""
        await self._owned.change(http, address, default_branch=branch)
