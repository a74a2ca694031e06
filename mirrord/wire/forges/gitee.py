"""Gitee: GitHub's API under `/api/v5`, and public repositories only after a review."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from mirrord.errors import RefusedError
from mirrord.wire.forges import port
from mirrord.wire.forges.owned import OwnerForge
from mirrord.wire.git.address import Address

if TYPE_CHECKING:
    from mirrord.wire.http.client import Http

HOST: Final = "gitee.com"
_RAW: Final = "raw.giteeusercontent.com"
_FILES: Final = frozenset({"blob", "raw", "tree", "blame", "edit"})


class Gitee(OwnerForge):
    """Repositories called `OWNER/NAME`."""

    name = "gitee"
    # Its manual puts the token into the query, where logs and proxies find it; the header does as well.
    extra: Mapping[str, object] = {"has_issues": False, "has_wiki": False}
    hints = port.refusals(
        (r"token username invalid", "write the name of the token's owner as `username` under hosts:"),
        (
            r"repository size exceeds|exceeds 1024\.00 MB",
            "the repository is over Gitee's limit; take large branches out with `refs:`, or ask Gitee for more",
        ),
        (r"file size.{0,40}(limit|exceed)", "a file is over Gitee's limit for one file"),
        (
            r"reject by mode|protected branch|保护分支",
            "open the branch for force pushes in the repository's branch settings",
        ),
        (r"real-?name|实名|身份认证|认证身份", "Gitee wants the account to prove its real name first"),
        (r"content review|review|审核", "Gitee reviews the repository; until that is done it stays private"),
        (r"frozen|已被冻结", "Gitee has frozen the repository; ask its support"),
        (
            r"401 Unauthorized|Access token|status 401",
            "the token is wrong or has expired; make one with `projects` at Gitee",
        ),
    )

    def api(self, http: Http, address: Address) -> str:
        """Return the URL of its API."""
        return f"{port.api_base(http, address)}/api/v5"

    def page_of(self, host: str, words: tuple[str, ...]) -> port.Page | None:
        """Read a page of a repository, a file, or a raw file (Gitee asks for a login above about 1 MB)."""
        if host not in (HOST, _RAW):
            return None
        return port.page(HOST, words[:2], words[3:] if words[2:3] and words[2] in _FILES else ())

    async def create(self, http: Http, address: Address, visibility: str, description: str) -> str:
        """Make the repository; a public one begins private, and is then asked to become public."""
        made = await self.make(http, address, private=True, description=description)
        if visibility != "public" or made.get("private") is False:
            return ""
        try:
            changed = await self.change(http, address, private=False)
        except RefusedError as error:
            return f"it is private for now; make it public at Gitee ({error})"
        return "" if changed.get("private") is False else "it is private until Gitee has reviewed it"
