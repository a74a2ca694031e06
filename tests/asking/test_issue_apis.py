"""The issue APIs of GitHub, Gitee and Gitea: documented answers, what is sent, and where the token goes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from mirrord.errors import ContentError, DeniedError, MirrordError, RefusedError, ThrottledError, TooLargeError
from mirrord.wire import api
from mirrord.wire.forges.issues import PAGES, Issue, IssueComment, Issues, Label, issues_of, valid_number
from mirrord.wire.git.address import Address
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import Limits
from mirrord.wire.secret import Secret

TOKEN = "a-token-of-the-test-0123456789"
LABEL = Label("sync image", "1d76db", "what for")
ROOTS = {"github": "/api/v3", "gitee": "/api/v5", "gitea": "/api/v1"}
SINCE = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)


def written(kind: str, number: int = 12, **changes: Any) -> dict[str, Any]:
    """An issue as the forge documents it, with the keys that are read and some that are not."""
    found: dict[str, Any] = {
        "id": 1000 + number,
        "number": f"I6AB{number:02}" if kind == "gitee" else number,
        "title": "nginx:1.27",
        "body": "linux/amd64",
        "state": "open",
        "user": {"login": "octocat", "id": 1},
        "labels": [{"id": 1, "name": "sync image", "color": "1d76db"}],
        "updated_at": "2026-11-28T09:31:00Z",
        "html_url": "https://example.com/12",
    }
    return found | ({"pull_request": None} if kind == "gitea" else {}) | changes


@dataclass
class Forge:
    kind: str
    server: HTTPServer
    issues: Issues

    @property
    def root(self) -> str:
        return f"{ROOTS[self.kind]}/repos/acme/mirror"

    @property
    def number(self) -> str:
        return "I6AB12" if self.kind == "gitee" else "12"

    def expect(self, method: str, path: str, answer: Any, status: int = 200, **more: Any) -> None:
        word = "token" if self.kind == "gitea" else "Bearer"
        headers = {"Authorization": f"{word} {TOKEN}"}
        self.server.expect_ordered_request(path, method, headers=headers, **more).respond_with_json(answer, status)


@pytest.fixture(scope="session")
def httpserver_listen_address() -> tuple[str, int]:
    return ("127.0.0.1", 0)


@pytest.fixture
def server(httpserver: HTTPServer) -> Iterator[HTTPServer]:
    yield httpserver
    httpserver.check()
    assert not any(TOKEN in request.url or TOKEN.encode() in request.get_data() for request, _ in httpserver.log)


@pytest.fixture(params=ROOTS)
async def forge(request: pytest.FixtureRequest, server: HTTPServer) -> AsyncIterator[Forge]:
    address = Address.parse(f"http://127.0.0.1:{server.port}/acme/mirror")
    async with Http(HostBook(), limits=Limits(attempts=1)) as http:
        yield Forge(request.param, server, issues_of(http, request.param, address, Secret(TOKEN)))


async def test_open_issues_are_listed_in_pages(forge: Forge) -> None:
    """All pages up to the first short one, by label at GitHub, where templates set it; a pull request is no issue."""
    name, size = ("limit", 32) if forge.kind == "gitea" else ("per_page", 64)
    query = {"state": "open", "since": "2026-11-28T09:30:00Z", name: str(size)}
    query |= {"labels": "sync image"} if forge.kind == "github" else {}
    query |= (
        {"type": "issues"}
        if forge.kind == "gitea"
        else {"sort": "created", "direction": "asc" if forge.kind == "github" else "desc"}
    )
    full = [written(forge.kind, number) for number in range(size)]
    forge.expect("GET", f"{forge.root}/issues", full, query_string=query | {"page": "1"})
    pull = written(forge.kind, 98, pull_request={"url": "https://example.com"})
    rest = [pull, written(forge.kind, 99, body=None, labels=None)]
    forge.expect("GET", f"{forge.root}/issues", rest, query_string=query | {"page": "2"})
    found = [one async for one in forge.issues.opened("sync image", SINCE, PAGES)]
    assert (len(found), forge.issues.more) == (size + 1, False)
    assert found[12] == Issue(forge.number, "nginx:1.27", "linux/amd64", "octocat", True, ("sync image",))
    assert (found[-1].body, found[-1].labels) == ("", ())


async def test_a_list_without_end_is_read_in_part(forge: Forge) -> None:
    """A forge that always has one more full page is asked for some, or for as many as were wanted."""
    size = 32 if forge.kind == "gitea" else 64
    full = [{"body": "x", "user": {"login": "a"}}] * size
    forge.server.expect_request(f"{forge.root}/issues/{forge.number}/comments").respond_with_json(full)
    assert len([one async for one in forge.issues.comments(forge.number)]) == PAGES * size
    forge.server.expect_request(f"{forge.root}/issues").respond_with_json([written(forge.kind)] * size)
    assert len([one async for one in forge.issues.opened("x", None, 2)]) == 2 * size
    assert len(forge.server.log) == PAGES + 2
    assert forge.issues.more
    assert len([one async for one in forge.issues.opened("x", None, 2, 4)]) == 2 * size
    assert [request.args["page"] for request, _ in forge.server.log[-2:]] == ["4", "5"]


async def test_issues_that_are_too_large_hide_no_others(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller pages are asked for where strangers made one too large, and what is too large alone is left out.

    Of very many, whole pages are; this is told behind what follows them.
    """
    monkeypatch.setattr(api, "_PAGE", 5_000)
    there = [written(forge.kind, number, body="x" * (9_000 if number == 13 else 0)) for number in range(10, 30)]

    def answer(request: Request) -> Response:
        size, page = int(request.args.get("limit") or request.args["per_page"]), int(request.args["page"])
        return Response(json.dumps(there[(page - 1) * size : page * size]), 200, content_type="application/json")

    forge.server.expect_request(f"{forge.root}/issues").respond_with_handler(answer)
    found = [one.number async for one in forge.issues.opened("x", None, PAGES)]
    assert found == [str(one["number"]) for one in there if not one["body"]]
    assert len(forge.server.log) < 24
    there[:] = [*[written(forge.kind, body="x" * 9_000)] * 64, last := written(forge.kind, 99)]
    found.clear()

    async def read() -> None:
        async for one in forge.issues.opened("x", None, PAGES):
            found.append(one.number)  # noqa: PERF401 - those before the error count

    with pytest.raises(TooLargeError):
        await read()
    assert found == [str(last["number"])]


