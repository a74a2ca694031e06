"""Coding (e.coding.net): one endpoint for everything, whose errors come with status 200; it ends in September 2028."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from mirrord.errors import ContentError, DeniedError, DigestError, MissingError, RefusedError, TooLargeError
from mirrord.wire.answers import mapping, number, text
from mirrord.wire.forges import port
from mirrord.wire.forges.page import Page, RepositoryFile, page
from mirrord.wire.git.address import Address
from mirrord.wire.http.message import CAPS
from mirrord.wire.offload import offload
from mirrord.wire.secret import redact

if TYPE_CHECKING:
    from mirrord.wire.api import Document
    from mirrord.wire.http.client import Http

_DOMAIN: Final = "coding.net"
_FILES: Final = frozenset({"files", "raw", "tree", "blob"})
_PAGE: Final = 100  # projects a request
_PAGES: Final = 50
_GONE: Final = re.compile(r"not.?found|no(?:t|n).?exist|不存在", re.IGNORECASE)
_DENIED: Final = re.compile(r"auth|permission|unauthorized|forbidden|权限|令牌", re.IGNORECASE)
_THERE: Final = re.compile(r"exist|duplicate|已存在|重复", re.IGNORECASE)


def _decoded(content: str, found: Document, what: str, cap: int) -> bytes:
    """Return the bytes of a file, held against the digests that the answer has of them."""
    try:
        data = base64.b64decode(content, validate=True)
    except ValueError as error:
        raise ContentError(f"{what}: what the API sends is not base64") from error
    if len(data) > cap:
        raise TooLargeError(f"{what}: has more than {cap} bytes, which is the most")
    digests = {text(found, "ContentSha256"), text(found, "Sha")} - {None}
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
    if digests and digests.isdisjoint({hashlib.sha256(data).hexdigest(), blob.hexdigest()}):
        raise DigestError(f"{what}: the API sends other bytes than it has the digests of")
    return data


class Coding(port.Forge):
    """Repositories called `TEAM/PROJECT/NAME`; its pages are at TEAM.coding.net."""

    name = "coding"
    hosts = ("e.coding.net",)
    form = "TEAM/PROJECT/NAME"
    creates = True
    switches = True
    scheme = "token"
    hints = port.refusals(
        (
            r"force push|强制推送|DenyForcePush|non-fast-forward",
            "switch `deny force push` off in the repository's push settings",
        ),
        (
            r"CheckCommitAuthor|commit author|提交者|作者",
            "switch the check of commit authors off in the repository's push settings",
        ),
        (r"protected branch|保护分支", "let the token's owner push to the protected branch"),
        (r"RPC failed|HTTP 413", "the push is too large for one request; use ssh://git@e.coding.net/… for this target"),
        (r"exceeds|超出|容量", "the team's storage is used up; Coding frees it two weeks after a deletion"),
        (
            r"AuthFailure|Authentication failed|令牌|status 401",
            "give the token `project:depot`; look at its expiry and IP list too",
        ),
    )

    def fits(self, address: Address) -> bool:
        """Whether it is `TEAM/PROJECT/NAME`."""
        return len(port.repository_of(address)) == 3

    def raw_url(self, address: Address, file: Page) -> str | None:
        """Return the raw URL at the team's host; since 2022 it wants a login even for public repositories."""
        host = port.web_host(address)
        if not (self.fits(address) and host.startswith("e.")):
            return None
        team, project, name = port.repository_of(address)
        rest = port.joined("p", project, "d", name, "git/raw", *file.words)
        return f"https://{team}.{host.removeprefix('e.')}/{rest}?download=false"

    def page_of(self, host: str, words: tuple[str, ...]) -> Page | None:
        """Read `/public/PROJECT/NAME/git/files/…` and `/p/PROJECT/d/NAME/git/raw|tree/…` of a team, and clone URLs."""
        if not host.endswith(f".{_DOMAIN}"):
            return None
        if host in self.hosts:
            return page(host, words[:3])
        team = host.removesuffix(f".{_DOMAIN}")
        if words[:1] == ("public",):
            project, name, rest = words[1:2], words[2:3], words[3:]
        elif words[:1] == ("p",) and words[2:3] == ("d",):
            project, name, rest = words[1:2], words[3:4], words[4:]
        else:
            return None
        named = (team, *(project or ("",)), *(name or ("",)))
        file = rest[2:] if rest[:1] == ("git",) and _FILES.intersection(rest[1:2]) else ()
        return page(self.hosts[0], named, file)

    async def create(self, http: Http, address: Address, visibility: str, description: str) -> str:
        """Make the repository in its project, which has to be there."""
        project, name = await self._project(http, address), port.repository_of(address)[-1]
        shared = visibility == "public"
        try:
            await self._act(
                http, address, "CreateGitDepot",
                ProjectId=project, DepotName=name, Description=description, Shared=shared,
            )  # fmt: skip
        except RefusedError as error:
            if not _THERE.search(str(error)) or await self.look_up(http, address) is None:
                raise
        return ""

    async def default_branch(self, http: Http, address: Address) -> str | None:
        """Return the default branch."""
        try:
            path = "/".join(port.repository_of(address))
            return text(await self._act(http, address, "DescribeDepotDefaultBranch", DepotPath=path), "BranchName")
        except MissingError:
            return None

    async def set_default_branch(self, http: Http, address: Address, branch: str) -> None:
        """Make `branch` the default one; Coding requires the number of the user."""
        host = port.web_host(address)
        depot = await self.look_up(http, address)
        if depot is None:
            raise MissingError(f"{host}: there is no repository {'/'.join(port.repository_of(address))}")
        user = await self._act(http, address, "DescribeCodingCurrentUser")
        numbers: dict[str, Any] = {"DepotId": number(depot, host, "Id"), "UserId": number(user, host, "User", "Id")}
        await self._act(http, address, "ModifyDefaultBranch", BranchName=branch, **numbers)

    async def _project(self, http: Http, address: Address) -> int:
        """Return the number of the project; the search finds every one whose name begins so, page by page."""
        project = port.repository_of(address)[1]
        for page_number in range(1, _PAGES + 1):
            wanted: dict[str, Any] = {"ProjectName": project, "PageNumber": page_number, "PageSize": _PAGE}
            answer = await self._act(http, address, "DescribeCodingProjects", **wanted)
            listed = mapping(answer.get("Data")).get("ProjectList")
            listed = listed if isinstance(listed, list) else []
            for one in listed:
                if text(one, "Name") == project:
                    return number(one, port.web_host(address), "Id")
            if len(listed) < _PAGE:
                break
        what = f"{port.web_host(address)}: the token sees no project {project!r}"
        raise MissingError(f"{what}; make it at Coding, or give the token access to it")

    async def look_up(self, http: Http, address: Address) -> Document | None:
        """Ask for the repository by team, project and name."""
        team, project, name = port.repository_of(address)
        try:
            answer = await self._act(
                http, address, "DescribeDepotByNameInfo", TeamGk=team, ProjectName=project, DepotName=name
            )
        except MissingError:
            return None
        depot = mapping(answer.get("Depot"))
        return depot if text(depot, "Id") else None

    async def read_file(self, http: Http, address: Address, file: RepositoryFile, cap: int) -> bytes:
        """Return the bytes of a file by `DescribeGitFile`: the raw URL wants a person's login, and takes no token."""
        host = port.web_host(address)
        depot = await self.look_up(http, address)
        if depot is None:
            raise MissingError(f"{host}: the token sees no repository {'/'.join(port.repository_of(address))}")
        arguments: dict[str, Any] = {
            "DepotId": number(depot, host, "Id"),
            "Path": file.path,
            "Ref": port.short(file.ref),
        }
        answer = await self._act(http, address, "DescribeGitFile", cap=2 * cap, **arguments)
        found = mapping(answer.get("GitFile"))
        content = found.get("Content")
        if not isinstance(content, str) or text(found, "Encoding") not in (None, "base64"):
            raise ContentError(f"{host}: DescribeGitFile: the answer has no content in base64; has the API changed?")
        return await offload(len(content), _decoded, content, found, f"{host}: {file.path}", cap)

    async def _act(
        self, http: Http, address: Address, action: str, *, cap: int = CAPS.page, **arguments: object
    ) -> Document:
        """Carry out one action, and find the error in an answer that calls itself a success."""
        host = port.web_host(address)
        url = f"{port.api_base(http, address)}/open-api?Action={action}"
        document = {"Action": action, **arguments}
        said = await self.ask(http, "POST", url, document, once=action.startswith("Create"), cap=cap)
        answer = mapping(said.get("Response"))
        if "Error" in answer:
            code, words = text(answer, "Error", "Code") or "", text(answer, "Error", "Message") or ""
            what, hint = f"{host}: {action}: {code}: {words}"[:900], self.explain(f"{code} {words}")
            kinds = ((_GONE, MissingError), (_DENIED, DeniedError))
            kind = next((kind for pattern, kind in kinds if pattern.search(f"{code} {words}")), RefusedError)
            raise kind(redact(f"{what}; {hint}" if hint else what))
        if not answer:
            raise ContentError(f"{host}: {action}: the answer has no Response; has the API changed?")
        return answer
