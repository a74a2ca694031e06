"""A host of which nothing is known but that it speaks Git."""

from __future__ import annotations

from typing import Final

from mirrord.errors import UnsupportedError
from mirrord.wire.forges.api import Fetches
from mirrord.wire.forges.port import Page, explained, hints, repository_of, web_host
from mirrord.wire.git.address import Address

_HINTS: Final = hints(
    (r"deny updating a hidden ref", "the host keeps this ref to itself; take it out with `refs:`"),
    (r"deletion of the current branch prohibited|refusing to delete the current branch", "switch its HEAD first"),
    (r"denying non-fast-forward", "set `receive.denyNonFastForwards=false` there: a mirror follows forced pushes"),
    (r"deletion prohibited|denying ref deletion", "set `receive.denyDeletes=false` there: a mirror follows deletions"),
    (r"pack exceeds maximum allowed size", "raise `receive.maxInputSize` there"),
)


class Plain:
    """Any Git server; nothing can be asked of it, only pushed."""

    name: Final = "plain"
    form: Final = "PATH"
    creates: Final = False
    switches: Final = False

    def fits(self, address: Address) -> bool:
        """Whether there is a path."""
        return repository_of(address) != ("",)

    def raw_url(self, address: Address, ref: str, path: str) -> str | None:  # noqa: ARG002 - the port's signature
        """Return None: such a host has no pages."""
        return None

    def parse_page(self, url: str) -> Page | None:  # noqa: ARG002 - the port's signature
        """Return None: such a host has no pages."""
        return None

    def explain(self, text: str) -> str | None:
        """Return the next step for what git itself refuses on the other side."""
        return explained(text, _HINTS)

    async def exists(self, http: Fetches, address: Address) -> bool | None:  # noqa: ARG002 - the port's signature
        """Return None: only Git can tell."""
        return None

    async def create(self, http: Fetches, address: Address, visibility: str, description: str) -> str:  # noqa: ARG002 - the port's signature
        """Say that somebody else has to.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(f"{web_host(address)}: make the repository there, or say which kind of `host:` it is")

    async def default_branch(self, http: Fetches, address: Address) -> str | None:  # noqa: ARG002 - the port's signature
        """Return None: only Git can tell."""
        return None

    async def set_default_branch(self, http: Fetches, address: Address, branch: str) -> None:  # noqa: ARG002 - the port's signature
        """Say that somebody else has to.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(f"{web_host(address)}: set the default branch there to {branch}; Git alone cannot")
