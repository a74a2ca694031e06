"""Asks the LFS server of a repository where objects are, and where they may go (git-lfs, docs/api).

It is asked by our own HTTP, so that everything that it answers goes through the guards of `mirrord.wire.trust`: where
it says an object is, is judged like a redirect, and the headers that it gives for that go there and nowhere else. A
`.lfsconfig` in the mirrored repository has no say in where that server is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from mirrord import errors
from mirrord.wire import trust
from mirrord.wire.git.address import Address, check
from mirrord.wire.git.command import Git
from mirrord.wire.git.environment import basic, host_port
from mirrord.wire.git.lfs.objects import Pointer
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import MIB, HttpRequest, HttpResponse
from mirrord.wire.offload import offload
from mirrord.wire.origin import check_url
from mirrord.wire.secret import Secret, redact

MOST: Final = 100
"""Objects of one request, as git-lfs asks; GitHub takes no more."""
LARGEST: Final = 4 * MIB  # bytes of an answer; one hundred signed addresses with headers have about 300 KB
MEDIA: Final = "application/vnd.git-lfs+json"
_LIFE: Final = 300.0  # seconds for which a way in is used when the host does not say; GitLab's lasts 30 minutes
_LONGEST: Final = 16 << 10  # characters of an address
_NONE: Final = (404, 405, 410, 501)
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,8192}")
_SECRET: Final = re.compile(r"auth|token|secret|key|cookie|credential|signature", re.IGNORECASE)
_KEPT: Final = 1000  # secrets that a server issued and that are masked in what it says
_OURS: Final = frozenset(
    (
        *("accept-encoding", "connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization"),
        *("proxy-connection", "range", "te", "trailer", "transfer-encoding", "upgrade", "user-agent"),
    )
)
"""Headers that are HTTP's, and so ours: GitLab asks for a Transfer-Encoding, which a Content-Length does as well."""


