"""GitHub, Gitee and Gitea, which share an API: repositories below users and organisations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from mirrord.errors import DeniedError, MissingError, RefusedError, UsageError
from mirrord.wire.answers import needed
from mirrord.wire.forges import port
from mirrord.wire.forges.page import Page, page
from mirrord.wire.git.address import Address

if TYPE_CHECKING:
    from mirrord.wire.api import Document
    from mirrord.wire.http.client import Http

_EXISTS: Final = frozenset({400, 409, 422})
_RAW_HOSTS: Final = frozenset({"raw.githubusercontent.com", "raw.github.com", "raw.gitmirror.com"})
_DELIVERY: Final = frozenset({"cdn.jsdelivr.net", "fastly.jsdelivr.net", "gcore.jsdelivr.net"})
_VERSION: Final = re.compile(r"v?[0-9]+\.[0-9].*")
_SHORT_COMMIT: Final = re.compile(r"(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{7,39}")


class OwnerForge(port.Forge):
    """Repositories that are called `OWNER/NAME`.

    Attributes:
        pages: hosts of its pages, the one where repositories are cloned first.
        files: what stands between repository and ref in the URL of a file's page.
        extra: settings of a new repository besides its name, visibility and description.
    """

    form = "OWNER/NAME"
    creates = True
    switches = True
    raw = "raw"
    pages: tuple[str, ...] = ()
    files: frozenset[str] = frozenset()
    extra: Mapping[str, object] = {}

    def api(self, http: Http, address: Address) -> str:
        """Return the URL of the API, without a slash at its end."""
        raise LookupError(f"{self.name} has no API at {port.web_host(address)}, or {http.book} does not know it")

    def fits(self, address: Address) -> bool:
        """Whether it is `OWNER/NAME`."""
        return len(port.repository_of(address)) == 2

    def page_of(self, host: str, words: tuple[str, ...]) -> Page | None:
        """Read a page of a repository, or of a file."""
        if host not in self.pages:
            return None
        return page(self.pages[0], words[:2], words[3:] if words[2:3] and words[2] in self.files else ())

    def file_url(self, http: Http, address: Address, commit: str, path: str) -> str:
        """Return the URL of the raw API of Gitee and Gitea; it is given a commit, since Gitea takes any other word."""
        return f"{self._url(http, address)}/raw/{port.joined(path)}?ref={commit}"

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
        owner, name = port.repository_of(address)[-2:]
        body = {"name": name, "private": private, "description": description, "auto_init": False, **self.extra}
        # `POST /user/repos` creates below the credential's own name, whatever was meant.
        login = needed(await self.ask(http, "GET", f"{root}/user"), port.web_host(address), "login")
        below = "user" if login.casefold() == owner.casefold() else f"orgs/{port.joined(owner)}"
        try:
            return await self.ask(http, "POST", f"{root}/{below}/repos", body)
        except RefusedError as error:
            existing = await self.look_up(http, address) if error.status in _EXISTS else None
            if existing is not None:
                return existing
            if isinstance(error, MissingError):
                raise DeniedError(
                    f"{port.web_host(address)}: {owner} is neither the credential's own name ({login}) nor an"
                    " organisation in which it may create repositories; correct `to` or the credential"
                ) from error
            raise

    async def change(self, http: Http, address: Address, **changes: object) -> Document:
        """Change the repository's settings."""
        # Gitee requires the name with every change; for the others it changes nothing.
        body = {"name": port.repository_of(address)[-1], **changes}
        return await self.ask(http, "PATCH", self._url(http, address), body)

    async def set_default_branch(self, http: Http, address: Address, branch: str) -> None:
        """Make `branch` the default one."""
        await self.change(http, address, default_branch=branch)

    def _url(self, http: Http, address: Address) -> str:
        return f"{self.api(http, address)}/repos/{port.joined(*port.repository_of(address)[-2:])}"


