"""Gitea and Forgejo: GitHub's API under `/api/v1`, on any host, also below a path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mirrord.wire.forges import port
from mirrord.wire.forges.owned import OwnerForge
from mirrord.wire.git.address import Address

if TYPE_CHECKING:
    from mirrord.wire.http.client import Http

HOSTS: Final = ("gitea.com", "codeberg.org")
_FILES: Final = frozenset({"src", "raw", "media", "blame"})
_KINDS: Final = frozenset({"branch", "tag", "commit"})


class Gitea(OwnerForge):
    """Repositories called `OWNER/NAME`, or `PATH/OWNER/NAME` where the server lives below a path."""

    name = "gitea"
    scheme = "token"
    raw = "raw/{kind}"
    hints = port.refusals(
        (
            r"is the default branch and cannot be deleted",
            "it is switched first when `host: gitea` and the token allow it",
        ),
        (r"protected from deletion", "remove the branch's protection at the host, or delete the branch there"),
        (r"protected from (?:unverified|changing)", "switch this rule off in the branch's protection"),
        (r"tag \S+ is protected", "let the mirror's account write it under protected tags"),
        (
            r"protected from force push|protected branch|Not allowed to (?:force-)?push",
            "let the mirror's account force-push in the branch's protection",
        ),
        (
            r"required scope|does not have at least one of required scope",
            "give the token read and write for repositories",
        ),
        (r"reached (?:the|your) limit|quota", "the owner has no room for more; ask the host's administrator"),
        (r"token is required|invalid username, password or token|status 401", "the token is wrong; make a new one"),
    )

    def api(self, http: Http, address: Address) -> str:
        """Return the URL of its API."""
        *below, _, _ = port.repository_of(address)
        return f"{port.api_base(http, address)}/{port.joined(*below, 'api/v1')}"

    def fits(self, address: Address) -> bool:
        """Whether it is `OWNER/NAME`, perhaps below a path."""
        return len(port.repository_of(address)) >= 2

    def page_of(self, host: str, words: tuple[str, ...]) -> port.Page | None:
        """Read the URL of a file or a raw file on any host, told by its form; of a repository on known hosts."""
        if len(words) > 4 and words[2] in _FILES and words[3] in _KINDS:
            return port.page(host, words[:2], words[4:], words[3])
        return port.page(host, words[:2]) if host in HOSTS else None
