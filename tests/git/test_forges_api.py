"""The APIs of Git hosts: make what is missing, set the default branch, and never show a token to anybody else."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from pytest_httpserver.httpserver import UNDEFINED
from werkzeug import Request, Response

from mirrord.errors import ContentError, DeniedError, MirrordError, MissingError, RefusedError, UnsupportedError
from mirrord.wire.forges.known import forge_of
from mirrord.wire.forges.port import Forge
from mirrord.wire.git.address import Address
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import HttpRequest
from mirrord.wire.origin import check_url
from mirrord.wire.proxy import Proxy
from mirrord.wire.secret import Credential, Secret
from mirrord.wire.trust import api_owner, belongs
from tests.support.played import Played, Said

TOKEN = "a-token-of-the-test-0123456789"
NO_REPOSITORY = {"message": "Not Found"}


def book(host: str, user: str = "finops", token: str = TOKEN, **more: HostPolicy) -> HostBook:
    return HostBook({host: HostPolicy(host, Credential(user, Secret(token))), **more})


@dataclass
class Host:
    """The API of one kind of host, on loopback: answers what is expected, in this order, and nothing else."""

    server: HTTPServer
    http: Http
    forge: Forge
    address: Address
    root: str
    authorization: str

    def expect(self, method: str, path: str, answer: Any = None, *, status: int = 200, sent: Any = UNDEFINED) -> None:
        asked = self.server.expect_ordered_request(
            self.root + path, method, json=sent, headers={"Authorization": self.authorization}
        )
        if isinstance(answer, bytes):
            asked.respond_with_data(answer, status, content_type="application/json")
        else:
            asked.respond_with_json(answer, status)

    def refuse(self, method: str, path: str, status: int = 404, answer: Any = None) -> None:
        self.expect(method, path, answer or NO_REPOSITORY, status=status)

    @property
    def asked(self) -> list[str]:
        """What was asked, as it was written on the wire."""
        return [f"{request.method} {request.environ['RAW_URI']}" for request, _ in self.server.log]

    async def exists(self) -> bool | None:
        return await self.forge.exists(self.http, self.address)

    async def create(self, visibility: str = "private", description: str = "") -> str:
        return await self.forge.create(self.http, self.address, visibility, description)

    async def default_branch(self) -> str | None:
        return await self.forge.default_branch(self.http, self.address)

    async def set_default_branch(self, branch: str) -> None:
        await self.forge.set_default_branch(self.http, self.address, branch)


@pytest.fixture(scope="session")
def httpserver_listen_address() -> tuple[str, int]:
    return ("127.0.0.1", 0)


@pytest.fixture
def server(httpserver: HTTPServer) -> Iterator[HTTPServer]:
    yield httpserver
    httpserver.check()
    assert not any(TOKEN in request.url or TOKEN.encode() in request.get_data() for request, _ in httpserver.log)


async def host_of(server: HTTPServer, kind: str) -> AsyncIterator[Host]:
    home = f"127.0.0.1:{server.port}"
    path, root, scheme = KINDS[kind]
    address = Address.parse(f"http://{home}/{path}.git")
    async with Http(book(home)) as http:
        yield Host(server, http, forge_of(address, kind.partition(" ")[0]), address, root, f"{scheme} {TOKEN}")


KINDS = {
    "github": ("finops/crane", "/api/v3", "Bearer"),
    "gitee": ("finops/crane", "/api/v5", "Bearer"),
    "gitea": ("finops/crane", "/api/v1", "token"),
    "gitea below a path": ("sub/finops/crane", "/sub/api/v1", "token"),
    "gitlab": ("g/s/crane", "/api/v4", "Bearer"),
    "cnb": ("g/s/crane", "", "Bearer"),
    "coding": ("finops/gocrane/crane", "/open-api", "token"),
    "plain": ("x", "", "Bearer"),
}
OWNED = [kind for kind, (_, root, _) in KINDS.items() if re.search(r"/api/v[135]", root)]


@pytest.fixture(params=OWNED)
async def owned(request: pytest.FixtureRequest, server: HTTPServer) -> AsyncIterator[Host]:
    async for host in host_of(server, request.param):
        yield host


def fixture_of(kind: str) -> Any:
    @pytest.fixture(name=kind)
    async def one(server: HTTPServer) -> AsyncIterator[Host]:
        async for host in host_of(server, kind):
            yield host

    return one


gitee_host, gitlab_host, cnb_host, coding_host = map(fixture_of, ("gitee", "gitlab", "cnb", "coding"))


REPOSITORY = "/repos/finops/crane"


async def test_a_repository_of_ones_own(owned: Host) -> None:
    """A missing repository is made below the token's own name, private and empty; the token is in the header only."""
    owned.refuse("GET", REPOSITORY)
    owned.expect("GET", "/user", {"login": "FinOps"})
    body = {"name": "crane", "private": True, "description": "mirror of x", "auto_init": False}
    extra = {"github": ("has_issues", "has_projects", "has_wiki"), "gitee": ("has_issues", "has_wiki")}
    body |= dict.fromkeys(extra.get(owned.forge.name, ()), False)
    owned.expect("POST", "/user/repos", {"private": True}, status=201, sent=body)
    assert await owned.exists() is False
    assert await owned.create("private", "mirror of x") == ""


