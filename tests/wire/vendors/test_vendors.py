"""APIs of registries: the documented answers, in pages, and the credential that each API takes."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from typing import Any

import pytest

from mirrord.errors import ContentError, DeniedError, MissingError, UnreachableError, UsageError
from mirrord.wire.host import HostBook, HostPolicy, Login, Logins
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import WireRequest
from mirrord.wire.oci.reference import Reference
from mirrord.wire.origin import check_url
from mirrord.wire.secret import Credential, Secret, redact
from mirrord.wire.trust import api_owner, belongs
from mirrord.wire.vendors.known import repositories_for, times_of, vendor_of
from mirrord.wire.vendors.port import folders
from tests.support.played import Played, Said
from tests.wire.vendors.conftest import TOKEN, Api

BASIC = "Basic " + base64.b64encode(f"robot:{TOKEN}".encode()).decode()
JWT = "eyJhbGciOiJ.for-the-test.0123456789"

hub = pytest.mark.parametrize("api", ["hub"], indirect=True)
quay = pytest.mark.parametrize("api", ["quay"], indirect=True)
gitlab = pytest.mark.parametrize("api", ["gitlab"], indirect=True)
harbor = pytest.mark.parametrize("api", ["harbor"], indirect=True)


def unreachable(_: WireRequest) -> Said:
    raise UnreachableError("no route")


class Namespaces:
    """A keyring with a credential for each of two namespaces."""

    async def find(self, _: str) -> Logins:
        names = ("one", "two")
        return Logins(tuple(Login(name, Credential(f"robot-{name}", Secret(TOKEN)), "a file") for name in names))


def hub_page(*names: str, following: str | None = None, **more: Any) -> dict[str, Any]:
    return {"count": 3, "next": following, "previous": None, "results": [{"name": name, **more} for name in names]}


@hub
async def test_hub_lists_a_namespace(api: Api) -> None:
    """Docker Hub API reference, "List repositories": pages of 100, `next` says whether there is another one."""
    path, query = "/v2/namespaces/team/repositories", {"page_size": "100"}
    elsewhere = "https://elsewhere.example/v2/namespaces/team/repositories?page=2"  # is not followed
    api.answers(path, hub_page("web", "db", following=elsewhere), query | {"page": "1"})
    api.answers(path, hub_page("Not A Name", "lint", "web"), query | {"page": "2"})
    assert await api.repositories("team/*", "team/d*") == ["team/web", "team/db", "team/lint"]
    assert api.authorized == [None, None]


@hub
async def test_hub_logs_in(api: Api) -> None:
    """Docker Hub API reference, "Create access token": `identifier` and `secret` get a bearer token."""
    api.login("robot")
    account = {"identifier": "robot", "secret": TOKEN}
    api.server.expect_ordered_request("/v2/auth/token", "POST", json=account).respond_with_json({"access_token": JWT})
    api.answers("/v2/namespaces/team/repositories", hub_page("web"), {"page_size": "100", "page": "1"})
    assert await api.repositories("team/*") == ["team/web"]
    assert api.authorized == [None, f"Bearer {JWT}"]
    assert JWT not in redact(f"what {JWT} says")


@hub
async def test_hub_refuses_a_login(api: Api) -> None:
    """A wrong password is an error that says what to give, and nothing is listed without it."""
    api.login("robot")
    api.server.expect_ordered_request("/v2/auth/token", "POST").respond_with_json({"message": "no"}, status=401)
    with pytest.raises(DeniedError, match=r"/v2/auth/token: status 401: no .*personal access token"):
        await api.repositories("team/*")
    assert len(api.asked) == 1


@hub
async def test_a_login_is_not_redirected(api: Api) -> None:
    """The password in the body goes nowhere else, wherever the API points to."""
    api.login("robot")
    elsewhere = {"Location": f"http://localhost:{api.server.port}/stolen"}
    api.server.expect_ordered_request("/v2/auth/token").respond_with_data("", status=307, headers=elsewhere)
    with pytest.raises(ContentError, match="redirects logins"):
        await api.repositories("team/*")
    assert api.asked == ["POST /v2/auth/token"]


@hub
async def test_a_token_that_is_none_is_refused(api: Api) -> None:
    """What would break a header, or has another type, is an error that names the API."""
    for token in ("a\r\nb: c", "x" * 20_000, "ü", [1], ""):
        api.login("robot")
        api.server.expect_oneshot_request("/v2/auth/token").respond_with_json({"access_token": token})
        with pytest.raises(ContentError, match="has the API changed"):
            await api.repositories("team/*")


@hub
async def test_hub_dates_tags(api: Api) -> None:
    """Docker Hub API reference, "List repository tags": `tag_last_pushed`, else `last_updated`; no login is needed."""
    query = {"page_size": "100", "page": "1", "ordering": "last_updated"}
    tags = [
        {"name": "v2", "tag_last_pushed": "2024-05-02T10:00:00.123Z", "last_updated": "2024-06-01T00:00:00Z"},
        {"name": "v1", "tag_last_pushed": None, "last_updated": "2021-01-06T00:29:51.832000Z"},
        {"name": "v0", "last_updated": "soon"},
        {"name": 7, "last_updated": "2024-01-01T00:00:00Z"},
    ]
    api.login("robot")
    api.answers("/v2/namespaces/library/repositories/nginx/tags", {"next": None, "results": tags}, query)
    dates = await api.dates("library/nginx", "v1", "v2", "v0", "absent")
    assert dates == {"v2": "2024-05-02T10:00:00.123000+00:00", "v1": "2021-01-06T00:29:51.832000+00:00"}
    assert api.authorized == [None]


@hub
async def test_hub_dates_private_tags_after_a_login(api: Api) -> None:
    """What is hidden from strangers is asked again with a token."""
    path = "/v2/namespaces/team/repositories/web/tags"
    query = {"page_size": "100", "page": "1", "ordering": "last_updated"}
    api.login("robot")
    api.answers(path, {"message": "object not found"}, query, status=404)
    api.server.expect_ordered_request("/v2/auth/token", "POST").respond_with_json({"access_token": JWT})
    api.answers(path, hub_page("v1", last_updated="2024-05-02T10:00:00Z"), query)
    assert await api.dates("team/web", "v1") == {"v1": "2024-05-02T10:00:00+00:00"}
    assert api.authorized == [None, None, f"Bearer {JWT}"]


async def test_private_repositories_share_a_login() -> None:
    """Docker Hub limits the rate of logins: repositories with one credential log in once, those of another one anew."""

    def play(request: WireRequest) -> Said:
        if request.url.endswith("/v2/auth/token"):
            return Said(body=b'{"access_token": "%s"}' % JWT.encode())
        shown = request.headers.get("Authorization") == f"Bearer {JWT}"
        return (
            Said(body=json.dumps(hub_page("v1", last_updated="2024-05-02T10:00:00Z")).encode()) if shown else Said(404)
        )

    played, keyring = Played(play), Namespaces()
    async with Http(HostBook(keyring=keyring), connect=lambda *_: played, jitter=lambda: 0.0) as http:
        times = [times_of(http, Reference.parse(f"docker.io/{path}")) for path in ("one/a", "one/b", "one/c", "two/a")]
        found = await asyncio.gather(*(one.find(["v1"]) for one in times if one))
    assert [[*tags] for tags in found] == [["v1"]] * 4
    logins = [json.loads(one.body)["identifier"] for one in played.asked if isinstance(one.body, bytes)]
    assert sorted(logins) == ["robot-one", "robot-two"]


async def test_hub_is_asked_at_its_own_host() -> None:
    """For `docker.io` the API is hub.docker.com, where its credential belongs; the registry is not asked."""
    answers = {"/v2/auth/token": b'{"access_token": "%s"}' % JWT.encode()}
    page = b'{"next": null, "results": [{"name": "nginx"}]}'
    played = Played(lambda request: Said(body=answers.get(request.url.partition("hub.docker.com")[2], page)))
    book = HostBook({"docker.io": HostPolicy("docker.io", Credential("robot", Secret(TOKEN)))})
    async with Http(book, connect=lambda *_: played) as http:
        assert [path async for path in repositories_for(http, "docker.io", ["library/ngin*"])] == ["library/nginx"]
    assert [(one.method, one.url) for one in played.asked] == [
        ("POST", "https://hub.docker.com/v2/auth/token"),
        ("GET", "https://hub.docker.com/v2/namespaces/library/repositories?page_size=100&page=1"),
    ]
    assert [one.headers.get("Authorization") for one in played.asked] == [None, f"Bearer {JWT}"]
    assert api_owner("hub.docker.com") == "docker.io"
    assert not belongs(check_url("http://hub.docker.com/"), HostPolicy("docker.io"))
    assert not belongs(check_url("https://hub.docker.com/"), HostPolicy("quay.io"))


@quay
async def test_quay_lists_a_namespace(api: Api) -> None:
    """Red Hat Quay API reference, listRepos: `next_page` is a token for the next page; OAuth tokens are Bearer."""
    api.login("$oauthtoken")
    query = {"namespace": "team", "public": "true"}
    first = {"repositories": [{"namespace": "team", "name": "web", "is_public": True}], "next_page": "gAAA+/=="}
    second = {"repositories": [{"namespace": "team", "name": "tools/lint", "is_public": False}]}
    api.answers("/api/v1/repository", first, query, authorization=f"Bearer {TOKEN}")
    api.answers("/api/v1/repository", second, query | {"next_page": "gAAA+/=="}, authorization=f"Bearer {TOKEN}")
    assert await api.repositories("team/*") == ["team/web", "team/tools/lint"]


@quay
async def test_quays_api_gets_no_password(api: Api) -> None:
    """Robot accounts and passwords are no OAuth tokens: they stay here, and what is public is listed."""
    api.login("team+robot")
    api.answers("/api/v1/repository", {"repositories": []}, {"namespace": "team", "public": "true"})
    assert await api.repositories("team/*") == []
    assert api.authorized == [None]


@quay
async def test_quay_dates_tags(api: Api) -> None:
    """Red Hat Quay API reference, listRepoTags: `start_ts` in seconds, `has_additional`, pages by number."""
    path, query = "/api/v1/repository/team/web/tag/", {"onlyActiveTags": "true", "limit": "100"}
    first = [{"name": "v2", "start_ts": 1717680780}, {"name": "v1", "start_ts": True}, {"name": "v0", "start_ts": 1e9}]
    api.answers(path, {"tags": first, "page": 1, "has_additional": True}, query | {"page": "1"})
    second = [{"name": "old", "start_ts": 1715698131}, {"name": "later", "start_ts": 10**30}]
    api.answers(path, {"tags": second, "page": 2, "has_additional": False}, query | {"page": "2"})
    found = await api.dates("team/web", "v2", "old", "v1", "v0", "later")
    assert found == {"v2": "2024-06-06T13:33:00+00:00", "old": "2024-05-14T14:48:51+00:00"}


@quay
async def test_dates_cost_no_more_pages_than_tags(api: Api) -> None:
    """For one tag one page is read: the image itself says as cheaply when it was made."""
    query = {"onlyActiveTags": "true", "limit": "100", "page": "1"}
    page = {"tags": [{"name": "v9", "start_ts": 1717680780}], "has_additional": True}
    api.answers("/api/v1/repository/team/web/tag/", page, query)
    assert await api.dates("team/web", "v1") == {}
    assert len(api.asked) == 1


@gitlab
async def test_gitlab_lists_a_group(api: Api) -> None:
    """GitLab's "Container registry API", within a group: `path` of each, `Link` to the next page; subgroups too."""
    path, query = "/api/v4/groups/team/tools/registry/repositories", {"per_page": "100"}
    link = f'<http://{api.domain}/api/v4/groups/2/registry/repositories?page=2>; rel="next"'
    one = {"id": 1, "name": "", "path": "team/tools/lint", "location": "registry.example.com/team/tools/lint"}
    api.login("robot")
    api.answers(path, [one], query | {"page": "1"}, link, authorization=f"Bearer {TOKEN}")
    api.answers(path, [{**one, "path": "team/tools/fix/deep"}], query | {"page": "2"})
    assert await api.repositories("team/tools/*") == ["team/tools/lint", "team/tools/fix/deep"]
    assert api.asked[0].startswith("GET /api/v4/groups/team%2Ftools/registry/repositories?")


