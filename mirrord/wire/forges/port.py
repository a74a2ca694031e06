"""What a host of Git repositories offers besides Git itself; one small module for each kind of host."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from mirrord.errors import ContentError, MissingError, RefusedError, UnsupportedError
from mirrord.wire import advice
from mirrord.wire.answers import text
from mirrord.wire.forges.page import Page, RepositoryFile
from mirrord.wire.git.address import Address
from mirrord.wire.git.refs import HEADS, TAGS
from mirrord.wire.http.message import CAPS
from mirrord.wire.trust import scheme_of

if TYPE_CHECKING:
    from mirrord.wire.api import Document
    from mirrord.wire.http.client import Http

_SSH_HOSTS = {"ssh.github.com": "github.com", "altssh.gitlab.com": "gitlab.com"}  # where they take SSH on port 443
_PORT = re.compile(r":\d+\Z")
_WEB_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*+<(?:!doctype\s++html|html)\b", re.IGNORECASE)
_WEB_NAMES = (".html", ".htm", ".xhtml", ".shtml")

Hints = tuple[tuple[re.Pattern[str], str], ...]


def refusals(*rows: tuple[str, str]) -> Hints:
    """Make a table of hints: what a host says (a pattern, case does not count), and what to do about it."""
    return tuple((re.compile(pattern, re.IGNORECASE), hint) for pattern, hint in rows)


class Forge:
    """One kind of host; by itself, a server that speaks Git and nothing else. Stateless.

    Attributes:
        name: the word in `host:`.
        hosts: that are known to be of this kind.
        form: how its repositories are called, for people: `OWNER/NAME`.
        creates: whether a missing repository can be made by its API.
        switches: whether the default branch can be set by its API.
        raw: what stands between repository and ref in the URL of a raw file.
        hints: next steps for what it refuses, on pushes and by its API.
        scheme: the word before the token in `Authorization`.
        headers: sent with every request to its API.
        file_headers: sent instead when it is asked for the bytes of a file.
    """

    name = "plain"
    hosts: tuple[str, ...] = ()
    form = "PATH"
    creates = False
    switches = False
    raw = ""
    hints: Hints = refusals(
        (r"deny updating a hidden ref", "the host keeps this ref to itself; take it out with `refs:`"),
        (
            r"deletion of the current branch prohibited|refusing to delete the current branch",
            "another branch must be the default one first: switch HEAD there",
        ),
        (
            r"denying non-fast-forward",
            "set `receive.denyNonFastForwards=false` there: a mirror follows forced pushes",
        ),
        (
            r"deletion prohibited|denying ref deletion",
            "set `receive.denyDeletes=false` there: a mirror follows deletions",
        ),
        (r"pack exceeds maximum allowed size", "raise `receive.maxInputSize` there"),
    )
    scheme = "Bearer"
    file_headers: Mapping[str, str] = {}
    headers: Mapping[str, str] = {"Accept": "application/json"}

    # Pure

    def fits(self, address: Address) -> bool:
        """Whether an address has the form of this host's repositories."""
        return repository_of(address) != ("",)

    def raw_url(self, address: Address, file: Page) -> str | None:
        """Return the URL in this repository of the file that a page shows, or None where there is none."""
        if not self.raw:
            return None
        scheme = "http" if address.scheme == "http" else "https"
        return f"{scheme}://{web_host(address)}/{joined(*repository_of(address), self.raw, *self.raw_words(file))}"

    def raw_words(self, file: Page) -> tuple[str, ...]:
        """Return ref and path as they stand in the URL of a raw file; by itself, the short name of a branch or tag."""
        return file.words

    def parse_page(self, url: str) -> Page | None:
        """Read a page, raw or clone URL of this host; None for another host's.

        Raises:
            MirrordError: it is this host's, and names no repository that can be cloned.
        """
        try:
            parts = urlsplit(url)
            port = "" if parts.port in (None, 80, 443) else f":{parts.port}"
        except ValueError:
            return None
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            return None  # no browser would open it
        # Fragment and query (`?raw=true`, `#L10`) are dropped, but for what GitLab says there of the ref.
        words = tuple(map(unquote, parts.path.strip("/").split("/")))
        found = self.page_of(parts.hostname.removeprefix("www.") + port, words)
        kind = {"heads": "branch", "tags": "tag"}.get(dict(parse_qsl(parts.query)).get("ref_type", ""), "")
        return replace(found, kind=kind) if found and found.words and not found.kind and kind else found

    def page_of(self, host: str, words: tuple[str, ...]) -> Page | None:  # noqa: ARG002 - for those that have pages
        """Read a URL that was taken apart; see `parse_page`."""
        return None

    def explain(self, text: str) -> str | None:
        """Return the next step for a refusal that this host is known for, or None, also where an error has its own."""
        if advice.OWN_AUTH in text:  # nothing was sent, so no token is wrong
            return None
        return next((hint for pattern, hint in self.hints if pattern.search(text)), None)

    # By its API

    async def exists(self, http: Http, address: Address) -> bool | None:
        """Ask whether the repository is there; None: the host cannot be asked."""
        return await self.look_up(http, address) is not None if self.creates else None

    async def look_up(self, http: Http, address: Address) -> Document | None:  # noqa: ARG002 - for those that have an API
        """Return what the host says of the repository, or None when there is none that we may see.

        Asked for by its name: hosts list repositories in pages, and a list that was refused looks like an empty one.
        """
        return None

    async def create(self, http: Http, address: Address, visibility: str, description: str) -> str:  # noqa: ARG002 - for those that have an API
        """Make the repository, empty; one that is there already is left alone. Return what people should know, or "".

        Raises:
            DeniedError: the credential is missing or not enough.
            MirrordError: it could not be made.
        """
        raise UnsupportedError(f"{web_host(address)}: make the repository there, or say which kind of `host:` it is")

    async def default_branch(self, http: Http, address: Address) -> str | None:
        """Return the short name of the default branch, or None when there is none or the host cannot be asked."""
        return text(await self.look_up(http, address), "default_branch")

    async def set_default_branch(self, http: Http, address: Address, branch: str) -> None:  # noqa: ARG002 - for those that have an API
        """Make `branch` (short name) the default one; it has to be there.

        Raises:
            MirrordError: the host did not.
        """
        raise UnsupportedError(f"{web_host(address)}: set the default branch there to {branch}; Git alone cannot")

    async def ask(
        self,
        http: Http,
        method: str,
        url: str,
        body: Document | None = None,
        *,
        once: bool | None = None,
        cap: int = CAPS.page,
    ) -> Document:
        """Ask the API; a refusal comes with the next step, when it is known. By default, no POST is sent twice.

        A request whose answer was lost may have made a repository; callers that create one look again.

        Raises:
            MirrordError: as `mirrord.wire.api.ask`.
        """
        from mirrord.wire.api import ask  # noqa: PLC0415 - httpx takes 0.1 s to load, and most runs ask no API

        with self._advised():
            return await ask(
                http, method, url, body,
                scheme=self.scheme, headers=self.headers, once=method == "POST" if once is None else once, cap=cap,
            )  # fmt: skip

    def file_url(self, http: Http, address: Address, commit: str, path: str) -> str | None:  # noqa: ARG002 - for those that have an API
        """Return the URL of its API for the bytes of a file, or None: its API has none."""
        return None

    async def read_file(self, http: Http, address: Address, file: RepositoryFile, cap: int) -> bytes:
        """Return the bytes of a file, asked for with the host's credential.

        Raises:
            UnsupportedError: the host has no API for that.
            MissingError: there is no such file, or it is a folder.
            TooLargeError: it has more than `cap` bytes.
            ContentError: a web page came instead: a login page, which has status 200 as well.
            MirrordError: it could not be had.
        """
        from mirrord.wire.api import download  # noqa: PLC0415 - as in `ask`

        url = self.file_url(http, address, file.commit, file.path)
        if url is None:
            raise UnsupportedError(f"{web_host(address)}: has no API for single files that is known; clone it")
        with self._advised():
            headers = self.file_headers or self.headers
            media, data = await download(http, url, scheme=self.scheme, headers=headers, cap=cap)
        if media == "application/json" and self.file_headers:  # a file would have come as what was asked for
            raise MissingError(f"{web_host(address)}: {file.path} is a folder")
        if media == "text/html" and _WEB_PAGE.match(data) and not file.path.lower().endswith(_WEB_NAMES):
            page = f"the answer for {file.path} is a web page, such as a login page"
            raise ContentError(f"{web_host(address)}: {page}; see `auth:` of the host under hosts:")
        return data

    @contextmanager
    def _advised(self) -> Iterator[None]:
        """Add the next step to a refusal, when it is known."""
        try:
            yield
        except RefusedError as error:
            hint = self.explain(str(error))
            if hint is None:
                raise
            raise type(error)(f"{error}; {hint}", error.status) from error

    async def found(self, http: Http, url: str) -> Document | None:
        """Ask for something that may not be there."""
        try:
            return await self.ask(http, "GET", url)
        except MissingError:
            return None


def repository_of(address: Address) -> tuple[str, ...]:
    """Return the words of a repository's path, decoded, without `.git`."""
    path = address.path if address.scheme == "ssh" else unquote(address.path)
    return tuple(path.removesuffix(".git").split("/"))


def api_base(http: Http, address: Address) -> str:
    """Return `scheme://host` under which the API of an address' host is asked."""
    host = web_host(address)
    return f"{scheme_of(http.book.policy(host))}://{host}"


def web_host(address: Address) -> str:
    """Return `host[:port]` of the host's pages: an SSH port says nothing about them."""
    if address.scheme != "ssh":
        return address.host
    host = _PORT.sub("", address.host)
    return _SSH_HOSTS.get(host, host)


def short(ref: str) -> str:
    """Return a branch or tag without the namespace."""
    return ref.removeprefix(HEADS).removeprefix(TAGS)


def joined(*words: str) -> str:
    """Write words (each may hold slashes) as one path of a URL, percent-encoded, without a slash in front."""
    return "/".join(quote(word.strip("/"), safe="/") for word in words if word)
