"""`/hooks/…`: a delivery whose sender knows the secret rings for one issue, and nobody else is heard."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mirrord.serve.app import make_app
from mirrord.serve.door import Listener, bind
from mirrord.serve.hooks import IssueHook, IssueHooks
from mirrord.wire.forges.hooks import BODY
from mirrord.wire.secret import Secret
from tests.support.frontserver import Shown
from tests.support.recorded import recorded

KEY = Secret("a-secret-of-the-test")
NOW = 1672135206.524
GITEE = {
    "User-Agent": "git-oschina-hook", "X-Git-Oschina-Event": "Issue Hook", "X-Gitee-Event": "Issue Hook",
    "X-Gitee-Ping": "false", "X-Gitee-Timestamp": "1672135206524",
    "X-Gitee-Token": "wwLIvVgMWZpGitXea/PUz2xw3O6WwUyJLWYHXM7WrlE=",
}  # fmt: skip


def delivered(number: object = 12, repository: str = "Acme/Mirror", **more: object) -> bytes:
    return json.dumps(
        {"action": "opened", "issue": {"number": number}, "repository": {"full_name": repository}, **more}
    ).encode()


def signed(body: bytes, event: str = "issues", key: Secret = KEY) -> dict[str, str]:
    digest = hmac.new(key.reveal().encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Event": event, "X-GitHub-Delivery": "d1"}


class Site:
    """A server with the webhooks of three repositories, and what rang there."""

    def __init__(self) -> None:
        self.rung: list[tuple[str, str]] = []
        self.hooks = IssueHooks(self.find, lambda: NOW)
        self.port = 0

    def find(self, name: str) -> IssueHook | None:
        forge, _, repository = name.partition("/")
        if repository != "acme/mirror" or forge not in ("github", "gitee", "gitea"):
            return None
        return IssueHook(forge, "acme/mirror", KEY, lambda number: self.rung.append((forge, number)))

    async def post(
        self, body: bytes, headers: dict[str, str], path: str = "/hooks/github/acme/mirror", method: str = "POST",
        length: int | None = None,
    ) -> tuple[int, str]:  # fmt: skip
        """Send a request, whose body may be shorter than it says, and return status and text."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = {"Host": "h", "Content-Length": str(len(body) if length is None else length), **headers}
        lines["Connection"] = "close"
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        async with asyncio.timeout(10):
            answer = (await reader.read()).decode()
        writer.close()
        return int(answer.split()[1]), answer.partition("\r\n\r\n")[2]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    nobody: Any = None
    listener, connection = Listener(make_app(Shown(nobody), hooks=site.hooks), grace=0.05), bind("127.0.0.1:0")
    site.port = connection.getsockname()[1]
    await listener.listen(connection)
    try:
        yield site
    finally:
        await listener.close()
        connection.close()


async def test_a_signed_delivery_rings(site: Site) -> None:
    """Also one that GitHub sends again, as somebody wanted there; the name may be written in any case."""
    body = delivered()
    assert (await site.post(body, signed(body)))[0] == 202
    assert (await site.post(body, signed(body), "/hooks/github/Acme/Mirror"))[0] == 202
    assert site.rung == [("github", "12"), ("github", "12")]


