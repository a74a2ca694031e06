"""The APIs of Git hosts: make what is missing, set the default branch, and never show a token to anybody else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from mirrord.errors import ContentError, DeniedError, MirrordError, MissingError, RefusedError, UnsupportedError
from mirrord.testing.listening import listen
from mirrord.wire.forges.known import forge_of
from mirrord.wire.git.address import Address
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import HttpRequest, HttpResponse, refusal
from mirrord.wire.origin import check_url
from mirrord.wire.secret import Credential, Secret
from mirrord.wire.trust import api_owner, belongs

TOKEN = "a-token-of-the-test-0123456789"
Reply = tuple[int, object] | Callable[[Any], tuple[int, object]]


@dataclass
class Host:
    """The API of a host at the port: answers by method and path, and remembers what it was asked."""

    replies: dict[str, Reply | list[Reply]] = field(default_factory=dict)
    book: HostBook = field(default_factory=HostBook)
    calls: list[HttpRequest] = field(default_factory=list)

    @property
    def asked(self) -> list[str]:
        return [f"{call.method} {_target(call.url)}" for call in self.calls]

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(call.body) for call in self.calls if isinstance(call.body, bytes)]

    async def fetch(self, call: HttpRequest) -> HttpResponse:
        self.calls.append(call)
        reply = self.replies.get(self.asked[-1], (404, {"message": "Not Found"}))
        if isinstance(reply, list):
            reply = reply.pop(0)
        sent = json.loads(call.body) if isinstance(call.body, bytes) else None
        status, document = reply(sent) if callable(reply) else reply
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        if status not in call.ok:
            raise refusal(call, status, {"content-type": "application/json"}, body, None)
        return HttpResponse(status, {}, body, call.url)


def _target(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.netloc}{parts.path}{'?' + parts.query if parts.query else ''}"


def book(host: str, user: str = "finops", **more: HostPolicy) -> HostBook:
    return HostBook({host: HostPolicy(host, Credential(user, Secret(TOKEN))), **more})


def made(address: str, replies: Mapping[str, Any], word: str | None = None) -> tuple[Any, Host, Address]:
    """Return a forge, its host and the address."""
    parsed = Address.parse(address)
    return forge_of(parsed, word), Host(dict(replies), book(parsed.host)), parsed


REST = [
    ("https://github.com/finops/crane.git", None, "api.github.com", f"Bearer {TOKEN}"),
    ("https://git.example.com/finops/crane.git", "github", "git.example.com/api/v3", f"Bearer {TOKEN}"),
    ("https://gitee.com/finops/crane.git", None, "gitee.com/api/v5", f"Bearer {TOKEN}"),
    ("https://codeberg.org/finops/crane.git", None, "codeberg.org/api/v1", f"token {TOKEN}"),
    ("https://git.example.com/sub/finops/crane.git", "gitea", "git.example.com/sub/api/v1", f"token {TOKEN}"),
]


@pytest.mark.parametrize(("address", "word", "root", "authorization"), REST)
async def test_a_repository_of_ones_own(address: str, word: str | None, root: str, authorization: str) -> None:
    """A missing repository is made below the token's own name, private and empty; the token is in the header only."""
    user = {f"GET {root}/user": (200, {"login": "FinOps"}), f"POST {root}/user/repos": (201, {"private": True})}
    forge, host, parsed = made(address, user, word)
    assert await forge.exists(host, parsed) is False
    assert await forge.create(host, parsed, "private", "mirror of x") == ""
    assert host.asked == [f"GET {root}/repos/finops/crane", f"GET {root}/user", f"POST {root}/user/repos"]
    (body,) = host.bodies
    assert {"name": "crane", "private": True, "auto_init": False, "description": "mirror of x"}.items() <= body.items()
    assert {call.headers["Authorization"] for call in host.calls} == {authorization}
    assert not any(TOKEN in call.url or TOKEN.encode() in (call.body or b"") for call in host.calls)  # type: ignore[operator]  # bytes or None here


