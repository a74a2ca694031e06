"""Read tokens: where they are needed, what opens the gate, and what is kept of them."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mirrord.errors import StorageError, UsageError
from mirrord.serve.app import make_app
from mirrord.serve.door import Listener, bind
from mirrord.serve.gate import GRANTS, TokenGate
from mirrord.serve.incoming import TrustedProxies
from mirrord.syncer.serving import Request, Response
from mirrord.syncer.values import Services
from mirrord.tokens import TokenFile
from tests.support.frontserver import Shown

FORM = "application/x-www-form-urlencoded"
BASIC = 'Basic realm="mirrord"'
T0 = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)


class Front:
    """Answers everything, and remembers whose token came."""

    prefixes = ("/v2/", "/helm/")

    def __init__(self) -> None:
        self.holders: list[str | None] = []
        self.headers: list[str] = []

    async def respond(self, request: Request, services: Services) -> Response:
        self.holders.append(request.token)
        self.headers += request.headers
        return Response(200, {}, b"content")


class Site:
    """A listening server with a gate, whose clock does not hold it from looking at its file."""

    def __init__(self, state: Path) -> None:
        self.front, self.file = Front(), TokenFile(state)
        self.needed, self.warned = True, list[str]()
        self.gate = TokenGate(self.file, lambda: self.needed, self.warned.append, every=0.0)
        self.proxies = TrustedProxies()
        self.port = 0

    async def ask(
        self, *lines: str, path: str = "/v2/", method: str = "GET", host: str = "h", form: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request, perhaps with a form; fields that an answer has twice are joined by a line break."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        sent = (f"Content-Length: {len(form.encode())}", f"Content-Type: {FORM}") if form else ()
        first = f"{method} {path} HTTP/1.1"
        writer.write("\r\n".join((first, f"Host: {host}", "Connection: close", *sent, *lines, "", form)).encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        first, *rest = head.decode().split("\r\n")
        fields: dict[str, str] = {}
        for name, value in (line.split(": ", 1) for line in rest):
            fields[name] = f"{fields[name]}\n{value}" if name in fields else value
        return int(first.split()[1]), fields, body


class Behind(Shown):
    """Shows a site whose proxies may change."""

    def __init__(self, services: Services, site: Site) -> None:
        super().__init__(services, site.front)
        self._site = site

    def proxies(self) -> TrustedProxies:
        return self._site.proxies


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path / "state")
    nobody: Any = None
    app = make_app(Behind(nobody, made), gate=made.gate)
    listener, connection = Listener(app, grace=0.05), bind("127.0.0.1:0")
    await listener.listen(connection)
    made.port = connection.getsockname()[1]
    try:
        yield made
    finally:
        await listener.close()
        connection.close()


def basic(password: str, user: str = "anybody") -> str:
    return f"Authorization: Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def challenge(origin: str, scope: str = "") -> str:
    asked = f',scope="{scope}"' if scope else ""
    return f'Bearer realm="{origin}/v2/_token",service="mirrord"{asked}\n{BASIC}'


async def test_without_a_token(site: Site) -> None:
    """Everything of /v2/ is 401 with challenges in the format of registries; the rest stays open."""
    for path, scope in (
        ("/v2/", ""),
        ("/v2", ""),
        ("/v2/a/manifests/v1", "repository:a:pull"),
        ("/v2/_catalog", ""),
        ("/v2/m.example/a/b/blobs/sha256:00", "repository:m.example/a/b:pull"),
        ("/v2/a%22b/manifests/v1", ""),
    ):
        status, headers, body = await site.ask(path=path)
        assert (status, headers["WWW-Authenticate"]) == (401, challenge("http://h", scope))
        assert json.loads(body)["errors"][0]["code"] == "UNAUTHORIZED"
        assert headers["Docker-Distribution-Api-Version"] == "registry/2.0"
        status, headers, body = await site.ask(path=path, method="HEAD")
        assert (status, headers["WWW-Authenticate"], body) == (401, challenge("http://h", scope), b"")
    assert (await site.ask(path="/v2/a/blobs/uploads/", method="POST"))[0] == 401
    assert site.front.holders == []
    for path in ("/helm/x", "/livez", "/status", "/metrics", "/"):
        assert (await site.ask(path=path))[0] == 200


async def test_with_a_token(site: Site) -> None:
    """Basic with any user and Bearer are taken, and the syncer learns the name of the token, not the token."""
    one, two = site.file.add("one", T0), site.file.add("two", T0)
    for line in (
        basic(one),
        basic(one, ""),
        f"Authorization: Bearer {one}",
        f"authorization: bearer {one}",
        basic(two),
    ):
        assert (await site.ask(line))[::2] == (200, b"content")
    assert site.front.holders == ["one", "one", "one", "one", "two"]
    assert "authorization" not in site.front.headers


async def test_a_token_for_a_password(site: Site) -> None:
    """The address in the challenge gives a token that is valid at once: the one that came as password or in a form."""
    site.file.add("one", T0)
    token = site.file.add("two", T0)
    for ask in (
        partial(site.ask, basic(token), path=f"{GRANTS}?service=mirrord&scope=repository:a:pull"),
        partial(site.ask, f"Authorization: Bearer {token}", path=GRANTS),
        partial(site.ask, path=GRANTS, method="POST", form=f"grant_type=password&username=any&password={token}"),
        partial(site.ask, path=GRANTS, method="POST", form=f"grant_type=refresh_token&refresh_token={token}"),
    ):
        status, headers, body = await ask()
        assert (status, headers["Cache-Control"]) == (200, "no-store")
        assert json.loads(body) == {"token": token, "access_token": token, "expires_in": 300}
    assert (await site.ask(f"Authorization: Bearer {token}"))[0] == 200
    assert site.front.holders == ["two"]
    site.file.revoke("two")
    assert (await site.ask(basic(token), path=GRANTS))[0] == 401
    assert (await site.ask(f"Authorization: Bearer {token}"))[0] == 401


async def test_no_token_for_a_wrong_password(site: Site) -> None:
    """It is 401, also where no token is needed; other methods are 405, and a token in the address counts nothing."""
    token = site.file.add("one", T0)
    for needed in (True, False):
        site.needed = needed
        for line in ("X-None: 1", basic("wrong"), basic(""), "Authorization: Bearer x"):
            status, headers, body = await site.ask(line, path=GRANTS)
            assert (status, headers["WWW-Authenticate"]) == (401, BASIC)
            assert "log in with it as the password" in json.loads(body)["errors"][0]["message"]
        for form in ("password=wrong", "refresh_token=", "a=%", "\u00e9", "&".join(["password=x"] * 40)):
            assert (await site.ask(path=GRANTS, method="POST", form=form))[0] == 401
        assert (await site.ask(path=f"{GRANTS}?password={token}&token={token}"))[0] == 401
        status, headers, _ = await site.ask(basic(token), path=GRANTS, method="PUT")
        assert (status, headers["Allow"]) == (405, "GET, HEAD, POST")


async def test_where_tokens_are_given(site: Site) -> None:
    """The challenge names the host that the client uses, as listed proxies say.

    Behind a proxy that is not listed it names `settings.url`, or is Basic alone: with an http address the clients of a
    TLS proxy would send their passwords unencrypted.
    """
    seen = ("X-Forwarded-Proto: https", "X-Forwarded-Host: m.example")

    async def offered(*lines: str, host: str = "h:8080") -> str:
        return (await site.ask(*lines, host=host))[1]["WWW-Authenticate"]

    assert await offered() == challenge("http://h:8080")
    assert await offered(*seen) == challenge("https://m.example")
    assert await offered(host='a"b') == BASIC
    site.proxies = TrustedProxies(url="https://m.example")
    assert await offered(host="m.example") == challenge("https://m.example")
    assert await offered(host="inside:80") == challenge("http://inside:80")
    site.proxies = TrustedProxies(networks=())
    assert await offered() == challenge("http://h:8080")
    for line in (*seen, "X-Forwarded-For: 192.0.2.1", "Forwarded: proto=https"):
        assert await offered(line) == BASIC
    site.proxies = TrustedProxies(networks=(), url="https://m.example")
    assert await offered(*seen) == challenge("https://m.example")


@pytest.mark.parametrize(
    "line",
    [
        basic("wrong"),
        basic(""),
        "Authorization: Basic",
        "Authorization: Basic !!!",
        "Authorization: Basic bm8tY29sb24=",
        "Authorization: Bearer",
        "Authorization: Bearer x",
        "Authorization: Digest x",
        f"Authorization: Bearer {'x' * 5000}",
        "Authorization: Basic w6nDqQ==",
    ],
)
async def test_wrong_credentials(site: Site, line: str) -> None:
    """What is no valid token is refused where one is needed, and ignored where none is."""
    site.file.add("one", T0)
    assert (await site.ask(line))[0] == 401
    site.needed = False
    assert (await site.ask(line))[0] == 200
    assert site.front.holders == [None]


async def test_a_token_where_none_is_needed(site: Site) -> None:
    """It still says who the client is, for limits; for other kinds nobody asks."""
    site.needed, token = False, site.file.add("one", T0)
    assert (await site.ask(basic(token)))[0] == 200
    assert (await site.ask(basic(token), path="/helm/x"))[0] == 200
    assert site.front.holders == ["one", None]


async def test_changes_take_effect(site: Site) -> None:
    """Tokens that are added and removed beside the daemon count at its next look."""
    one, two = site.file.add("one", T0), site.file.add("two", T0)
    assert (await site.ask(basic(one)))[0] == 200
    site.file.revoke("one")
    assert (await site.ask(basic(one)))[0] == 401
    assert (await site.ask(basic(two)))[0] == 200
    site.file.path.unlink()
    assert (await site.ask(basic(two)))[0] == 401


@pytest.mark.parametrize("text", ['{"tokens": [{"name": "x"}]}', "scopes"])
async def test_a_damaged_file(site: Site, text: str) -> None:
    """It is reported, and changes nothing for those who had a token; nobody else gets in."""
    token = site.file.add("one", T0)
    assert (await site.ask(basic(token)))[0] == 200
    if text == "scopes":  # written by hand, as a text and no list
        text = json.dumps({"tokens": [{**json.loads(site.file.path.read_text())["tokens"][0], "scopes": "read"}]})
    site.file.path.write_text(text)
    assert (await site.ask(basic(token)))[0] == 200
    assert (await site.ask(basic("wrong")))[0] == 401
    damaged = "is damaged; restore it from a backup, or remove it and make new tokens"
    assert site.warned == [f"{site.file.path}: {damaged}; the tokens before stay valid"]
    with pytest.raises(StorageError, match="is damaged"):
        site.file.add("two", T0)


def test_what_is_kept(tmp_path: Path) -> None:
    """Only names, hashes and times are kept, for the owner alone; every token is another."""
    file = TokenFile(tmp_path / "state")
    assert file.read() == ()
    assert not file.path.parent.exists()
    tokens = [file.add(name, T0) for name in ("one", "two")]
    assert len({*tokens}) == 2
    assert all(token.startswith("mirrord_") and len(token) == 51 for token in tokens)
    text = file.path.read_text()
    assert not any(token in text for token in tokens)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert [(one.name, one.created) for one in file.read()] == [("one", T0), ("two", T0)]
    for bad in ("", "A", "a b", "-a", "x" * 64, "a/b", "é"):
        with pytest.raises(UsageError, match="is no name for a token"):
            file.add(bad, T0)
    with pytest.raises(UsageError, match="there is a token 'one' already"):
        file.add("one", T0)
    with pytest.raises(UsageError, match="there is no token 'three'"):
        file.revoke("three")
    assert file.path.read_text() == text