@gitlab
async def test_gitlab_lists_a_project(api: Api) -> None:
    """GitLab's "Container registry API", within a project: what is no group may be one, also of a user."""
    query = {"per_page": "100", "page": "1"}
    rest = "jo/app/registry/repositories"
    api.answers(f"/api/v4/groups/{rest}", {"message": "404 Group Not Found"}, query, status=404)
    api.answers(f"/api/v4/projects/{rest}", [{"path": "jo/app"}, {"path": "jo/app/tools"}], query)
    assert await api.repositories("jo/app/*") == ["jo/app", "jo/app/tools"]


@gitlab
async def test_gitlab_is_asked_where_the_registry_gets_its_tokens(api: Api) -> None:
    """The API is at the first of `token_realms`, with the credential of the registry, which goes there anyhow."""
    gitlab = f"localhost:{api.server.port}"
    api.login("robot", token_realms=(f"http://{gitlab}",))
    api.answers("/api/v4/groups/team/registry/repositories", [{"path": "team/web"}], {"per_page": "100", "page": "1"})
    assert await api.repositories("team/*") == ["team/web"]
    ((request, _),) = api.server.log
    assert (request.host, request.headers["Authorization"]) == (gitlab, f"Bearer {TOKEN}")


async def test_gitlab_com_is_asked_for_its_registry() -> None:
    """registry.gitlab.com is listed by gitlab.com, with that host's own credential where there is one."""
    played = Played(lambda _: Said(body=b'[{"path": "team/web"}]'))
    policies = {
        host: HostPolicy(host, Credential("robot", Secret(f"{TOKEN}-{host}")))
        for host in ("registry.gitlab.com", "gitlab.com")
    }
    async with Http(HostBook(policies), connect=lambda *_: played) as http:
        assert [path async for path in repositories_for(http, "registry.gitlab.com", ["team/*"])] == ["team/web"]
    (one,) = played.asked
    assert one.url == "https://gitlab.com/api/v4/groups/team/registry/repositories?per_page=100&page=1"
    assert one.headers["Authorization"] == f"Bearer {TOKEN}-gitlab.com"