@pytest.mark.parametrize(("address", "word", "root", "authorization"), REST)
async def test_a_repository_of_an_organisation(address: str, word: str | None, root: str, authorization: str) -> None:
    """Another owner is an organisation; who is neither is told so."""
    replies = {f"GET {root}/user": (200, {"login": "me"}), f"POST {root}/orgs/finops/repos": (201, {"private": False})}
    forge, host, parsed = made(address, replies, word)
    assert await forge.create(host, parsed, "public", "") == ""
    forge, host, parsed = made(address, {f"GET {root}/user": (200, {"login": "me"})}, word)
    with pytest.raises(DeniedError, match="finops is neither the credential's own name"):
        await forge.create(host, parsed, "private", "")


@pytest.mark.parametrize(("address", "word", "root", "authorization"), REST)
async def test_somebody_was_faster(address: str, word: str | None, root: str, authorization: str) -> None:
    """A repository that appeared in between is taken as it is; any other refusal stays one."""
    there = (200, {"private": True, "default_branch": "main"})
    replies = {
        f"GET {root}/user": (200, {"login": "finops"}),
        f"POST {root}/user/repos": (422, {"message": "name already exists"}),
        f"GET {root}/repos/finops/crane": there,
    }
    forge, host, parsed = made(address, replies, word)
    assert await forge.create(host, parsed, "private", "") == ""
    assert await forge.default_branch(host, parsed) == "main"
    del host.replies[f"GET {root}/repos/finops/crane"]
    with pytest.raises(RefusedError, match="name already exists"):
        await forge.create(host, parsed, "private", "")


@pytest.mark.parametrize(("address", "word", "root", "authorization"), REST)
async def test_the_default_branch(address: str, word: str | None, root: str, authorization: str) -> None:
    """The default branch is read and set with one request each; of a missing repository it is None."""
    forge, host, parsed = made(address, {f"PATCH {root}/repos/finops/crane": (200, {})}, word)
    assert await forge.default_branch(host, parsed) is None
    await forge.set_default_branch(host, parsed, "main")
    assert host.bodies == [{"name": "crane", "default_branch": "main"}]


@pytest.mark.parametrize(
    ("changed", "note"),
    [
        ((200, {"private": False}), ""),
        ((200, {"private": True}), "it is private until Gitee has reviewed it"),
        ((403, {"message": "真实姓名 实名"}), "it is private for now"),
    ],
)
async def test_gitee_reviews_what_becomes_public(changed: tuple[int, object], note: str) -> None:
    """A public repository at Gitee begins private; that it stays so is told, and is no failure."""
    root = "gitee.com/api/v5"
    replies = {
        f"GET {root}/user": (200, {"login": "finops"}),
        f"POST {root}/user/repos": (201, {"private": True}),
        f"PATCH {root}/repos/finops/crane": changed,
    }
    forge, host, parsed = made("https://gitee.com/finops/crane.git", replies)
    assert (await forge.create(host, parsed, "public", "")).startswith(note)
    assert [body["private"] for body in host.bodies] == [True, False]


async def test_gitlab() -> None:
    """A GitLab project is made in its group, found by its path, and keeps its visibility."""
    root, path = "gitlab.com/api/v4", "g%2Fs%2Fcrane"
    replies: dict[str, Any] = {
        f"GET {root}/namespaces/g%2Fs": (200, {"id": 42}),
        f"POST {root}/projects": (201, {}),
        f"PUT {root}/projects/{path}": (200, {}),
    }
    forge, host, parsed = made("git@gitlab.com:g/s/crane.git", replies)
    host.book = book("gitlab.com")
    assert await forge.exists(host, parsed) is False
    await forge.create(host, parsed, "public", "")
    await forge.set_default_branch(host, parsed, "main")
    assert host.bodies[0]["namespace_id"] == 42
    assert (host.bodies[0]["visibility"], host.bodies[1]) == ("public", {"default_branch": "main"})
    host.replies[f"GET {root}/projects/{path}"] = (200, {"default_branch": "main"})
    host.replies[f"POST {root}/projects"] = (400, {"message": "has already been taken"})
    await forge.create(host, parsed, "public", "")
    assert (await forge.exists(host, parsed), await forge.default_branch(host, parsed)) == (True, "main")


