"""Issues of a repository at GitHub, Gitee or Gitea, by its API: read, answered, labelled and closed.

The token is that of an account of the mirror's own. It goes in a header: in the query, where Gitee's manual puts it,
logs and proxies find it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from mirrord.errors import ContentError, RefusedError, TooLargeError
from mirrord.wire.answers import identifier, mapping, needed, text
from mirrord.wire.forges.forge_api import ForgeApi
from mirrord.wire.forges.known import FORGES
from mirrord.wire.forges.owned import OwnerForge
from mirrord.wire.forges.port import joined, repository_of, web_host
from mirrord.wire.git.address import Address
from mirrord.wire.secret import Credential, Secret
from mirrord.wire.trust import api_owner

if TYPE_CHECKING:
    from mirrord.wire.http.client import Http

PAGES: Final = 16
"""The most pages of a list that are read at a time."""

BODY: Final = 20_000
"""Characters of an issue's text that are kept: hundreds are in memory at a time."""

_NUMBER: Final = re.compile(r"[A-Za-z0-9]{1,20}")
_ENTRIES: Final = 1000  # of one answer; Gitea has no pages of comments
_TOO_LARGE: Final = 20  # pages of one list that are halved, since they are too large
_EXISTS: Final = frozenset({400, 409, 422})
_GONE: Final = frozenset({404, 410})  # GitHub answers 410 of an issue that was deleted
_NEEDED: Final = "give the token's account the right to read and write issues of the repository"


@dataclass(frozen=True, slots=True)
class Issue:
    """An issue as it was read; every text is a stranger's.

    Attributes:
        number: `12`; Gitee's have letters: `I6ABCD`.
        title: one line.
        body: Markdown, "" for none; its first `BODY` characters.
        author: login of who opened it.
        open: whether it is open.
        labels: their names.
    """

    number: str
    title: str
    body: str
    author: str
    open: bool
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IssueComment:
    """One comment of an issue or a pull request: who wrote it, its Markdown, and its identifier, "" for none."""

    author: str
    body: str
    id: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Label:
    """A label of a repository: its name, six digits of a colour, and a description."""

    name: str
    color: str
    description: str


def valid_number(number: str) -> bool:
    """Whether a text may be the number of an issue, at any forge."""
    return _NUMBER.fullmatch(number) is not None