async def test_a_repository_of_an_organisation(owned: Host) -> None:
    """Another owner is an organisation; who is neither is told so."""
    owned.expect("GET", "/user", {"login": "me"})
    owned.expect("POST", "/orgs/finops/repos", {"private": False}, status=201)
    assert await owned.create("public") == ""
    owned.expect("GET", "/user", {"login": "me"})
    owned.refuse("POST", "/orgs/finops/repos")
    with pytest.raises(DeniedError, match="finops is neither the credential's own name"):
        await owned.create()


async def test_somebody_was_faster(owned: Host) -> None:
    """A repository that appeared in between is taken as it is; any other refusal stays one."""
    owned.expect("GET", "/user", {"login": "finops"})
    owned.refuse("POST", "/user/repos", 422, {"message": "name already exists"})
    for _ in range(2):
        owned.expect("GET", REPOSITORY, {"private": True, "default_branch": "main"})
    assert await owned.create() == ""
    assert await owned.default_branch() == "main"
    owned.expect("GET", "/user", {"login": "finops"})
    owned.refuse("POST", "/user/repos", 422, {"message": "name already exists"})
    owned.refuse("GET", REPOSITORY)
    with pytest.raises(RefusedError, match="name already exists"):
        await owned.create()


async def test_the_default_branch(owned: Host) -> None:
    """The default branch is read and set with one request each; of a missing repository it is None."""
    owned.refuse("GET", REPOSITORY)
    owned.expect("PATCH", REPOSITORY, {}, sent={"name": "crane", "default_branch": "main"})
    assert await owned.default_branch() is None
    await owned.set_default_branch("main")


async def test_what_may_make_something_is_asked_once(owned: Host) -> None:
    """A creation that ends in a server's error is not sent again: it may have made the repository."""
    owned.expect("GET", "/user", {"login": "finops"})
    owned.refuse("POST", "/user/repos", 503, {"message": "try later"})
    with pytest.raises(MirrordError, match="try later"):
        await owned.create()
    assert len(owned.asked) == 2


@pytest.mark.parametrize(
    ("status", "changed", "note"),
    [
        (200, {"private": False}, ""),
        (200, {"private": True}, "it is private until Gitee has reviewed it"),
        (403, {"message": "真实姓名 实名"}, "it is private for now"),
    ],
)
async def test_gitee_reviews_what_becomes_public(gitee: Host, status: int, changed: object, note: str) -> None:
    """A public repository at Gitee begins private; that it stays so is told, and is no failure."""
    gitee.expect("GET", "/user", {"login": "finops"})
    gitee.expect("POST", "/user/repos", {"private": True}, status=201)
    gitee.expect("PATCH", REPOSITORY, changed, status=status, sent={"name": "crane", "private": False})
    assert (await gitee.create("public")).startswith(note)