@pytest.mark.parametrize("told", ["x", "²", "9" * 30, "-1"])
async def test_a_number_that_is_none(told: str) -> None:
    """What stands where the API has a number is told to be none, and is no bug of ours."""
    root = "gitlab.com/api/v4"
    forge, host, parsed = made("git@gitlab.com:g/s/crane.git", {f"GET {root}/namespaces/g%2Fs": (200, {"id": told})})
    host.book = book("gitlab.com")
    with pytest.raises(ContentError, match="no number as id"):
        await forge.create(host, parsed, "public", "")


async def test_cnb() -> None:
    """CNB makes repositories in groups and tells the default branch; setting that is left to people."""
    root = "api.cnb.cool"
    replies = {
        f"POST {root}/g/s/-/repos": (201, b""),
        f"GET {root}/g/s/crane/-/git/head": (200, {"name": "main", "protected": False}),
    }
    forge, host, parsed = made("https://cnb.cool/g/s/crane", replies)
    assert await forge.exists(host, parsed) is False
    await forge.create(host, parsed, "private", "d")
    assert host.bodies == [{"name": "crane", "visibility": "private", "description": "d"}]
    assert await forge.default_branch(host, parsed) == "main"
    with pytest.raises(UnsupportedError, match="in its settings"):
        await forge.set_default_branch(host, parsed, "main")
    host.replies[f"POST {root}/g/s/-/repos"] = (409, {"errmsg": "exists"})
    with pytest.raises(RefusedError):
        await forge.create(host, parsed, "private", "d")


def coding(**answers: Any) -> dict[str, Any]:
    """Return the replies of Coding's one endpoint by action, wrapped as it wraps them, also errors."""
    return {
        f"POST e.coding.net/open-api?Action={action}": (200, {"Response": {"RequestId": "1", **answer}})
        for action, answer in answers.items()
    }


GONE = {"Error": {"Code": "ResourceNotFound", "Message": "仓库不存在"}}
CRANE = "https://e.coding.net/finops/gocrane/crane.git"


async def test_coding() -> None:
    """Coding: the project of exactly this name, a repository in it, the default branch in somebody's name."""
    listed = [{"Id": 1, "Name": "gocrane-old"}, {"Id": 7, "Name": "gocrane"}]
    replies = coding(
        DescribeDepotByNameInfo=GONE,
        DescribeCodingProjects={"Data": {"ProjectList": listed}},
        CreateGitDepot={"DepotId": 9},
        DescribeDepotDefaultBranch={"BranchName": "main"},
        DescribeCodingCurrentUser={"User": {"Id": 5}},
        ModifyDefaultBranch={},
    )
    forge, host, parsed = made(CRANE, replies)
    assert await forge.exists(host, parsed) is False
    await forge.create(host, parsed, "public", "d")
    sent = {"Action": "CreateGitDepot", "ProjectId": 7, "DepotName": "crane", "Description": "d", "Shared": True}
    assert host.bodies[-1] == sent
    assert await forge.default_branch(host, parsed) == "main"
    with pytest.raises(MissingError):
        await forge.set_default_branch(host, parsed, "main")
    host.replies.update(coding(DescribeDepotByNameInfo={"Depot": {"Id": 9}}))
    await forge.set_default_branch(host, parsed, "main")
    assert host.bodies[-1] == {"Action": "ModifyDefaultBranch", "BranchName": "main", "DepotId": 9, "UserId": 5}
    assert {call.headers["Authorization"] for call in host.calls} == {f"token {TOKEN}"}
    once = {call.url.partition("=")[2] for call in host.calls if call.attempts == 1}
    assert once == {"CreateGitDepot"}, "everything else may be asked twice"


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("AuthFailure", "令牌无效", DeniedError),
        ("UnauthorizedOperation", "no permission", DeniedError),
        ("ResourceNotFound", "", MissingError),
        ("FailedOperation", "some other trouble", RefusedError),
    ],
)
async def test_coding_says_no_with_status_200(code: str, message: str, kind: type[MirrordError]) -> None:
    """An error of Coding's comes as a success; it becomes what it is, and holds Coding's own words."""
    error = {"Error": {"Code": code, "Message": message}}
    forge, host, parsed = made(CRANE, coding(DescribeCodingProjects=error))
    with pytest.raises(kind) as caught:
        await forge.create(host, parsed, "private", "")
    assert type(caught.value) is kind
    assert code in str(caught.value)


