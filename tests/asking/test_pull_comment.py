"""ONE comment in a pull request: made once, written anew later, at GitHub, Gitee and Gitea."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from mirrord.asking.pull_comment import BOT, comment_once
from mirrord.errors import DeniedError
from mirrord.wire.forges.issues import Issues, issues_of
from mirrord.wire.forges.notes import pull_comments_of
from mirrord.wire.git.address import Address
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import Limits
from mirrord.wire.secret import Secret

TOKEN = "a-token-of-the-test-0123456789"
MARK = "<!-- mark -->"
NEW = f"{MARK}\nnew\n"
ROOTS = {"github": ("/api/v3", "issues"), "gitee": ("/api/v5", "pulls"), "gitea": ("/api/v1", "issues")}


@dataclass
class Forge:
    """A forge of recorded answers; a request that was not expected fails the test."""

    kind: str
    server: HTTPServer
    pulls: Issues

    def expect(self, method: str, path: str, answer: Any, status: int = 200, **more: Any) -> None:
        """Expect a request, in this order."""
        self.server.expect_ordered_request(f"{ROOTS[self.kind][0]}{path}", method, **more).respond_with_json(
            answer, status
        )

    @property
    def below(self) -> str:
        """Where the comments of pull requests are."""
        return f"/repos/acme/app/{ROOTS[self.kind][1]}"


@pytest.fixture(scope="session")
def httpserver_listen_address() -> tuple[str, int]:
    return ("127.0.0.1", 0)


@pytest.fixture(params=ROOTS)
async def forge(request: pytest.FixtureRequest, httpserver: HTTPServer) -> AsyncIterator[Forge]:
    address = Address.parse(f"http://127.0.0.1:{httpserver.port}/acme/app")
    async with Http(HostBook(), limits=Limits(attempts=1)) as http:
        yield Forge(request.param, httpserver, issues_of(http, request.param, address, Secret(TOKEN)))
    httpserver.check()
    assert all(TOKEN not in one.url and TOKEN.encode() not in one.get_data() for one, _ in httpserver.log)


def said(number: int, login: str | None, body: str) -> dict[str, Any]:
    """A comment as the forges document it."""
    return {"id": number, "body": body, "user": None if login is None else {"login": login}, "created_at": "2026"}


OTHERS = [
    said(1, "bot", "no mark"),
    said(2, "octocat", f"{MARK}\na stranger's"),
    said(3, None, f"{MARK}\nof an account that is gone"),
    said(4, "bot", f"quoted: {MARK}"),
]


async def test_the_first_build_is_a_new_comment(forge: Forge) -> None:
    """What others wrote with the mark, and what we wrote without it, stays."""
    forge.expect("GET", "/user", {"login": "bot"})
    forge.expect("GET", f"{forge.below}/7/comments", OTHERS)
    forge.expect("POST", f"{forge.below}/7/comments", said(5, "bot", NEW), 201, json={"body": NEW})
    assert await comment_once(forge.pulls, "7", MARK, NEW) is True


async def test_a_later_build_writes_it_anew(forge: Forge) -> None:
    """Our comment gets the text, wherever it is, and no other one is made."""
    forge.expect("GET", "/user", {"login": "bot"})
    size = forge.pulls.per_page[1]
    pages = [OTHERS * size, [said(5, "bot", f"{MARK}\r\nold")]]
    for page in pages if forge.kind != "gitea" else [[*OTHERS, *pages[1]]]:
        forge.expect("GET", f"{forge.below}/7/comments", page[:size])
    forge.expect("PATCH", f"{forge.below}/comments/5", said(5, "bot", NEW), json={"body": NEW})
    assert await comment_once(forge.pulls, "7", MARK, NEW) is False


async def test_a_token_that_may_not_ask_whose_it_is(forge: Forge) -> None:
    """A workflow's token at GitHub is that of its bot; elsewhere it is an error, and nothing is written."""
    refusal = {"message": "Resource not accessible by integration"}
    forge.expect("GET", "/user", refusal, 403)
    if forge.kind != "github":
        with pytest.raises(DeniedError):
            await comment_once(forge.pulls, "7", MARK, NEW)
        return
    forge.expect("GET", f"{forge.below}/7/comments", [said(5, BOT, MARK)])
    forge.expect("PATCH", f"{forge.below}/comments/5", {}, json={"body": NEW})
    assert await comment_once(forge.pulls, "7", MARK, NEW, BOT) is False


@pytest.mark.parametrize("wrong", ["5/../../x", None, True, {"a": 1}])
async def test_an_answer_that_is_no_comment(forge: Forge, wrong: object) -> None:
    """An identifier that is no number never becomes a part of a path."""
    forge.expect("GET", "/user", {"login": "bot"})
    forge.expect("GET", f"{forge.below}/7/comments", [{**said(5, "bot", MARK), "id": wrong}, 7, None])
    forge.expect("POST", f"{forge.below}/7/comments", {}, 201)
    assert await comment_once(forge.pulls, "7", MARK, NEW) is True
    assert json.loads(forge.server.log[-1][0].get_data()) == {"body": NEW}


def note(number: int, username: str, body: str, *, system: bool = False) -> dict[str, Any]:
    """A note with the fields that GitLab's manual shows."""
    author = {
        "id": 1, "username": username, "name": "Somebody", "state": "active", "created_at": "2013-09-30T13:46:01Z",
    }  # fmt: skip
    return {
        "id": number, "type": None, "body": body, "author": author, "created_at": "2013-10-02T08:57:14.000Z",
        "updated_at": "2013-10-02T08:57:14.000Z", "system": system, "noteable_id": 2, "noteable_type": "MergeRequest",
        "project_id": 1, "resolvable": False, "confidential": False, "internal": False, "imported": False,
        "imported_from": "none", "noteable_iid": 7, "commands_changes": {},
    }  # fmt: skip


@pytest.mark.parametrize("ours", [True, False])
async def test_notes_of_gitlab(httpserver: HTTPServer, ours: bool) -> None:
    """A merge request has ONE note, too; what GitLab itself notes in our name is none."""
    token = {"Authorization": f"Bearer {TOKEN}"}
    notes = "/api/v4/projects/acme%2Fsub%2Fapp/merge_requests/7/notes"

    def expect(path: str, method: str, answer: Any, **more: Any) -> None:
        httpserver.expect_ordered_request(path, method, headers=token, **more).respond_with_json(answer)

    expect("/api/v4/user", "GET", {"id": 1, "username": "project_1_bot", "name": "bot", "bot": True})
    path = notes.replace("%2F", "/")  # as the server reads it
    page = {"sort": "asc", "order_by": "created_at", "per_page": "100"}
    full = [note(1, "octocat", MARK), note(2, "project_1_bot", MARK, system=True)] * 50
    expect(path, "GET", full, query_string=page | {"page": "1"})
    expect(path, "GET", [note(302, "project_1_bot", MARK)] if ours else [], query_string=page | {"page": "2"})
    to = (f"{path}/302", "PUT") if ours else (path, "POST")
    expect(*to, note(302, "project_1_bot", NEW), json={"body": NEW})
    address = Address.parse(f"http://127.0.0.1:{httpserver.port}/acme/sub/app.git")
    async with Http(HostBook(), limits=Limits(attempts=1)) as http:
        pulls = pull_comments_of(http, "gitlab", address, Secret(TOKEN))
        assert await comment_once(pulls, "7", MARK, NEW) is not ours
    httpserver.check()
    assert {one.environ["RAW_URI"].partition("?")[0] for one, _ in httpserver.log[1:3]} == {notes}