async def test_gitlab(gitlab: Host) -> None:
    """A GitLab project is made in its group, found by its path, and keeps its visibility."""
    project = "/projects/g/s/crane"
    made = {"name": "crane", "path": "crane", "namespace_id": 42, "visibility": "public", "description": ""}
    gitlab.refuse("GET", project)
    gitlab.expect("GET", "/namespaces/g/s", {"id": 42})
    gitlab.expect("POST", "/projects", {}, status=201, sent=made)
    gitlab.expect("PUT", project, {}, sent={"default_branch": "main"})
    assert await gitlab.exists() is False
    await gitlab.create("public")
    await gitlab.set_default_branch("main")
    assert {"GET /api/v4/namespaces/g%2Fs", "PUT /api/v4/projects/g%2Fs%2Fcrane"} <= set(gitlab.asked)
    gitlab.expect("GET", "/namespaces/g/s", {"id": 42})
    gitlab.refuse("POST", "/projects", 400, {"message": "has already been taken"})
    for _ in range(3):
        gitlab.expect("GET", project, {"default_branch": "main"})
    await gitlab.create("public")
    assert (await gitlab.exists(), await gitlab.default_branch()) == (True, "main")


@pytest.mark.parametrize("number", ["x", "²", "9" * 30, "-1"])
async def test_a_number_that_is_none(gitlab: Host, number: str) -> None:
    """What stands where the API has a number is told to be none, and is no bug of ours."""
    gitlab.expect("GET", "/namespaces/g/s", {"id": number})
    with pytest.raises(ContentError, match="no number as id"):
        await gitlab.create()


async def test_cnb(cnb: Host) -> None:
    """CNB makes repositories in groups and tells the default branch; setting that is left to people."""
    sent = {"name": "crane", "visibility": "private", "description": "d"}
    cnb.refuse("GET", "/g/s/crane")
    cnb.expect("POST", "/g/s/-/repos", b"", status=201, sent=sent)
    cnb.expect("GET", "/g/s/crane/-/git/head", {"name": "main", "protected": False})
    assert await cnb.exists() is False
    await cnb.create("private", "d")
    assert await cnb.default_branch() == "main"
    with pytest.raises(UnsupportedError, match="in its settings"):
        await cnb.set_default_branch("main")
    cnb.refuse("POST", "/g/s/-/repos", 409, {"errmsg": "exists"})
    cnb.refuse("GET", "/g/s/crane")
    with pytest.raises(RefusedError):
        await cnb.create("private", "d")


LISTED = [{"Id": 1, "Name": "gocrane-old"}, {"Id": 7, "Name": "gocrane"}]
GONE = {"Error": {"Code": "ResourceNotFound", "Message": "仓库不存在"}}


def act(host: Host, action: str, answer: object, **sent: object) -> None:
    """Expect an action at Coding's one endpoint, which wraps what it answers, errors too."""
    asked = host.server.expect_ordered_request(
        host.root, "POST", query_string={"Action": action}, json={"Action": action, **sent} if sent else UNDEFINED,
        headers={"Authorization": host.authorization},
    )  # fmt: skip
    asked.respond_with_json({"Response": {"RequestId": "1", **answer}})  # type: ignore[dict-item]  # a document


async def test_coding(coding: Host) -> None:
    """Coding: the project of exactly this name, a repository in it, the default branch in somebody's name."""
    act(coding, "DescribeDepotByNameInfo", GONE, TeamGk="finops", ProjectName="gocrane", DepotName="crane")
    act(
        coding, "DescribeCodingProjects", {"Data": {"ProjectList": LISTED}},
        ProjectName="gocrane", PageNumber=1, PageSize=100,
    )  # fmt: skip
    act(coding, "CreateGitDepot", {"DepotId": 9}, ProjectId=7, DepotName="crane", Description="d", Shared=True)
    act(coding, "DescribeDepotDefaultBranch", {"BranchName": "main"}, DepotPath="finops/gocrane/crane")
    act(coding, "DescribeDepotByNameInfo", GONE)
    assert await coding.exists() is False
    await coding.create("public", "d")
    assert await coding.default_branch() == "main"
    with pytest.raises(MissingError):
        await coding.set_default_branch("main")
    act(coding, "DescribeDepotByNameInfo", {"Depot": {"Id": 9}})
    act(coding, "DescribeCodingCurrentUser", {"User": {"Id": 5}})
    act(coding, "ModifyDefaultBranch", {}, BranchName="main", DepotId=9, UserId=5)
    await coding.set_default_branch("main")


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("AuthFailure", "令牌无效", DeniedError),
        ("UnauthorizedOperation", "no permission", DeniedError),
        ("ResourceNotFound", "", MissingError),
        ("FailedOperation", "some other trouble", RefusedError),
    ],
)
async def test_coding_says_no_with_status_200(coding: Host, code: str, message: str, kind: type[MirrordError]) -> None:
    """An error of Coding's comes as a success; it becomes what it is, and holds Coding's own words."""
    act(coding, "DescribeCodingProjects", {"Error": {"Code": code, "Message": message}})
    with pytest.raises(kind) as caught:
        await coding.create()
    assert type(caught.value) is kind
    assert code in str(caught.value)