@pytest.mark.parametrize("projects", [[], [{"Id": 1, "Name": "gocrane2"}], None])
async def test_coding_takes_no_other_project(projects: object) -> None:
    """A search that finds only projects with longer names has not found the project."""
    forge, host, parsed = made(CRANE, coding(DescribeCodingProjects={"Data": {"ProjectList": projects}}))
    with pytest.raises(MissingError, match="the token sees no project 'gocrane'"):
        await forge.create(host, parsed, "private", "")


async def test_coding_repository_that_appeared() -> None:
    """`exists already` is success when the repository is there indeed."""
    replies = coding(
        DescribeCodingProjects={"Data": {"ProjectList": [{"Id": 7, "Name": "gocrane"}]}},
        CreateGitDepot={"Error": {"Code": "FailedOperation", "Message": "depot name already exists"}},
        DescribeDepotByNameInfo={"Depot": {"Id": 9}},
    )
    forge, host, parsed = made(CRANE, replies)
    assert await forge.create(host, parsed, "private", "") == ""
    host.replies.update(coding(DescribeDepotByNameInfo=GONE))
    with pytest.raises(RefusedError):
        await forge.create(host, parsed, "private", "")


async def test_plain_hosts_are_not_asked() -> None:
    """Of a plain Git server nothing is asked but Git."""
    forge, host, parsed = made("https://git.example.com/x.git", {})
    assert (await forge.exists(host, parsed), await forge.default_branch(host, parsed)) == (None, None)
    with pytest.raises(UnsupportedError):
        await forge.create(host, parsed, "private", "")
    with pytest.raises(UnsupportedError):
        await forge.set_default_branch(host, parsed, "main")
    assert host.calls == []


@pytest.mark.parametrize("body", [b"<html>login</html>", b"[]", b"[" * 100_000, b"\xff", b"null", b'"x"'])
async def test_answers_that_are_no_objects(body: bytes) -> None:
    """What is no JSON object is a wrong answer, whoever sent it."""
    forge, host, parsed = made("https://gitee.com/o/r", {"GET gitee.com/api/v5/repos/o/r": (200, body)})
    with pytest.raises(ContentError):
        await forge.exists(host, parsed)


async def test_refusals_come_with_the_next_step() -> None:
    """The host's own words, and what to do."""
    reply = (401, {"message": "401 Unauthorized: Access token does not exist"})
    forge, host, parsed = made("https://gitee.com/o/r", {"GET gitee.com/api/v5/repos/o/r": reply})
    with pytest.raises(DeniedError, match=r"Access token does not exist.*make one with `projects` at Gitee") as caught:
        await forge.exists(host, parsed)
    assert caught.value.status == 401