class Issues:
    """The issues of one repository; by itself, at GitHub.

    Every method raises `MirrordError` where the forge refuses, limits the rate (`ThrottledError.after` says until
    when) or cannot be reached. What writes is sent once: after a `TransportError` nobody knows whether it was done.
    """

    per_page: tuple[str, int] = ("per_page", 64)  # a power of two: see `_list`
    pulls = "issues"  # what comments of pull requests are below
    by_label = True
    filters: Mapping[str, str] = {"sort": "created", "direction": "asc"}

    def __init__(self, http: Http, forge: OwnerForge, address: Address, token: Secret) -> None:
        """Ask about a repository with a token; nothing is sent."""
        self._root = forge.api(http, address)
        self._words = repository_of(address)[-2:]
        self._url = f"{self._root}/repos/{joined(*self._words)}"
        headers = {**forge.headers, "Authorization": Credential("", token).token(forge.scheme)}
        self._api = ForgeApi(http, api_owner(web_host(address)), headers, _NEEDED)
        self.more = False

    async def login(self) -> str:
        """Return the login of the token's account."""
        return needed(await self._api.ask("GET", f"{self._root}/user"), self._api.host, "login")

    async def find(self, number: str) -> Issue | None:
        """Return an issue; None for none, for a pull request, and for one that was moved to another repository."""
        if not valid_number(number):
            return None
        try:
            found = self._issue(await self._api.ask("GET", f"{self._url}/issues/{number}"))
        except RefusedError as error:
            if error.status not in _GONE:
                raise
            return None
        return found if found and found.number.casefold() == number.casefold() else None

    async def opened(self, label: str, since: datetime | None, pages: int, first: int = 1) -> AsyncIterator[Issue]:
        """Yield the open issues, pull requests left out: at GitHub those with a label, the oldest first.

        Elsewhere strangers cannot set labels, so there they are all open ones, the newest first.

        Args:
            label: its name.
            since: only those that changed since then.
            pages: how many pages are read at most; `more` says whether the list goes on.
            first: number of the first of them, from 1 on.
        """
        query = {"state": "open", **({"labels": label} if self.by_label else {}), **self.filters}
        if since:
            query["since"] = f"{since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        async for one in self._list("issues", query, pages, first, smaller=True):
            if issue := self._issue(one):
                yield issue

    async def comments(self, number: str) -> AsyncIterator[IssueComment]:
        """Yield the comments of an issue, the oldest first."""
        async for one in self._comments(f"issues/{number}/comments"):
            yield one

    async def comment(self, number: str, body: str) -> None:
        """Write a comment in Markdown."""
        await self._api.ask("POST", f"{self._url}/issues/{number}/comments", {"body": body})

    async def comments_of_pull(self, number: str) -> AsyncIterator[IssueComment]:
        """Yield the comments of a pull request, the oldest first; not those of lines of its code."""
        async for one in self._comments(f"{self.pulls}/{number}/comments"):
            yield one

    async def comment_pull(self, number: str, body: str) -> None:
        """Write a comment into a pull request, in Markdown."""
        await self._api.ask("POST", f"{self._url}/{self.pulls}/{number}/comments", {"body": body})

    async def revise_in_pull(self, comment: str, body: str) -> None:
        """Write a comment of a pull request anew."""
        await self._api.ask("PATCH", f"{self._url}/{self.pulls}/comments/{comment}", {"body": body})

    async def close(self, issue: Issue, label: str, *, done: bool) -> None:
        """Add a label and close an issue, as completed or as not planned."""
        reason = "completed" if done else "not_planned"
        change = {"state": "closed", "state_reason": reason, "labels": _with(issue.labels, label)}
        await self._api.ask("PATCH", f"{self._url}/issues/{issue.number}", change)

    async def make_labels(self, labels: Iterable[Label]) -> None:
        """Make those labels that the repository has not: who sets a missing one may need more rights."""
        there = {(text(one, "name") or "").casefold() async for one in self._list("labels", {}, PAGES)}
        for label in labels:
            if label.name.casefold() not in there:
                try:
                    await self._api.ask("POST", f"{self._url}/labels", self._label(label))
                except RefusedError as error:
                    if error.status not in _EXISTS:
                        raise

    def _label(self, label: Label) -> Mapping[str, str]:
        return {"name": label.name, "color": label.color, "description": label.description}

    def _issue(self, document: object) -> Issue | None:
        """Read an issue; None for a pull request, which is an issue for some of the APIs."""
        found = mapping(document)
        if found.get("pull_request"):
            return None
        number, labels = needed(found, self._api.host, "number"), found.get("labels")
        names = (text(one, "name") for one in (labels if isinstance(labels, list) else ()))
        return Issue(
            number,
            text(found, "title") or "",
            (text(found, "body") or "")[:BODY],
            text(found, "user", "login") or "",
            found.get("state") == "open",
            tuple(filter(None, names)),
        )

    async def _comments(self, path: str) -> AsyncIterator[IssueComment]:
        async for one in self._list(path, {}, PAGES):
            yield IssueComment(text(one, "user", "login") or "", text(one, "body") or "", identifier(one))

    async def _list(
        self, path: str, query: Mapping[str, str], pages: int, first: int = 1, *, smaller: bool = False
    ) -> AsyncIterator[object]:
        """Yield the entries of a list, page by page.

        With `smaller`, halves are asked for in place of a page that is too large to be read, as strangers may make
        one, down to single entries; one that is too large by itself is left out. Of very many, whole pages are, and
        the error follows behind all that could be read. Afterwards `more` says whether the list goes on.
        """
        name, size = self.per_page
        waiting, left = deque((page, size) for page in range(first, first + pages)), _TOO_LARGE
        lost: TooLargeError | None = None
        self.more = True
        while waiting:
            page, size = waiting.popleft()
            url = f"{self._url}/{path}?{urlencode({**query, name: size, 'page': page})}"
            try:
                found = await self._api.entries(url)
            except TooLargeError as error:
                if not smaller:
                    raise
                if size > 1 and left:
                    left -= 1
                    waiting.extendleft(((2 * page, size // 2), (2 * page - 1, size // 2)))
                elif size > 1:
                    lost = error
                continue
            for one in found[:_ENTRIES]:
                yield one
            if len(found) != size:
                self.more = False
                break
        if lost:
            raise lost


class GiteeIssues(Issues):
    """At Gitee: the repository is in the body of a change, labels are one text, and strangers cannot set them."""

    pulls = "pulls"
    by_label = False
    filters: Mapping[str, str] = {"sort": "created", "direction": "desc"}

    async def close(self, issue: Issue, label: str, *, done: bool) -> None:  # noqa: ARG002 - its labels say that
        """Add a label and close an issue."""
        owner, name = self._words
        labels = ",".join(_with(issue.labels, label))
        change = {"repo": name, "state": "closed", "labels": labels}
        await self._api.ask("PATCH", f"{self._root}/repos/{joined(owner)}/issues/{issue.number}", change)

    def _label(self, label: Label) -> Mapping[str, str]:
        return {"name": label.name, "color": label.color}


class GiteaIssues(Issues):
    """At Gitea and Forgejo: labels are set by a request of their own; strangers cannot set them."""

    by_label = False
    per_page = ("limit", 32)
    filters: Mapping[str, str] = {"type": "issues"}

    async def close(self, issue: Issue, label: str, *, done: bool) -> None:  # noqa: ARG002 - as above
        """Add a label, and close an issue."""
        await self._api.ask("POST", f"{self._url}/issues/{issue.number}/labels", {"labels": [label]})
        await self._api.ask("PATCH", f"{self._url}/issues/{issue.number}", {"state": "closed"})

    def _label(self, label: Label) -> Mapping[str, str]:
        return {**super()._label(label), "color": f"#{label.color}"}


_KINDS: Final[Mapping[str, type[Issues]]] = {"github": Issues, "gitee": GiteeIssues, "gitea": GiteaIssues}


def issues_of(http: Http, forge: str, address: Address, token: Secret) -> Issues:
    """Return the issues of a repository at a forge, one of `github`, `gitee` and `gitea`."""
    known = FORGES[forge]
    if not isinstance(known, OwnerForge):
        raise ContentError(f"{forge}: its issues cannot be read; write github, gitee or gitea")
    return _KINDS[forge](http, known, address, token)


def _with(labels: Sequence[str], label: str) -> list[str]:
    return list(dict.fromkeys((*labels, label)))