@pytest.mark.parametrize("projects", [[], [{"Id": 1, "Name": "gocrane2"}], None])
async def test_coding_takes_no_other_project(coding: Host, projects: object) -> None:
    """A search that finds only projects with longer names has not found the project."""
    act(coding, "DescribeCodingProjects", {"Data": {"ProjectList": projects}})
    with pytest.raises(MissingError, match="the token sees no project 'gocrane'"):
        await coding.create()


async def test_coding_tells_projects_in_pages(coding: Host) -> None:
    """A project is found on whichever page of the search it stands."""
    full = [{"Id": number, "Name": f"gocrane-{number}"} for number in range(100)]
    act(
        coding,
        "DescribeCodingProjects",
        {"Data": {"ProjectList": full}},
        ProjectName="gocrane",
        PageNumber=1,
        PageSize=100,
    )
    act(
        coding,
        "DescribeCodingProjects",
        {"Data": {"ProjectList": full}},
        ProjectName="gocrane",
        PageNumber=2,
        PageSize=100,
    )
    act(
        coding,
        "DescribeCodingProjects",
        {"Data": {"ProjectList": LISTED}},
        ProjectName="gocrane",
        PageNumber=3,
        PageSize=100,
    )
    act(coding, "CreateGitDepot", {"DepotId": 9}, ProjectId=7, DepotName="crane", Description="", Shared=False)
    assert await coding.create() == ""


async def test_coding_repository_that_appeared(coding: Host) -> None:
    """`exists already` is success when the repository is there indeed."""
    exists = {"Error": {"Code": "FailedOperation", "Message": "depot name already exists"}}
    for there, error in (({"Depot": {"Id": 9}}, None), (GONE, RefusedError)):
        act(coding, "DescribeCodingProjects", {"Data": {"ProjectList": LISTED}})
        act(coding, "CreateGitDepot", exists)
        act(coding, "DescribeDepotByNameInfo", there)
        if error is None:
            assert await coding.create() == ""
        else:
            with pytest.raises(error):
                await coding.create()


async def test_plain_hosts_are_not_asked(server: HTTPServer) -> None:
    """Of a plain Git server nothing is asked but Git."""
    async for host in host_of(server, "plain"):
        assert (await host.exists(), await host.default_branch()) == (None, None)
        with pytest.raises(UnsupportedError):
            await host.create()
        with pytest.raises(UnsupportedError):
            await host.set_default_branch("main")
        assert host.asked == []


@pytest.mark.parametrize("body", [b"<html>login</html>", b"[]", b"[" * 100_000, b"\xff", b"null", b'"x"'])
async def test_answers_that_are_no_objects(gitee: Host, body: bytes) -> None:
    """What is no JSON object is a wrong answer, whoever sent it."""
    gitee.expect("GET", REPOSITORY, body)
    with pytest.raises(ContentError):
        await gitee.exists()


async def test_refusals_come_with_the_next_step(gitee: Host) -> None:
    """The host's own words, and what to do."""
    gitee.refuse("GET", REPOSITORY, 401, {"message": "401 Unauthorized: Access token does not exist"})
    with pytest.raises(DeniedError, match=r"Access token does not exist.*make one with `projects` at Gitee") as caught:
        await gitee.exists()
    assert caught.value.status == 401