@harbor
async def test_harbor_lists_a_project(api: Api) -> None:
    """Harbor's swagger.yaml, listRepositories: whole names, `Link` to the next page; Basic as at the registry."""
    path, query = "/api/v2.0/projects/team/repositories", {"page_size": "100"}
    link = '</api/v2.0/projects/team/repositories?page=2&page_size=100>; rel="next"'
    api.login("robot")
    api.answers(path, [{"id": 1, "name": "team/web"}], query | {"page": "1"}, link, authorization=BASIC)
    api.answers(path, [{"id": 2, "name": "team/tools/lint"}], query | {"page": "2"}, authorization=BASIC)
    assert await api.repositories("team/*") == ["team/web", "team/tools/lint"]


@harbor
async def test_harbor_lists_all_projects(api: Api) -> None:
    """Harbor's swagger.yaml, listAllRepositories: for a glob without a project; one list serves all globs."""
    api.answers(
        "/api/v2.0/repositories", [{"name": "team/web"}, {"name": "other/db"}], {"page_size": "100", "page": "1"}
    )
    assert await api.repositories("*", "team/*") == ["team/web", "other/db"]


@harbor
async def test_a_full_page_is_not_the_last(api: Api) -> None:
    """Where a proxy drops the link, a full page is followed by another request: a part is never taken for all."""
    query = {"page_size": "100"}
    names = [f"team/app{number}" for number in range(100)]
    api.answers("/api/v2.0/projects/team/repositories", [{"name": one} for one in names], query | {"page": "1"})
    api.answers("/api/v2.0/projects/team/repositories", [], query | {"page": "2"})
    assert await api.repositories("team/*") == names