@dataclass(frozen=True, slots=True)
class LfsAction:
    """What a server lets us do: an address, judged, and the headers that it wants there."""

    url: str
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class LfsAnswer:
    """What a server says of one object."""

    # by name: `download`, `upload`, `verify`. An upload without actions: the server has the object
    actions: Mapping[str, LfsAction] = field(default_factory=dict)
    error: errors.MirrordError | None = None  # why there are none


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """Where a server is, and how to get in, until when."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    issued: Mapping[str, str] = field(repr=False)
    until: float


class LfsServer:
    """The LFS server that belongs to a repository."""

    def __init__(self, git: Git, http: Http, address: Address) -> None:
        """Ask nothing yet."""
        self._git, self.http, self.address = git, http, address
        self._endpoints: dict[str, _Endpoint] = {}
        self._issued: dict[str, Secret] = {}

    async def batch(self, operation: str, pointers: Sequence[Pointer]) -> Mapping[str, LfsAnswer]:
        """Ask about objects, at most `MOST`, to `download` or `upload` them; return what is said of each, by id.

        Raises:
            UnsupportedError: there is no LFS server for the repository.
            DeniedError: it does not let us in.
            MirrordError: it cannot be asked, or answers nonsense.
        """
        endpoint = await self._endpoint(operation)
        objects = [{"oid": pointer.oid, "size": pointer.size} for pointer in pointers]
        asked = {"operation": operation, "transfers": ["basic"], "objects": objects, "hash_algo": "sha256"}
        call = HttpRequest(
            "POST",
            f"{endpoint.url}/objects/batch",
            self.address.host,
            headers={"Accept": MEDIA, "Content-Type": MEDIA, **endpoint.headers},
            issued=endpoint.issued,
            body=json.dumps(asked).encode(),
            ok=(200, 413, *_NONE),
            cap=LARGEST,
        )
        try:
            answer = await self.http.fetch(call)
        except errors.DeniedError:
            self._endpoints.pop(operation, None)
            raise
        if answer.status in _NONE:
            step = "the host has no LFS server for it; set `lfs: false` to mirror pointers only"
            raise errors.UnsupportedError(f"{self.address}: {step} (status {answer.status})")
        if answer.status == 413:
            half = len(pointers) // 2
            if not half:
                reason = "the LFS server takes not even a request for one object"
                raise errors.TooLargeError(f"{self.address.host}: {reason}")
            return {**await self.batch(operation, pointers[:half]), **await self.batch(operation, pointers[half:])}
        return await offload(len(answer.body), self._read, answer)

    def _read(self, answer: HttpResponse) -> Mapping[str, LfsAnswer]:
        try:
            document = json.loads(answer.body)
            transfer, objects = document.get("transfer") or "basic", document["objects"]
            found = {str(one["oid"]): self._answer(one, answer.url) for one in objects if isinstance(one, Mapping)}
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            reason = "answers, and not as an LFS server does: a login page, or another kind of address"
            raise errors.ContentError(f"{self.address.host}: {reason}") from error
        if transfer != "basic":
            raise errors.ContentError(f"{self.address.host}: the LFS server wants the transfer {str(transfer)[:40]!a}")
        return found

    def _answer(self, one: Mapping[str, Any], url: str) -> LfsAnswer:
        """Read what is said of one object; what is odd about it is no other's fault."""
        try:
            if one.get("error"):
                return LfsAnswer(error=self._error(one["error"]))
            actions = one.get("actions") or one.get("_links") or {}  # servers before git-lfs 2.0 say `_links`
            found = dict[str, LfsAction]()
            for name, action in actions.items():  # read as one reads a redirect: where it leads is for `trust` to say
                href = str(action["href"])
                if len(href) > _LONGEST:
                    text = f"{self.address.host}: the LFS server gives addresses of {len(href)} characters"
                    return LfsAnswer(error=errors.ContentError(text))
                found[str(name)] = LfsAction(trust.redirect((url,), href), self._headers(action.get("header")))
            return LfsAnswer(found)
        except errors.UntrustedError as error:
            return LfsAnswer(error=self.elsewhere(error))
        except errors.ContentError as error:
            return LfsAnswer(error=error)
        except (ValueError, TypeError, KeyError, AttributeError):
            text = f"{self.address.host}: the answer of its LFS server about an object cannot be read"
            return LfsAnswer(error=errors.ContentError(text))

    def elsewhere(self, error: errors.UntrustedError) -> errors.UntrustedError:
        """Say of a refusal to go somewhere who wanted us to."""
        text = f"{self.address.host}: its LFS server gives an address that is not allowed: {error}"
        return errors.UntrustedError(text, error.reason)

    def _headers(self, answer: Mapping[str, Any] | None) -> Mapping[str, str]:
        headers = {str(name): str(value) for name, value in (answer or {}).items()}
        if not all(_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in headers.items()):
            raise errors.ContentError(f"{self.address.host}: the LFS server asks for headers that cannot be sent")
        headers = {name: value for name, value in headers.items() if name.lower() not in _OURS}
        for value in (value for name, value in headers.items() if _SECRET.search(name)):
            # What it issued, with the token in it, is redacted in every text: errors quote the server.
            for secret in (value, value.rpartition(" ")[2]):
                self._issued.setdefault(secret, Secret(secret))
        while len(self._issued) > _KEPT:
            del self._issued[next(iter(self._issued))]
        return headers

    def _error(self, answer: Mapping[str, Any]) -> errors.MirrordError:
        """Return the error that a server reports for one object; its codes are those of HTTP."""
        code = answer.get("code")
        code = code if isinstance(code, int) and 0 <= code < 1000 else 0
        message = " ".join(str(answer.get("message") or "").split())
        text = f"{self.address.host}: {redact(message)[:300] or 'no reason is given'} (LFS status {code})"
        if code in (404, 410):
            return errors.MissingError(text, code)
        if code in (401, 403):
            return errors.DeniedError(text, code)
        if code == 429:
            return errors.ThrottledError(text)
        return errors.ServerError(text) if code >= 500 and code not in (507, 509) else errors.RefusedError(text, code)

    async def _endpoint(self, operation: str) -> _Endpoint:
        """Find the server: below the repository, or where an ssh host says that it is (docs/api/authentication.md)."""
        found = self._endpoints.get(operation)
        if found is None or monotonic() >= found.until:
            if self.address.scheme == "ssh":
                found = await self._by_ssh(operation)
            else:
                check(self.address, self._git.book.policy(self.address.host))
                credential = await self._git.book.credential(self.address.host)
                headers = {} if credential is None else {"Authorization": basic(self.address, credential)}
                found = _Endpoint(_below(self.address.url), headers, {}, monotonic() + _LIFE)
            self._endpoints[operation] = found
        return found

    async def _by_ssh(self, operation: str) -> _Endpoint:
        try:
            out = await self._git.ask(self.address, ["git-lfs-authenticate", self.address.path, operation])
            answer = json.loads(out)
            url = str(answer.get("href") or "") or _below(f"https://{host_port(self.address)[0]}/{self.address.path}")
            issued, seconds = self._headers(answer.get("header")), float(answer.get("expires_in") or 0)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise errors.ContentError(
                f"{self.address.host}: the answer of git-lfs-authenticate cannot be read"
            ) from error
        origin = check_url(url)
        if origin.scheme == "http" and trust.scheme_of(self._git.book.policy(origin.authority)) == "https":
            text = f"{self.address.host}: its LFS server is at {origin}, which is not encrypted"
            raise errors.UntrustedError(text, "downgrade")
        life = seconds * 0.8 if seconds > 0 else _LIFE
        return _Endpoint(url.rstrip("/"), {}, issued, monotonic() + life)


def _below(url: str) -> str:
    """Return where git-lfs looks for the server of a repository by default."""
    url = url.rstrip("/")
    return f"{url if url.endswith('.git') else f'{url}.git'}/info/lfs"
