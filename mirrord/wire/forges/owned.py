"""The API that GitHub began, and Gitee, Gitea and Forgejo answer too: repositories below a user or an organisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mirrord.errors import DeniedError, MissingError, RefusedError
from mirrord.wire.forges.api import Api, Document, Fetches, needed, text
from mirrord.wire.forges.port import joined, repository_of, web_host
from mirrord.wire.git.address import Address

_EXISTS: Final = frozenset({400, 409, 422})


@dataclass(frozen=True, slots=True)
class OwnedApi:
    """Repositories that are called `OWNER/NAME`.

    Attributes:
        api: how it wants to be asked.
        root: URL of the API of the host of an address, without a slash at its end.
        extra: what a new repository is told besides its name, visibility and description.
    """

    api: Api
    root: Callable[[Fetches, Address], str]
    extra: Mapping[str, object] = field(default_factory=dict)

    async def get(self, http: Fetches, address: Address) -> Document | None:
        """Return what the host says of the repository, or None when there is none that we may see.

        Asked for by its name: hosts list repositories in pages, and a list that was refused looks like an empty one.

        Raises:
            MirrordError: the host cannot say.
        """
        try:
            return await self.api.ask(http, "GET", self._url(http, address))
        except MissingError:
            return None

    async def create(self, http: Fetches, address: Address, *, private: bool, description: str) -> Document:
        """Make an empty repository, or return the one that is there.

        Raises:
            DeniedError: the credential may not.
            MirrordError: it could not be made.
        """
        root = self.root(http, address)
        owner, name = repository_of(address)[-2:]
        body = {"name": name, "private": private, "description": description, "auto_init": False, **self.extra}
        whose = await self._login(http, root, address)
        below = "user" if whose.casefold() == owner.casefold() else f"orgs/{joined(owner)}"
        try:
            return await self.api.ask(http, "POST", f"{root}/{below}/repos", body)
        except RefusedError as error:
            there = await self.get(http, address) if error.status in _EXISTS else None
            if there is not None:
                return there
            if isinstance(error, MissingError):
                told = (
                    f"{web_host(address)}: {owner} is neither the credential's own name ({whose}) nor an organisation"
                )
                raise DeniedError(
                    f"{told} in which it may create repositories; correct `to` or the credential"
                ) from error
            raise

    async def change(self, http: Fetches, address: Address, **changes: object) -> Document:
        """Change the repository's settings.

        Raises:
            MirrordError: the host did not.
        """
        # Gitee wants to be told the name with every change; the others take it for no change.
        return await self.api.ask(
            http, "PATCH", self._url(http, address), {"name": repository_of(address)[-1], **changes}
        )

    async def default_branch(self, http: Fetches, address: Address) -> str | None:
        """Return the default branch, None when there is no repository or no branch."""
        return text(await self.get(http, address), "default_branch")

    def _url(self, http: Fetches, address: Address) -> str:
        return f"{self.root(http, address)}/repos/{joined(*repository_of(address)[-2:])}"

    async def _login(self, http: Fetches, root: str, address: Address) -> str:
        """Return whose credential it is: `POST /user/repos` creates below that name, whatever was meant."""
        return needed(await self.api.ask(http, "GET", f"{root}/user"), web_host(address), "login")
