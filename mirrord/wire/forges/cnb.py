"""Tencent CNB (cnb.cool), where Coding's repositories go before Coding ends in 2028; HTTPS only."""

from __future__ import annotations

from typing import Final

from mirrord.errors import MissingError, RefusedError, UnsupportedError
from mirrord.wire.forges.api import Api, Document, Fetches, base, text
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

HOST: Final = "cnb.cool"
_FILES: Final = frozenset({"blob", "tree", "blame"})
_HINTS: Final = hints(
    (r"ssh", "CNB speaks HTTPS only; write https://cnb.cool/GROUP/NAME"),
    (r"protected branch|force push", "allow force pushes for the branch in the repository's settings"),
    (r"status 403|scope", "give the token `repo-code:rw`, and `group-resource:rw` to create repositories"),
    (r"status 401|Authentication failed", "write `username: cnb` and a token as password under hosts:"),
)


class Cnb:
    """Repositories called `GROUP/…/NAME`."""

    name: Final = "cnb"
    form: Final = "GROUP[/SUBGROUP…]/NAME"
    creates: Final = True
    switches: Final = False

    def __init__(self) -> None:
        """Build it once; there is no state."""
        self._api = Api("Bearer", self.explain, {"Accept": "application/vnd.cnb.api+json"})

    def fits(self, address: Address) -> bool:
        """Whether there is a group, and it is not SSH, which CNB does not speak."""
        return len(repository_of(address)) >= 2 and address.scheme != "ssh"

    def raw_url(self, address: Address, ref: str, path: str) -> str | None:
        """Return the raw URL."""
        return f"{web(address)}/{joined(*repository_of(address), '-/git/raw', short(ref), path)}"

    def parse_page(self, url: str) -> Page | None:
        """Read a page of a repository, a file, or a raw file."""
        place = ForgeLocation.of(url)
        if place is None or place.host != HOST:
            return None
        words = place.words
        at = words.index("-") if "-" in words else len(words)
        if words[at + 1 : at + 3] == ("git", "raw"):
            return page(HOST, words[:at], words[at + 3 :])
        return page(HOST, words[:at], words[at + 2 :] if words[at + 1 : at + 2] and words[at + 1] in _FILES else ())

    def explain(self, text: str) -> str | None:
        """Return the next step for refusals of pushes and of the API."""
        return explained(text, _HINTS)

    async def exists(self, http: Fetches, address: Address) -> bool | None:
        """Ask for the repository by its path."""
        return await self._get(http, address) is not None

    async def create(self, http: Fetches, address: Address, visibility: str, description: str) -> str:
        """Make the repository in its group, which has to be there."""
        *group, name = repository_of(address)
        body = {"name": name, "visibility": visibility, "description": description}
        try:
            await self._api.ask(http, "POST", f"{self._root(http, address)}/{joined(*group)}/-/repos", body)
        except RefusedError as error:
            if error.status not in (400, 409, 422) or await self._get(http, address) is None:
                raise
        return ""

    async def default_branch(self, http: Fetches, address: Address) -> str | None:
        """Return the default branch, None for an empty repository."""
        try:
            return text(await self._api.ask(http, "GET", f"{self._url(http, address)}/-/git/head"), "name")
        except MissingError:
            return None

    async def set_default_branch(self, http: Fetches, address: Address, branch: str) -> None:  # noqa: ARG002 - the port's signature
        """Say that this has to be done by hand: its API has nothing for it (`UpdateRepo` takes texts only).

        Raises:
            UnsupportedError: always.
        """
        place = "/".join(repository_of(address))
        raise UnsupportedError(f"{web_host(address)}: set the default branch of {place} to {branch} in its settings")

    async def _get(self, http: Fetches, address: Address) -> Document | None:
        try:
            return await self._api.ask(http, "GET", self._url(http, address))
        except MissingError:
            return None

    def _root(self, http: Fetches, address: Address) -> str:
        host = web_host(address)
        return "https://api.cnb.cool" if host == HOST else base(http.book, host)

    def _url(self, http: Fetches, address: Address) -> str:
        return f"{self._root(http, address)}/{joined(*repository_of(address))}"
