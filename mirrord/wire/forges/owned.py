"""The API that GitHub, Gitee and Gitea share: repositories below users and organisations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from mirrord.errors import DeniedError, MissingError, RefusedError
from mirrord.wire.forges.answers import needed
from mirrord.wire.forges.port import Forge, joined, repository_of, web_host
from mirrord.wire.git.address import Address

if TYPE_CHECKING:
    from mirrord.wire.api import Document
    from mirrord.wire.http.client import Http

_EXISTS: Final = frozenset({400, 409, 422})


class OwnerForge(Forge):
    """Repositories that are called `OWNER/NAME`.

    Attributes:
        extra: what a new repository is told besides its name, visibility and description.
    """

    form = "OWNER/NAME"
    creates = True
    switches = True
    raw = "raw"
    extra: Mapping[str, object] = {}

    def api(self, http: Http, address: Address) -> str:
        """Return the URL of the API, without a slash at its end."""
        raise LookupError(f"{self.name} has no API at {web_host(address)}, or {http.book} does not know it")

    def fits(self, address: Address) -> bool:
        """Whether it is `OWNER/NAME`."""
        return len(repository_of(address)) == 2

    async def look_up(self, http: Http, address: Address) -> Document | None:
        """Ask for the repository by its name."""
        return await self.found(http, self._url(http, address))

    async def create(self, http: Http, address: Address, visibility: str, description: str) -> str:
        """Make the repository below the user or the organisation."""
        await self.make(http, address, private=visibility != "public", description=description)
        return ""

    async def make(self, http: Http, address: Address, *, private: bool, description: str) -> Document:
        """Make an empty repository, or return the one that is there.

        Raises:
            DeniedError: the credential may not.
            MirrordError: it could not be made.
        """
        root = self.api(http, address)
        owner, name = repository_of(address)[-2:]
        body = {"name": name, "private": private, "description": description, "auto_init": False, **self.extra}
        # `POST /user/repos` creates below the credential's own name, whatever was meant.
        login = needed(await self.ask(http, "GET", f"{root}/user"), web_host(address), "login")
        below = "user" if login.casefold() == owner.casefold() else f"orgs/{joined(owner)}"
        try:
            return await self.ask(http, "POST", f"{root}/{below}/repos", body)
        except RefusedError as error:
            existing = await self.look_up(http, address) if error.status in _EXISTS else None
            if existing is not None:
                return existing
            if isinstance(error, MissingError):
                raise DeniedError(
                    f"{web_host(address)}: {owner} is neither the credential's own name ({login}) nor an organisation"
                    " in which it may create repositories; correct `to` or the credential"
                ) from error
            raise

    async def change(self, http: Http, address: Address, **changes: object) -> Document:
        """Change the repository's settings.

        Raises:
            MirrordError: the host did not.
        """
        # Gitee wants to be told the name with every change; the others take it for no change.
        body = {"name": repository_of(address)[-1], **changes}
        return await self.ask(http, "PATCH", self._url(http, address), body)

    async def set_default_branch(self, http: Http, address: Address, branch: str) -> None:
        """Make `branch` the default one."""
        await self.change(http, address, default_branch=branch)

    def _url(self, http: Http, address: Address) -> str:
        return f"{self.api(http, address)}/repos/{joined(*repository_of(address)[-2:])}"