@pytest.mark.parametrize(
    ("api", "policies", "key", "sent"),
    [
        ("github.com", {}, "github.com", TOKEN),
        ("github.com", {"api.github.com": HostPolicy("api.github.com", proxy="http://p:1")}, "github.com", TOKEN),
        (
            "github.com",
            {"api.github.com": HostPolicy("api.github.com", Credential("x", Secret("other-secret-9876")))},
            "api.github.com",
            "other-secret-9876",
        ),
        ("other.example", {}, "github.com", None),
    ],
)
async def test_whose_token(api: str, policies: dict[str, HostPolicy], key: str, sent: str | None) -> None:
    """The API of a host gets the host's token, unless it has one of its own; no other host's token ever."""
    policies = {**book(api).policies, **policies}
    host = Host({}, HostBook(policies))
    parsed = Address.parse("https://github.com/o/r")
    await forge_of(parsed).exists(host, parsed)
    (call,) = host.calls
    assert (call.host, call.headers.get("Authorization")) == (key, f"Bearer {sent}" if sent else None)


@pytest.mark.parametrize(
    ("host", "owner"),
    [
        ("api.github.com", "github.com"),
        ("api.cnb.cool", "cnb.cool"),
        ("gitee.com", "gitee.com"),
        ("api.gitee.com", "api.gitee.com"),
        ("api.github.com.evil.test", "api.github.com.evil.test"),
        ("api.github.com:8443", "api.github.com:8443"),
    ],
)
def test_api_owners(host: str, owner: str) -> None:
    """Whose credentials an API may see is a fixed table, compared by equality."""
    assert api_owner(host) == owner
    origin = check_url(f"https://{host}/x")
    for name in ("github.com", "cnb.cool", "gitee.com"):
        assert belongs(origin, HostPolicy(name)) is (owner == name)
    assert not belongs(check_url("http://api.github.com/"), HostPolicy("github.com"))
    assert not belongs(check_url("https://github.com/"), HostPolicy("api.github.com"))


async def test_the_token_goes_where_it_belongs_and_no_further() -> None:
    """On the wire: the header as the API wants it, no Basic after a challenge, nothing after a redirect."""
    seen: list[tuple[str, str | None]] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        seen.append((request.raw_path, request.headers.get("Authorization")))
        if request.path == "/challenge":
            wanted = request.headers.get("Authorization")
            return web.Response(status=200 if wanted else 401, headers={"WWW-Authenticate": "Basic realm=x"})
        if request.path.endswith("/moved"):
            return web.Response(status=302, headers={"Location": f"http://127.0.0.1:{elsewhere}/api/v1/repos/o/there"})
        return web.json_response({"default_branch": "main"})

    runner, port = await listen(answer)
    other, elsewhere = await listen(answer)
    try:
        home = f"127.0.0.1:{port}"
        async with Http(book(home)) as http:
            await http.fetch(HttpRequest("GET", f"http://{home}/challenge", home))
            seen.clear()
            for name in ("r", "moved"):
                address = Address.parse(f"http://{home}/o/{name}")
                assert await forge_of(address, "gitea").default_branch(http, address) == "main"
    finally:
        await runner.cleanup()
        await other.cleanup()
    token = f"token {TOKEN}"
    assert seen == [
        ("/api/v1/repos/o/r", token),
        ("/api/v1/repos/o/moved", token),
        ("/api/v1/repos/o/there", None),
    ]


async def test_a_token_with_an_umlaut_arrives_as_it_is() -> None:
    """A password may hold any letter: a host that wants it bare gets it in UTF-8."""
    seen = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization"))
        return web.json_response({"default_branch": "main"})

    runner, port = await listen(answer)
    home = f"127.0.0.1:{port}"
    try:
        async with Http(HostBook({home: HostPolicy(home, Credential("x", Secret("größe-9f2d")))})) as http:
            address = Address.parse(f"http://{home}/o/r")
            assert await forge_of(address, "gitea").default_branch(http, address) == "main"
    finally:
        await runner.cleanup()
    assert seen == ["token größe-9f2d"]
