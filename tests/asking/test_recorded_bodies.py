"""An image is asked for at GitHub and at Gitee, whose API answers with whole bodies as they were recorded there."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from mirrord.asking.issue_desk import IssueDesk
from mirrord.asking.issues import Conversations
from mirrord.wire.forges.issues import Issue, IssueComment, issues_of
from mirrord.wire.git.address import Address
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import Limits
from mirrord.wire.secret import Secret
from tests.support.forge import RULES, MemoryAsker, MemoryFacts
from tests.support.recorded import recorded

BOT = "mirror-bot"
NGINX = "docker.io/library/nginx:1.27"
ROOTS = {"github": "/api/v3", "gitee": "/api/v5"}
GONE = {
    "github": ({"message": "This issue was deleted", "documentation_url": "https://x.example", "status": "410"}, 410),
    "gitee": ({"message": "404 Issue Not Found"}, 404),
}
EXISTS = {"message": "Validation Failed", "errors": [{"resource": "Label", "code": "already_exists", "field": "name"}]}
HEADERS = {
    "github": {
        "Content-Type": "application/json; charset=utf-8", "X-GitHub-Media-Type": "github.v3; format=json",
        "X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "4936", "X-RateLimit-Reset": "1658208999",
        "X-RateLimit-Used": "64", "X-RateLimit-Resource": "core", "Cache-Control": "private, max-age=60, s-maxage=60",
    },
    "gitee": {
        "Content-Type": "application/json", "X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "59",
        "Cache-Control": "max-age=0, private, must-revalidate",
    },
}  # fmt: skip


@dataclass
class Played:
    """One repository with one issue, as its forge answers about it.

    Attributes:
        asked: method and path of each request below the repository.
        changes: bodies of what was changed.
    """

    forge: str
    server: HTTPServer
    issue: dict[str, Any] = field(default_factory=dict)
    comments: list[dict[str, Any]] = field(default_factory=list)
    labels: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.issue, self.comments = recorded(f"{self.forge}-issue"), recorded(f"{self.forge}-comments")
        self.labels = recorded("github-labels") if self.forge == "github" else self.issue["labels"][:]
        self.user = recorded(f"{self.forge}-user") | {"login": BOT}
        self.server.expect_request(f"{ROOTS[self.forge]}/user").respond_with_json(self.user)
        below = re.compile(rf"{ROOTS[self.forge]}/repos/acme/.*")
        self.server.expect_request(below).respond_with_handler(self.answer)

    @property
    def number(self) -> str:
        return str(self.issue["number"])

    @property
    def address(self) -> Address:
        return Address.parse(f"http://127.0.0.1:{self.server.port}/acme/mirror")

    def answer(self, request: Request) -> Response:
        path = request.path.partition("/repos/acme/")[2]
        self.asked.append(f"{request.method} {path}")
        document, status = self._answered(request.method, path, request.get_json(silent=True) or {})
        return Response(json.dumps(document, ensure_ascii=False), status, HEADERS[self.forge])

    def _answered(self, method: str, path: str, body: dict[str, Any]) -> tuple[Any, int]:
        if method == "GET":
            if path.endswith(f"/issues/{self.number}"):
                return self.issue, 200
            listed = [self.issue] if self.issue["state"] == "open" else []
            lists = {"comments": self.comments, "labels": self.labels, "issues": listed}
            name = path.rpartition("/")[2]
            return (lists[name], 200) if name in lists else GONE[self.forge]
        self.changes.append(body)
        if path.endswith("/comments"):
            self.comments.append(recorded(f"{self.forge}-comments")[0] | {"body": body["body"], "user": self.user})
            return self.comments[-1], 201
        if path.endswith("/labels"):
            shape = recorded("github-label") if self.forge == "github" else self.labels[0]
            return (EXISTS, 422) if body["name"].endswith("refused") else (shape | body, 201)
        self.issue["state"] = body["state"]
        return self.issue, 200


@dataclass
class Open:
    played: Played
    asker: MemoryAsker
    desk: IssueDesk
    lines: list[tuple[str, str]]

    async def until(self, count: int, lines: int = 0) -> None:
        """Wait until so many changes were asked for, and so many lines written, which follow their answers."""
        async with asyncio.timeout(20):
            while len(self.played.changes) < count or len(self.lines) < lines:  # noqa: ASYNC110 - the server is another thread
                await asyncio.sleep(0.005)


@pytest.fixture(scope="session")
def httpserver_listen_address() -> tuple[str, int]:
    return ("127.0.0.1", 0)


@pytest.fixture(params=ROOTS)
async def opened(request: pytest.FixtureRequest, httpserver: HTTPServer) -> AsyncIterator[Open]:
    played, asker, lines = Played(request.param, httpserver), MemoryAsker(), []
    rules = replace(RULES, forge=played.forge, address=played.address, every=3600.0)
    async with Http(HostBook(), limits=Limits(attempts=1)) as http:
        issues = issues_of(http, played.forge, played.address, Secret("a-token-of-the-test"))
        conversations = Conversations(
            rules, issues, asker, an_hour=9, facts=MemoryFacts(), now=lambda: datetime.now(UTC),
            tell=lambda level, name, **more: lines.append((level, name)),
        )  # fmt: skip
        desk = IssueDesk(conversations)
        task = asyncio.create_task(desk.work())
        yield Open(played, asker, desk, lines)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_image_is_asked_for_and_copied(opened: Open) -> None:
    """Labels are made, the issue is read, answered twice and closed with its labels; every body is a recorded one."""
    played = opened.played
    await opened.until(4)
    assert [one["name"] for one in played.changes[:3]] == ["sync image", "sync image: done", "sync image: refused"]
    assert f"`{NGINX}` (`linux/arm64`) is queued" in played.changes[3]["body"]
    author = "octocat" if played.forge == "github" else "alice"
    assert opened.asker.asked == [(NGINX, ("linux/arm64",), (f"{played.forge} {author}",))]
    opened.asker.end(NGINX)
    await opened.until(6, lines=1)
    assert f"docker pull m.example/{NGINX}\n" in played.changes[4]["body"]
    if played.forge == "github":
        labels = ["sync image", "sync image: done"]
        assert played.changes[5] == {"state": "closed", "state_reason": "completed", "labels": labels}
        assert played.asked[-1] == f"PATCH mirror/issues/{played.number}"
    else:
        assert played.changes[5] == {"repo": "mirror", "state": "closed", "labels": "feature,sync image: done"}
        assert played.asked[-1] == f"PATCH issues/{played.number}"
    assert opened.lines == [("info", "issue.answered")]


async def test_a_deleted_issue_is_none(opened: Open) -> None:
    """GitHub says 410 of an issue that was deleted, Gitee 404: it is asked for once, and the next one is answered."""
    await opened.until(4)
    opened.desk.ring("9")
    opened.asker.end(NGINX)
    await opened.until(6, lines=1)
    assert opened.played.asked.count("GET mirror/issues/9") == 1
    assert opened.lines == [("info", "issue.answered")]


async def test_a_pull_request_has_comments_of_its_own(httpserver: HTTPServer) -> None:
    """Gitee's are below `pulls`, and each has the identifier by which it is written anew."""
    path = "/api/v5/repos/acme/mirror/pulls/7/comments"
    httpserver.expect_request(path).respond_with_json(recorded("gitee-pull-comments"))
    address = Address.parse(f"http://127.0.0.1:{httpserver.port}/acme/mirror")
    async with Http(HostBook(), limits=Limits(attempts=1)) as http:
        pulls = issues_of(http, "gitee", address, Secret("a-token-of-the-test"))
        found = [one async for one in pulls.comments_of_pull("7")]
        assert [(one.author, one.id) for one in found] == [("alice", "6922557")]
        assert isinstance(found[0], IssueComment)


@pytest.mark.parametrize(("forge", "number"), [("github", "26"), ("gitee", "I4CD5P")])
async def test_a_whole_issue_is_read(httpserver: HTTPServer, forge: str, number: str) -> None:
    """Of all its fields six count; those of its milestone, its repository and their owners are not among them."""
    httpserver.expect_request(f"{ROOTS[forge]}/repos/acme/mirror/issues/{number}").respond_with_json(
        recorded(f"{forge}-issue")
    )
    address = Address.parse(f"http://127.0.0.1:{httpserver.port}/acme/mirror")
    async with Http(HostBook(), limits=Limits(attempts=1)) as http:
        found = await issues_of(http, forge, address, Secret("a-token-of-the-test")).find(number)
    body = recorded(f"{forge}-issue")["body"]
    author, label = ("octocat", "sync image") if forge == "github" else ("alice", "feature")
    assert found == Issue(number, "nginx:1.27", body, author, True, (label,))
