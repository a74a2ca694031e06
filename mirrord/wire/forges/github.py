"""GitHub, and GitHub Enterprise Server on hosts of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from mirrord.wire.forges import port
from mirrord.wire.forges.owned import OwnerForge
from mirrord.wire.git.address import Address

if TYPE_CHECKING:
    from mirrord.wire.http.client import Http

HOST: Final = "github.com"
_RAW: Final = ("raw.githubusercontent.com", "raw.github.com")
_FILES: Final = frozenset({"blob", "raw", "tree", "blame", "edit", "commits"})


class GitHub(OwnerForge):
    """Repositories called `OWNER/NAME` at github.com or a GitHub Enterprise Server."""

    name = "github"
    headers: Mapping[str, str] = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
    # A mirror has no use for them.
    extra: Mapping[str, object] = {"has_issues": False, "has_projects": False, "has_wiki": False}
    hints = port.refusals(
        (r"workflow.{0,40}scope|refusing to allow .{0,60}workflow", "give the token the scope `workflow`"),
        (r"GH001|exceeds GitHub's file size limit", "a file is larger than 100 MB; GitHub takes it with Git LFS only"),
        (r"GH008|unknown Git LFS objects?", "its LFS objects are not there; leave `lfs: true` for this mirror"),
        (
            r"GH006|GH013|protected branch|rule violations",
            "let the mirror's account bypass the branch's rules, force pushes too",
        ),
        (r"secondary rate limit|rate limit exceeded", "the token has asked too often; lower `requests` for the host"),
        (r"SAML|single sign-on", "authorise the token for the organisation's single sign-on"),
        (
            r"Resource not accessible|Must have admin rights",
            "give the token Administration and Contents: read and write",
        ),
        (r"Bad credentials|status 401", "the token is wrong or has expired; make a new one"),
    )

    def api(self, http: Http, address: Address) -> str:
        """Return the URL of its API."""
        return "https://api.github.com" if port.web_host(address) == HOST else f"{port.api_base(http, address)}/api/v3"

    def raw_url(self, address: Address, ref: str, path: str) -> str | None:
        """Return the URL at raw.githubusercontent.com, or below the repository on another host."""
        words = port.repository_of(address)
        if port.web_host(address) == HOST:
            return f"https://{_RAW[0]}/{port.joined(*words, port.short(ref), path)}"
        return super().raw_url(address, ref, path)

    def page_of(self, host: str, words: tuple[str, ...]) -> port.Page | None:
        """Read a page of a repository, a file, or a raw file."""
        if host in _RAW:
            return port.page(HOST, words[:2], words[2:])
        if host != HOST:
            return None
        return port.page(HOST, words[:2], words[3:] if words[2:3] and words[2] in _FILES else ())
