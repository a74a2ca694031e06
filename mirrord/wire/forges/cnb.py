"""Tencent CNB (cnb.cool), where Coding's repositories go before Coding ends in 2028; HTTPS only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from mirrord.errors import RefusedError, UnsupportedError
from mirrord.wire.answers import text
from mirrord.wire.forges import port
from mirrord.wire.forges.page import Page, page
from mirrord.wire.git.address import Address

if TYPE_CHECKING:
    from mirrord.wire.api import Document
    from mirrord.wire.http.client import Http

_FILES: Final = frozenset({"blob", "blame"})


class Cnb(port.Forge):
    """Repositories called `GROUP/…/NAME`."""

    name = "cnb"
    hosts = ("cnb.cool",)
    form = "GROUP[/SUBGROUP…]/NAME"
    creates = True
    raw = "-/git/raw"
    headers: Mapping[str, str] = {"Accept": "application/vnd.cnb.api+json"}
    hints = port.refusals(
        (r"ssh", "CNB speaks HTTPS only; write https://cnb.cool/GROUP/NAME"),
        (r"protected branch|force push", "allow force pushes for the branch in the repository's settings"),
        (r"status 403|scope", "give the token `repo-code:rw`, and `group-resource:rw` to create repositories"),
        (r"status 401|Authentication failed", "write `username: cnb` and a token as password under hosts:"),
    )

    def fits(self, address: Address) -> bool:
        """Whether there is a group, and it is not SSH, which CNB does not speak."""
        return len(port.repository_of(address)) >= 2 and address.scheme != "ssh"

    def page_of(self, host: str, words: tuple[str, ...]) -> Page | None:
        """Read a page of a repository, a file, or a raw file."""
        if host not in self.hosts:
            return None
        at = words.index("-") if "-" in words else len(words)
        if words[at + 1 : at + 3] == ("git", "raw"):
            return page(host, words[:at], words[at + 3 :])
        return page(host, words[:at], words[at + 2 :] if _FILES.intersection(words[at + 1 : at + 2]) else ())

    async def create(self, http: Http, address: Address, visibility: str, description: str) -> str:
        """Make the repository in its group, which has to be there."""
        *group, name = port.repository_of(address)
        body = {"name": name, "visibility": visibility, "description": description}
        try:
            await self.ask(http, "POST", f"{self._root(http, address)}/{port.joined(*group)}/-/repos", body)
        except RefusedError as error:
            if error.status not in (400, 409, 422) or await self.look_up(http, address) is None:
                raise
        return ""

    async def default_branch(self, http: Http, address: Address) -> str | None:
        """Return the default branch, None for an empty repository."""
        return text(await self.found(http, f"{self._url(http, address)}/-/git/head"), "name")

    async def set_default_branch(self, http: Http, address: Address, branch: str) -> None:  # noqa: ARG002 - the port's signature
        """Say that this has to be done by hand: its API has nothing for it (`UpdateRepo` takes texts only).

        Raises:
            UnsupportedError: always.
        """
        where = f"{port.web_host(address)}: set the default branch of {'/'.join(port.repository_of(address))}"
        raise UnsupportedError(f"{where} to {branch} in its settings")

    async def look_up(self, http: Http, address: Address) -> Document | None:
        """Ask for the repository by its path."""
        return await self.found(http, self._url(http, address))

    def file_url(self, http: Http, address: Address, commit: str, path: str) -> str:
        """Return the URL of a raw file in its API."""
        return f"{self._url(http, address)}/-/git/raw/{port.joined(commit, path)}"

    def _root(self, http: Http, address: Address) -> str:
        host = port.web_host(address)
        return "https://api.cnb.cool" if host == self.hosts[0] else port.api_base(http, address)

    def _url(self, http: Http, address: Address) -> str:
        return f"{self._root(http, address)}/{port.joined(*port.repository_of(address))}"