@pytest.mark.parametrize(
    ("address", "urls"),
    [
        ("https://github.com/o/r", ["https://api.github.com/repos/o/r"]),
        ("https://git.example.com/o/r", ["https://git.example.com/api/v1/repos/o/r"]),
        ("git@gitlab.com:g/s/r.git", ["https://gitlab.com/api/v4/projects/g%2Fs%2Fr"]),
        ("https://cnb.cool/g/s/r", ["https://api.cnb.cool/g/s/r"]),
        ("https://gitee.com/o/r", ["https://gitee.com/api/v5/repos/o/r"]),
    ],
)
async def test_where_an_api_is(address: str, urls: list[str]) -> None:
    """The API of a well-known host is asked at its own name, and a private one below the host."""
    played = Played(lambda _: Said(404))
    parsed = Address.parse(address)
    async with Http(HostBook(), connect=lambda _route, _limits: played) as http:
        word = "gitea" if "example" in address else None
        assert await forge_of(parsed, word).exists(http, parsed) is False
    assert [request.url for request in played.asked] == urls


@pytest.mark.parametrize(
    ("api", "policies", "sent"),
    [
        ("github.com", {}, TOKEN),
        ("github.com", {"api.github.com": HostPolicy("api.github.com", proxy=Proxy("http://p:1"))}, TOKEN),
        (
            "github.com",
            {"api.github.com": HostPolicy("api.github.com", Credential("x", Secret("other-secret-9876")))},
            "other-secret-9876",
        ),
        ("other.example", {}, None),
    ],
)
async def test_whose_token(api: str, policies: dict[str, HostPolicy], sent: str | None) -> None:
    """The API of a host gets the host's token, unless it has one of its own; no other host's token ever."""
    played = Played(lambda _: Said(404))
    parsed = Address.parse("https://github.com/o/r")
    every = HostBook({**book(api).policies, **policies})
    async with Http(every, connect=lambda _route, _limits: played) as http:
        await forge_of(parsed).exists(http, parsed)
    (request,) = played.asked
    assert request.headers.get("authorization", request.headers.get("Authorization")) == (
        f"Bearer {sent}" if sent else None
    )


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


async def test_the_token_goes_where_it_belongs_and_no_further(server: HTTPServer) -> None:
    """On the wire: the header as the API wants it, no Basic after a challenge, nothing after a redirect."""
    home = f"127.0.0.1:{server.port}"

    def challenge(request: Request) -> Response:
        status = 200 if request.headers.get("Authorization") else 401
        return Response(status=status, headers={"WWW-Authenticate": "Basic realm=x"})

    server.expect_request("/challenge").respond_with_handler(challenge)
    elsewhere = f"http://localhost:{server.port}/api/v1/repos/o/there"
    server.expect_request("/api/v1/repos/o/moved").respond_with_data("", 302, {"Location": elsewhere})
    server.expect_request(re.compile("/api/v1/repos/o/(r|there)")).respond_with_json({"default_branch": "main"})
    async with Http(book(home)) as http:
        await http.fetch(HttpRequest("GET", f"http://{home}/challenge", home))
        server.clear_log()
        for name in ("r", "moved"):
            address = Address.parse(f"http://{home}/o/{name}")
            assert await forge_of(address, "gitea").default_branch(http, address) == "main"
    token = f"token {TOKEN}"
    assert [(request.path, request.headers.get("Authorization")) for request, _ in server.log] == [
        ("/api/v1/repos/o/r", token),
        ("/api/v1/repos/o/moved", token),
        ("/api/v1/repos/o/there", None),
    ]


async def test_a_token_with_an_umlaut_arrives_as_it_is(server: HTTPServer) -> None:
    """A password may hold any letter: a host that wants it bare gets it in UTF-8."""
    home = f"127.0.0.1:{server.port}"
    server.expect_request("/api/v1/repos/o/r").respond_with_json({"default_branch": "main"})
    async with Http(book(home, token="größe-9f2d")) as http:
        address = Address.parse(f"http://{home}/o/r")
        assert await forge_of(address, "gitea").default_branch(http, address) == "main"
    ((request, _),) = server.log
    assert request.headers["Authorization"].encode("latin-1").decode() == "token größe-9f2d"


def test_httpx_is_loaded_when_an_api_is_asked() -> None:
    """Who asks no API does not wait for httpx: not for pages, not for the kind of a host."""
    code = (
        "import sys; from mirrord.wire.forges.known import parse_page; parse_page('https://github.com/o/r');"
        "import mirrord.cli; print('httpx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
