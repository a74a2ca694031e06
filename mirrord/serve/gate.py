"""Who may read `/v2/` where that needs a token, and who a client is for its limits.

Guessing a token is hopeless however often it is tried, so a wrong one is answered at once, and costs one hash.
`Authorization` is read as registries do: Basic with the token as the password (any user), or Bearer. Nothing of it goes
upstream.

Clients of registries choose by the challenge: many send a bearer token only after `Bearer`, which names an address that
gives tokens for passwords (the token specification of distribution). Ours, `GRANTS`, gives the read token itself back:
nothing is signed or stored, and a removed token ends with all that was given for it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import math
import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qs

from aiohttp import web

from mirrord.errors import StorageError
from mirrord.tokens import READ, ClientToken, TokenFile

GRANTS: Final = "/v2/_token"
"""Path that gives tokens for passwords; no name of a repository begins with `_`."""
_LONGEST: Final = 512  # characters of a credential; a token has 51
_LOOK_EVERY: Final = 1.0  # seconds
_FIELDS: Final = 32  # in a form; OAuth2 has up to eight
_LASTS: Final = 300  # seconds after which a client asks `GRANTS` again
_ASKED: Final = re.compile(r"/v2/([a-z0-9._/:-]{1,255})/(?:manifests|blobs|tags|referrers)/[^/]+")
_NEEDED: Final = "this registry needs a token: log in with it as the password"


class TokenGate:
    """Knows the clients that send a token, and whether one is needed."""

    def __init__(
        self, file: TokenFile, needed: Callable[[], bool], warn: Callable[[str], None], *, every: float = _LOOK_EVERY
    ) -> None:
        """Read nothing yet, and look at the file at most every so many seconds.

        A file that cannot be read is reported to `warn` when it has changed, and the tokens before stay valid.
        """
        self._file, self._needed, self._warn, self._every = file, needed, warn, every
        self._tokens: Sequence[ClientToken] = ()
        self._stamp: tuple[int, ...] = ()
        self._looked = -math.inf
        self._looking = asyncio.Lock()

    async def holder(self, request: web.BaseRequest) -> str | None:
        """Return the name of the token with which a client reads; None for none, or a wrong one."""
        found = await self.token(request)
        return found.name if found and READ in found.scopes else None

    async def token(self, request: web.BaseRequest) -> ClientToken | None:
        """Return the token that a client sent, whatever it is for; None for none, or a wrong one."""
        return await self._token(_sent(request.headers.get("Authorization", "")))

    def admits(self, holder: str | None) -> bool:
        """Return whether the client with this token, or with none, may go on."""
        return holder is not None or not self._needed()

    async def grant(self, request: web.BaseRequest) -> web.Response:
        """Answer a request for `GRANTS`: with the token that came as a password, or 401 for a wrong one or none.

        GET has it in `Authorization`, POST in the form of OAuth2, as `password` or as `refresh_token`.
        """
        if request.method == "POST":
            sent = _posted(await request.read())
        elif request.method in ("GET", "HEAD"):
            sent = _sent(request.headers.get("Authorization", ""))
        else:
            return web.Response(status=405, headers={"Allow": "GET, HEAD, POST"}, text="use GET or POST\n")
        found = await self._token(sent)
        if found is None or READ not in found.scopes:
            return unauthorized()
        body = {"token": sent.decode(), "access_token": sent.decode(), "expires_in": _LASTS}
        return web.json_response(body, headers={"Cache-Control": "no-store"})

    async def _token(self, sent: bytes) -> ClientToken | None:
        if not sent:
            return None
        await self._refresh()
        digest, found = sha256(sent).hexdigest(), None
        for one in self._tokens:  # all of them, each in constant time
            if hmac.compare_digest(one.sha256, digest):
                found = one
        return found

    async def _refresh(self) -> None:
        """Look at the file, unless somebody just did."""
        loop = asyncio.get_running_loop()
        async with self._looking:
            if loop.time() - self._looked < self._every:
                return
            stamp = await asyncio.to_thread(self._file.stamp)
            if stamp != self._stamp:
                self._stamp = stamp  # before it is read: what is written meanwhile differs from it
                try:
                    self._tokens = await asyncio.to_thread(self._file.read)
                except StorageError as error:
                    self._warn(f"{error}; the tokens before stay valid")
            self._looked = loop.time()


def unauthorized(path: str = "", origin: str = "") -> web.Response:
    """Return 401 with what clients understand.

    Args:
        path: what was asked for, for the scope of the challenge.
        origin: where the client reaches us; "" leaves out `Bearer`, which has to name an absolute URL.
    """
    errors = [{"code": "UNAUTHORIZED", "message": _NEEDED}]
    answer = web.json_response({"errors": errors}, status=401)
    answer.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
    if origin:  # first, since some clients take the first one that they know
        asked = _ASKED.fullmatch(path)
        scope = f',scope="repository:{asked[1]}:pull"' if asked else ""
        answer.headers.add("WWW-Authenticate", f'Bearer realm="{origin}{GRANTS}",service="mirrord"{scope}')
    answer.headers.add("WWW-Authenticate", 'Basic realm="mirrord"')
    return answer


def _sent(authorization: str) -> bytes:
    """Return the token of a header; empty for none."""
    scheme, _, rest = authorization.partition(" ")
    value = rest.strip()
    if not value or len(value) > _LONGEST:
        return b""
    if scheme.lower() == "bearer":
        return value.encode("utf-8", "surrogateescape")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(value, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""


def _posted(form: bytes) -> bytes:
    """Return the token of a form; empty for none."""
    try:
        fields = parse_qs(form.decode("ascii"), max_num_fields=_FIELDS)
    except ValueError:
        return b""
    value = (fields.get("refresh_token") or fields.get("password") or [""])[0]
    return value.encode("utf-8", "surrogateescape") if len(value) <= _LONGEST else b""