@harbor
async def test_harbor_dates_tags(api: Api) -> None:
    """Harbor's swagger.yaml, listArtifacts: a tag's own `push_time`; slashes in a name are encoded twice."""
    query = {"with_tag": "true", "sort": "-push_time", "page_size": "100", "page": "1"}
    artifacts = [
        {"push_time": "2024-05-02T10:00:00Z", "tags": [{"name": "v2", "push_time": "2024-05-03T00:00:00Z"}]},
        {"push_time": "2024-05-01T10:00:00Z", "tags": [{"name": "v1"}, {"name": "latest", "push_time": "0001-01-01"}]},
        {"push_time": "2024-04-01T10:00:00Z", "tags": None},
    ]
    api.answers("/api/v2.0/projects/team/repositories/tools%2Flint/artifacts", artifacts, query)
    assert await api.dates("team/tools/lint", "v1", "v2", "latest") == {
        "v2": "2024-05-03T00:00:00+00:00",
        "v1": "2024-05-01T10:00:00+00:00",
        "latest": "2024-05-01T10:00:00+00:00",
    }
    assert "/repositories/tools%252Flint/artifacts?" in api.asked[0]


@pytest.mark.parametrize("api", ["hub", "quay", "gitlab", "harbor"], indirect=True)
async def test_a_refusal_names_host_and_next_step(api: Api) -> None:
    """A list that is refused is an error with the host, the request and what to do; never an empty list."""
    api.server.expect_request(re.compile(".*")).respond_with_json({"message": "no such thing"}, status=404)
    with pytest.raises(MissingError, match=rf"{api.domain}: GET /.*: status 404: no such .*; (check|for what)"):
        await api.repositories("team/*")


