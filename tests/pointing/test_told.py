"""ONE comment in a pull request: made once, written anew later, at GitHub, Gitee and Gitea."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from mirrord.errors import DeniedError
from mirrord.pointing.told import BOT, tell
from mirrord.wire.forges.issues import Issues, issues_of
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
    assert await tell(forge.pulls, "7", MARK, NEW) is True


async def test_a_later_build_writes_it_anew(forge: Forge) -> None:
    """Our comment gets the text, wherever it is, and no other one is made."""
    forge.expect("GET", "/user", {"login": "bot"})
    size = forge.pulls.per_page[1]
    pages = [OTHERS * size, [said(5, "bot", f"{MARK}\r\nold")]]
    for page in pages if forge.kind != "gitea" else [[*OTHERS, *pages[1]]]:
        forge.expect("GET", f"{forge.below}/7/comments", page[:size])
    forge.expect("PATCH", f"{forge.below}/comments/5", said(5, "bot", NEW), json={"body": NEW})
    assert await tell(forge.pulls, "7", MARK, NEW) is False


async def test_a_token_that_may_not_ask_whose_it_is(forge: Forge) -> None:
    """A workflow's token at GitHub is that of its bot; elsewhere it is an error, and nothing is written."""
    refusal = {"message": "Resource not accessible by integration"}
    forge.expect("GET", "/user", refusal, 403)
    if forge.kind != "github":
        with pytest.raises(DeniedError):
            await tell(forge.pulls, "7", MARK, NEW)
        return
    forge.expect("GET", f"{forge.below}/7/comments", [said(5, BOT, MARK)])
    forge.expect("PATCH", f"{forge.below}/comments/5", {}, json={"body": NEW})
    assert await tell(forge.pulls, "7", MARK, NEW, BOT) is False


@pytest.mark.parametrize("wrong", ["5/../../x", None, True, {"a": 1}])
async def test_an_answer_that_is_no_comment(forge: Forge, wrong: object) -> None:
    """An identifier that is no number never becomes a part of a path."""
    forge.expect("GET", "/user", {"login": "bot"})
    forge.expect("GET", f"{forge.below}/7/comments", [{**said(5, "bot", MARK), "id": wrong}, 7, None])
    forge.expect("POST", f"{forge.below}/7/comments", {}, 201)
    assert await tell(forge.pulls, "7", MARK, NEW) is True
    assert json.loads(forge.server.log[-1][0].get_data()) == {"body": NEW}