async def test_one_issue_is_read(forge: Forge) -> None:
    """By its number; a closed one is told; a pull request, a missing and a moved one are none; no path is asked for."""
    path = f"{forge.root}/issues/{forge.number}"
    forge.expect("GET", path, written(forge.kind, state="closed"))
    forge.expect("GET", path, written(forge.kind, pull_request={"merged": False}))
    forge.expect("GET", path, {"message": "Not Found"}, 404)
    forge.expect("GET", path, written(forge.kind, 77))
    found = await forge.issues.find(forge.number)
    assert found is not None
    assert not found.open
    for _ in range(3):
        assert await forge.issues.find(forge.number) is None
    for odd in ("", "../pulls/1", "1?x=y", "1" * 21, "１"):  # noqa: RUF001 - a digit of Chinese keyboards
        assert not valid_number(odd)
        assert await forge.issues.find(odd) is None


async def test_it_is_answered_and_closed(forge: Forge) -> None:
    """A comment, then the label and the state in the words of the forge; labels that were there stay."""
    issue = Issue(forge.number, "nginx", "", "octocat", True, ("sync image", "help"))
    path = f"{forge.root}/issues/{forge.number}"
    forge.expect("POST", f"{path}/comments", {"id": 5}, 201, json={"body": "queued"})
    labels = ["sync image", "help", "sync image: done"]
    if forge.kind == "github":
        change = {"state": "closed", "state_reason": "completed", "labels": labels}
        forge.expect("PATCH", path, written("github"), json=change)
        forge.expect("PATCH", path, written("github"), json=change | {"state_reason": "not_planned"})
    elif forge.kind == "gitee":
        owner = f"{ROOTS['gitee']}/repos/acme/issues/{forge.number}"
        for _ in range(2):
            change = {"repo": "mirror", "state": "closed", "labels": ",".join(labels)}
            forge.expect("PATCH", owner, written("gitee"), json=change)
    else:
        for _ in range(2):
            forge.expect("POST", f"{path}/labels", [], json={"labels": ["sync image: done"]})
            forge.expect("PATCH", path, written("gitea"), 201, json={"state": "closed"})
    await forge.issues.comment(forge.number, "queued")
    for done in (True, False):
        await forge.issues.close(issue, "sync image: done", done=done)