async def test_forges_sign_in_their_ways(site: Site) -> None:
    """Gitea signs the body under its own name; Gitee signs the time, or sends the password."""
    body = delivered()
    digest = hmac.new(KEY.reveal().encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Gitea-Signature": digest, "X-Gitea-Event": "issues"}
    assert (await site.post(body, headers, "/hooks/gitea/acme/mirror"))[0] == 202
    headers = {"X-Gitee-Token": KEY.reveal(), "X-Gitee-Event": "Issue Hook", "X-Gitee-Timestamp": str(int(NOW * 1000))}
    assert (await site.post(delivered("I6ABCD"), headers, "/hooks/gitee/acme/mirror"))[0] == 202
    headers["X-Gitee-Timestamp"] = str(int((NOW - 7200) * 1000))
    assert (await site.post(delivered("I6ABCD"), headers, "/hooks/gitee/acme/mirror"))[0] == 401
    assert site.rung == [("gitea", "12"), ("gitee", "I6ABCD")]


async def test_whole_deliveries_as_forges_send_them(site: Site) -> None:
    """A new issue rings; what they send to try a webhook is taken, though Gitee's names an issue of its own."""
    body, ping = (json.dumps(recorded(f"github-{name}")).encode() for name in ("opened", "ping"))
    github = {"User-Agent": "GitHub-Hookshot/4d7fd9c", "X-GitHub-Hook-Installation-Target-Type": "repository"}
    assert (await site.post(body, signed(body) | github))[0] == 202
    assert (await site.post(ping, signed(ping, "ping") | github))[0] == 200
    new, headers, path = recorded("gitee-opened"), GITEE.copy(), "/hooks/gitee/acme/mirror"
    assert (await site.post(json.dumps(new).encode(), headers, path))[0] == 202
    new["repository"]["full_name"] = "头等/Mirror"  # as Gitee's manual has it: the titles of owner and repository
    assert (await site.post(json.dumps(new).encode(), headers, path))[0] == 202
    assert site.rung == [("github", "1"), ("gitee", "I4CYEO"), ("gitee", "I4CYEO")]
    new["repository"] |= {"full_name": "oschina/git-osc", "path_with_namespace": "oschina/git-osc"}
    assert (await site.post(json.dumps(new).encode(), headers, path))[0] == 400
    assert (await site.post(json.dumps(new).encode(), headers | {"X-Gitee-Ping": "true"}, path))[0] == 200
    assert len(site.rung) == 3


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("github", {}),
        ("github", {"X-Gitee-Token": "x"}),
        ("gitea", {"X-Hub-Signature-256": "sha256=00"}),
        ("gitee", {"X-Gitee-Token": "wrong", "X-Gitee-Timestamp": str(int(NOW * 1000))}),
        ("gitee", {"X-Gitee-Token": KEY.reveal()}),
    ],
)
async def test_what_shows_no_secret_is_not_read(site: Site, path: str, headers: dict[str, str]) -> None:
    """The answer comes although the body, a megabyte of it, never does."""
    status, text = await site.post(b"", headers, f"/hooks/{path}/acme/mirror", length=1_000_000)
    assert (status, "signature" in text, site.rung) == (401, True, [])


async def test_a_wrong_signature_rings_for_nobody(site: Site) -> None:
    """Of another key or another body."""
    body = delivered()
    assert (await site.post(body, signed(body, key=Secret("another"))))[0] == 401
    assert (await site.post(delivered(13), signed(body)))[0] == 401
    assert site.rung == []


async def test_what_is_about_no_issue_rings_for_nobody(site: Site) -> None:
    """Other events are taken and dropped; a body without an issue of ours is an error of who set the webhook up."""
    body = delivered()
    assert (await site.post(body, signed(body, "ping")))[0] == 200
    for odd in (delivered("../1"), delivered(repository="acme/other"), b"payload=%7B%7D", b"[]"):
        assert (await site.post(odd, signed(odd)))[0] == 400
    assert site.rung == []


async def test_requests_that_are_no_deliveries(site: Site) -> None:
    """Other methods, other names, and more than a megabyte."""
    assert (await site.post(b"", {}, method="GET"))[0] == 405
    assert (await site.post(b"", {}, "/hooks/github/acme/other"))[0] == 404
    assert (await site.post(b"", {}, "/hooks/"))[0] == 404
    body = delivered(x="x" * BODY)
    assert (await site.post(b"", signed(body), length=len(body)))[0] == 413
    large = delivered(x="x" * (BODY - 1000))
    assert (await site.post(large, signed(large)))[0] == 202