class GitHub(OwnerForge):
    """Repositories called `OWNER/NAME` at github.com or a GitHub Enterprise Server."""

    name = "github"
    hosts = pages = ("github.com",)
    files = frozenset({"blob", "raw", "blame", "edit", "commits"})
    headers: Mapping[str, str] = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
    file_headers: Mapping[str, str] = {**headers, "Accept": "application/vnd.github.raw+json"}
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
        at_github = port.web_host(address) in self.hosts
        return "https://api.github.com" if at_github else f"{port.api_base(http, address)}/api/v3"

    def file_url(self, http: Http, address: Address, commit: str, path: str) -> str:
        """Return the URL of the contents API, which sends bytes when it is asked for `raw` (100 MB at most)."""
        return f"{self._url(http, address)}/contents/{port.joined(path)}?ref={commit}"

    def raw_url(self, address: Address, file: Page) -> str | None:
        """Return the URL at raw.githubusercontent.com, or below the repository on another host."""
        if port.web_host(address) in self.hosts:
            return f"https://raw.githubusercontent.com/{port.joined(*port.repository_of(address), *file.full)}"
        return super().raw_url(address, file)

    def raw_words(self, file: Page) -> tuple[str, ...]:
        """Return full names where the page says which kind of ref it is: a branch and a tag may have one name."""
        return file.full

    def page_of(self, host: str, words: tuple[str, ...]) -> Page | None:
        """Read a page of a repository, a file, or a raw file, also at mirrors of GitHub that write it in their way."""
        if host in _RAW_HOSTS:
            return page(self.pages[0], words[:2], words[2:])
        if host in _DELIVERY and words[0] == "gh":
            name, _, ref = "".join(words[2:3]).partition("@")
            if not ref:
                raise UsageError(f"{host}: the URL names no branch or tag; write /gh/OWNER/NAME@REF/PATH")
            return page(self.pages[0], (*words[1:2], name), (ref, *words[3:]))
        return super().page_of(host, words)


class Gitee(OwnerForge):
    """Gitee: the API under `/api/v5`, and public repositories only after a review."""

    name = "gitee"
    hosts = ("gitee.com",)
    pages = ("gitee.com", "raw.giteeusercontent.com")  # there it asks for a login above about 1 MB
    files = frozenset({"blob", "raw", "blame", "edit"})
    # Its manual puts the token into the query, where logs and proxies find it; the header does as well.
    extra: Mapping[str, object] = {"has_issues": False, "has_wiki": False}
    hints = port.refusals(
        (r"token username invalid", "write the name of the token's owner as `username` under hosts:"),
        (
            r"repository size exceeds|exceeds 1024\.00 MB",
            "the repository is over Gitee's limit; take large branches out with `refs:`, or ask Gitee for more",
        ),
        (r"file size.{0,40}(limit|exceed)|\bfile: .{1,200} exceeds [0-9]", "a file is over Gitee's limit for one file"),
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


class Gitea(OwnerForge):
    """Gitea and Forgejo: the API under `/api/v1`, on any host, also below a path (`PATH/OWNER/NAME`)."""

    name = "gitea"
    hosts = ("gitea.com", "codeberg.org")
    files = frozenset({"src", "raw", "media", "blame"})
    scheme = "token"
    raw = "raw"
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

    def raw_words(self, file: Page) -> tuple[str, ...]:
        """Return ref and path behind `branch`, `tag` or `commit`.

        Where the page does not say which it is: what looks like a version is a tag or a branch, and Gitea redirects
        from the URL without the word to the one that is there; all else is a branch.
        """
        first = file.words[0] if file.words else ""
        if file.commit or (not file.kind and _SHORT_COMMIT.fullmatch(first)):
            return ("commit", *file.words)
        if not file.kind and _VERSION.fullmatch(first):
            return file.words
        return (file.kind or "branch", *file.words)

    def page_of(self, host: str, words: tuple[str, ...]) -> Page | None:
        """Read the URL of a file or a raw file on any host, recognised by its form; of a repository on known hosts."""
        if len(words) > 4 and words[2] in self.files and words[3] in ("branch", "tag", "commit"):
            return page(host, words[:2], words[4:], words[3])
        return page(host, words[:2]) if host in self.hosts else None
