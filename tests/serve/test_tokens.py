"""Read tokens: where they are needed, what opens the gate, and what is kept of them."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mirrord.errors import StorageError, UsageError
from mirrord.serve.app import make_app
from mirrord.serve.door import Listener, bind
from mirrord.serve.tokens import TokenFile, TokenGate
from mirrord.syncer.serving import Request, Response
from mirrord.syncer.values import Services
from tests.support.frontserver import Shown

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
        self.port = 0

    async def ask(self, *lines: str, path: str = "/v2/", method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(
            "\r\n".join((f"{method} {path} HTTP/1.1", "Host: h", "Connection: close", *lines, "", "")).encode()
        )
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        first, *rest = head.decode().split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path / "state")
    nobody: Any = None
    listener, connection = (
        Listener(make_app(Shown(nobody, made.front), gate=made.gate), grace=0.05),
        bind("127.0.0.1:0"),
    )
    await listener.listen(connection)
    made.port = connection.getsockname()[1]
    try:
        yield made
    finally:
        await listener.close()
        connection.close()


def basic(password: str, user: str = "anybody") -> str:
    return f"Authorization: Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


async def test_without_a_token(site: Site) -> None:
    """Everything of /v2/ is 401 with a challenge in the format of registries; the rest stays open."""
    for path in ("/v2/", "/v2", "/v2/a/manifests/v1", "/v2/_catalog", "/v2/a/blobs/sha256:00"):
        status, headers, body = await site.ask(path=path)
        assert (status, headers["WWW-Authenticate"]) == (401, 'Basic realm="mirrord"')
        assert json.loads(body)["errors"][0]["code"] == "UNAUTHORIZED"
        assert headers["Docker-Distribution-Api-Version"] == "registry/2.0"
        status, headers, body = await site.ask(path=path, method="HEAD")
        assert (status, headers["WWW-Authenticate"], body) == (401, 'Basic realm="mirrord"', b"")
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
    site.file.remove("one")
    assert (await site.ask(basic(one)))[0] == 401
    assert (await site.ask(basic(two)))[0] == 200
    site.file.path.unlink()
    assert (await site.ask(basic(two)))[0] == 401


async def test_a_damaged_file(site: Site) -> None:
    """It is reported, and changes nothing for those who had a token; nobody else gets in."""
    token = site.file.add("one", T0)
    assert (await site.ask(basic(token)))[0] == 200
    site.file.path.write_text('{"tokens": [{"name": "x"}]}')
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
        file.remove("three")
    assert file.path.read_text() == text
