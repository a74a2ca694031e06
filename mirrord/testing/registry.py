"""An OCI registry in this process, on 127.0.0.1 and a free port: scriptable, and it remembers every request.

    async with Registry(auth=Auth(bearer=("ann", "secret"))) as registry:
        await push(build_image(), registry, "team/app", ["main"])
        ...
        assert registry.count("GET", "/blobs/") == 5

Everything is kept in memory; `stop` and `start` play a registry that dies and comes back.
"""

from __future__ import annotations

import contextlib
import ssl
from urllib.parse import parse_qsl, unquote

from mirrord.testing.content import Content
from mirrord.testing.distribution import Ask, Distribution, Immutable
from mirrord.testing.exchange import Exchange, Wire
from mirrord.testing.faults import Faults
from mirrord.testing.intake import Intake
from mirrord.testing.reply import Reply
from mirrord.testing.server import Guard, Server
from mirrord.testing.uploads import Uploads

_ACTIONS = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}


class Registry(Server):
    """A registry double.

    Attributes:
        content: what it holds; may be shared with another registry.
        auth: who may do what; None lets everybody in.
        protocol: the answers and their quirks, may be changed at any time.
    """

    def __init__(
        self,
        *,
        name: str = "",
        content: Content | None = None,
        auth: Guard | None = None,
        tls: ssl.SSLContext | None = None,
        faults: Faults | None = None,
        wire: Wire | None = None,
        absolute_locations: bool = False,
        mount: bool = True,
        strict: bool = True,
        digest_header: bool = True,
        ranges: bool = True,
        page_size: int | None = None,
        redirect_blobs_to: str | None = None,
        immutable_tags: Immutable | None = None,
        referrers: bool = True,
        socket_buffer: int | None = None,
    ) -> None:
        super().__init__(name=name, faults=faults, wire=wire, tls=tls, buffer=socket_buffer)
        self.content = content or Content()
        self.auth = auth
        self.protocol = Distribution(
            self.content,
            Uploads(self.content, mount=mount),
            strict=strict,
            digest_header=digest_header,
            ranges=ranges,
            page_size=page_size,
            redirect_blobs_to=redirect_blobs_to,
            immutable=immutable_tags,
            referrers=referrers,
        )
        self._absolute = absolute_locations

    @property
    def url(self) -> str:
        """Base URL without a trailing slash."""
        return self.base

    @property
    def blobs(self) -> dict[str, bytes | bytearray]:
        """All blobs by digest."""
        return self.content.blobs

    @property
    def manifests(self) -> dict[str, dict[str, tuple[str, bytes]]]:
        """Media type and bytes of all manifests by repository and digest."""
        return self.content.manifests

    @property
    def tags(self) -> dict[str, dict[str, str]]:
        """Digests by repository and tag."""
        return self.content.tags

    async def start(self) -> None:
        """Listen; after `stop` on the same port again."""
        await super().start()
        self.protocol.uploads.prefix = self.url if self._absolute else ""

    async def _reply(self, exchange: Exchange, intake: Intake) -> Reply:
        query = dict(parse_qsl(exchange.query, keep_blank_values=True))
        ask = Ask(exchange.method, unquote(exchange.path), query, exchange.headers)
        if self.auth is not None and not ask.path.startswith("/storage/"):
            authorization = ask.headers.get("authorization", "")
            if ask.path == "/token":
                form = await intake.read(64 * 1024) or b""
                return self.auth.token(ask.method, exchange.query, authorization, form)
            denied = self.auth.check(authorization, _needs(ask), self.url)
            if denied is not None:
                return denied
        return await self.protocol.answer(ask, intake)


def _needs(ask: Ask) -> tuple[str, ...]:
    """Return the scopes a request needs, as docker's registry asks for them."""
    with contextlib.suppress(ValueError):
        parts = ask.path.removeprefix("/v2/").split("/")
        border = max(parts.index(word) for word in ("manifests", "blobs", "tags", "referrers") if word in parts)
        scopes = [f"repository:{'/'.join(parts[:border])}:{_ACTIONS.get(ask.method, 'pull,push')}"]
        if "from" in ask.query:
            scopes.append(f"repository:{ask.query['from']}:pull")
        return tuple(scopes)
    return ()