@pytest.mark.parametrize(
    ("host", "word", "name"),
    [
        ("docker.io", None, "hub"),
        ("quay.io", None, "quay"),
        ("registry.gitlab.com", None, "gitlab"),
        ("ghcr.io", None, None),
        ("quay.io.example", None, None),
        ("quay.example", "quay", "quay"),
        ("quay.io", "harbor", "harbor"),
    ],
)
def test_whose_a_registry_is(host: str, word: str | None, name: str | None) -> None:
    """A registry is of the kind that `profile:` says, else that of its exact name, else of none."""
    vendor = vendor_of(host, word)
    assert (vendor and vendor.name) == name


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["team/*", "team/lib-?", "a/b/c*"], ["team", "a/b"]),
        (["*", "te*m/x"], [""]),
        (["/team/(api|web)/", "/^team/.*/"], ["team"]),
        (["/a/x|b/c/.*|team-1/[|]/"], ["a", "b/c", "team-1"]),
        ([r"/my\.org/a\-b/x\d/"], ["my.org/a-b"]),
        (["/team/?x/", "/a/team/*x/"], ["", "a"]),
        (["/(?i)team/x/", "/te?am/x/", "/.*/", "/team.x/y/", r"/\Qteam/x\E/"], [""]),
    ],
)
def test_folders_that_patterns_begin_with(patterns: list[str], expected: list[str]) -> None:
    """Only plain text counts, up to the last `/` that is not optional; each alternative has a folder of its own."""
    assert [*folders(patterns)] == expected


@pytest.mark.parametrize("pattern", ["*", "*/web", "we*", "[ab]*/x", "/team/a|b/", "/.*/"])
async def test_a_glob_needs_a_namespace(pattern: str) -> None:
    """Where lists are of one namespace, a glob that begins in it is an error before anything is asked."""
    async with Http(HostBook({"q.example": HostPolicy("q.example", profile="quay")})) as http:
        with pytest.raises(UsageError, match="Quay lists one namespace at a time; write it in front"):
            await anext(repositories_for(http, "q.example", [pattern]))


async def test_some_registries_have_no_dates() -> None:
    """GitLab's API and registries of no known kind are not asked for dates."""
    async with Http(HostBook()) as http:
        for text in ("registry.gitlab.com/a/b", "ghcr.io/a/b", "localhost:5000/a"):
            assert times_of(http, Reference.parse(text)) is None


async def test_an_api_that_is_gone_is_asked_once() -> None:
    """Of many images only the first waits for an API that cannot be reached; the others use their own dates at once."""
    played = Played(unreachable)
    async with Http(HostBook(), connect=lambda *_: played, jitter=lambda: 0.0) as http:
        for number, why in enumerate(["no route", "left alone", "left alone"]):
            times = times_of(http, Reference.parse(f"docker.io/team/app{number}"))
            assert times
            with pytest.raises(UnreachableError, match=why):
                await times.find(["v1", "v2"])
            assert await times.find(["v1"]) == {}
        assert len(played.asked) == 2
    async with Http(HostBook(), connect=lambda *_: played, jitter=lambda: 0.0) as http:
        times = times_of(http, Reference.parse("docker.io/team/app"))
        assert times
        with pytest.raises(UnreachableError, match="no route"):
            await times.find(["v1"])