async def test_missing_labels_are_made(forge: Forge) -> None:
    """Those that are there stay, whatever their case; one that somebody else made meanwhile is no error."""
    forge.expect("GET", f"{forge.root}/labels", [{"name": "Sync Image"}])
    color = "#1d76db" if forge.kind == "gitea" else "1d76db"
    sent = {"name": "b", "color": color} | ({} if forge.kind == "gitee" else {"description": "d"})
    forge.expect("POST", f"{forge.root}/labels", {"name": "b"}, 201, json=sent)
    forge.expect("POST", f"{forge.root}/labels", {"message": "already_exists"}, 422)
    await forge.issues.make_labels([LABEL, Label("b", "1d76db", "d"), Label("c", "1d76db", "")])
    forge.expect("GET", f"{forge.root}/labels", [])
    forge.expect("POST", f"{forge.root}/labels", {"message": "no"}, 404)
    with pytest.raises(RefusedError):
        await forge.issues.make_labels([LABEL])


async def test_refusals_say_what_to_do(forge: Forge) -> None:
    """A wrong token names the right that it needs; a changed API is told; whose it is, is asked."""
    forge.expect("GET", f"{ROOTS[forge.kind]}/user", {"login": "mirror-bot"})
    assert await forge.issues.login() == "mirror-bot"
    forge.expect("POST", f"{forge.root}/issues/1/comments", {"message": "Bad credentials"}, 401)
    with pytest.raises(DeniedError, match="right to read and write issues") as caught:
        await forge.issues.comment("1", "x")
    assert "hosts:" not in str(caught.value), "the token is not one of the host's"
    forge.expect("GET", f"{forge.root}/issues", {"total": 0})
    with pytest.raises(ContentError, match="no list"):
        [one async for one in forge.issues.opened("x", None, PAGES)]
    forge.expect("GET", f"{forge.root}/issues/1", {"title": "x"})
    with pytest.raises(ContentError, match="has no number"):
        await forge.issues.find("1")


@pytest.mark.parametrize("status", [403, 429])
async def test_a_rate_limit_names_its_time(forge: Forge, status: int) -> None:
    """GitHub's secondary limit is a 403 or a 429 with Retry-After; nothing is sent again before."""
    headers = {"Retry-After": "120", "X-RateLimit-Remaining": "4000"}
    body = '{"message": "You have exceeded a secondary rate limit"}'
    forge.server.expect_request(f"{forge.root}/issues/1/comments", "POST").respond_with_response(
        Response(body, status, headers, content_type="application/json")
    )
    with pytest.raises(ThrottledError) as caught:
        await forge.issues.comment("1", "x")
    assert caught.value.after == pytest.approx(120, abs=2)
    with pytest.raises(MirrordError):
        await forge.issues.comment("1", "x")
    assert len(forge.server.log) == 1


async def test_comments_tell_their_authors(forge: Forge) -> None:
    """Author and text, also where an account was deleted."""
    answer = [{"id": 1, "body": "x", "user": {"login": "bot"}}, {"id": 2, "body": None, "user": None}]
    forge.expect("GET", f"{forge.root}/issues/{forge.number}/comments", answer)
    found = [one async for one in forge.issues.comments(forge.number)]
    assert found == [IssueComment("bot", "x"), IssueComment("", "")]
