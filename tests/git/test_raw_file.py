"""`mirrord raw-url --fetch`: a file is read through each host's API, with the credential of the configuration."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from pytest_httpserver import HTTPServer

from mirrord.errors import MissingError, TooLargeError, UsageError
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.servers import require
from mirrord.wire.forges.known import FORGES
from mirrord.wire.forges.page import Page, RepositoryFile, resolved
from mirrord.wire.git.address import Address
from mirrord.wire.git.refs import Refs
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.secret import Credential, Secret
from tests.support.commands import Desk, Said
from tests.support.forgesite import KINDS, TOKEN, ForgeKind, ForgeSite
from tests.support.gitea import OWNER, Gitea

NAME, FILE = "docs/a b.yaml", b"one: 1\n\xff\0\n"
PUBLIC = "https://mirror.example.org"
CONFIG = """\
settings: {{listen: '127.0.0.1:0', url: 'https://mirror.example.org'}}
hosts: {{'{host}': {{auth: {{username: {user}, password: {{env: TOKEN}}}}}}}}
targets:
  there: {{kind: git, to: '{to}', host: {kind}}}
mirrors: [{{name: charts, kind: git, from: '{origin}.git', to: [there, local]}}]
"""


@dataclass(slots=True)
class Scene:
    """A host of one kind with a repository and its API, and a configuration with a mirror to it."""

    site: ForgeSite
    desk: Desk
    upstream: Upstream

    async def fetch(self, *words: str) -> Said:
        return await self.desk.run("raw-url", "--fetch", *words, TOKEN=TOKEN)


@pytest.fixture(scope="session")
def httpserver_listen_address() -> tuple[str, int]:
    return ("127.0.0.1", 0)


async def scene_of(kind: ForgeKind, server: HTTPServer, desk: Desk) -> AsyncIterator[Scene]:
    async with GitHost(desk.folder / "git") as git:
        site = ForgeSite(server, git, kind)
        site.create()
        upstream = Upstream(git.path(f"{site.name}.git"))
        upstream.commit("main", {NAME: FILE})
        text = CONFIG.format(host=site.host, user=site.login, to=site.url, kind=kind, origin=git.url("gone"))
        desk.configure(text)
        yield Scene(site, desk, upstream)


@pytest.fixture(params=KINDS)
async def scene(request: pytest.FixtureRequest, httpserver: HTTPServer, desk: Desk) -> AsyncIterator[Scene]:
    async for one in scene_of(request.param, httpserver, desk):
        yield one


@pytest.fixture
async def coding(httpserver: HTTPServer, desk: Desk) -> AsyncIterator[Scene]:
    async for one in scene_of("coding", httpserver, desk):
        yield one


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_the_bytes_of_a_file(scene: Scene) -> None:
    """Every kind of host: the exact bytes on standard output, the token in a header and nowhere else, no run needed."""
    scene.site.expect(*scene.site.reading(NAME, FILE))
    process = scene.desk.started("raw-url", "--fetch", f"{PUBLIC}/raw/charts/main/docs/a%20b.yaml", TOKEN=TOKEN)
    async with process as running:
        out, err = await running.communicate()
    assert (running.returncode, out) == (0, FILE), err
    assert err.decode() == "read from charts at there\n"
    scene.site.check()
    commits = [
        unquote(request.query_string.decode()) for request, _ in scene.site.server.log if request.args.get("ref")
    ]
    assert set(commits) <= {f"ref={scene.upstream.refs()['refs/heads/main']}"}


async def test_into_a_file(coding: Scene) -> None:
    """`-o` writes a file, and what is printed says so, as JSON too."""
    file = coding.desk.folder / "values.yaml"
    for flag, said in (
        ("--json", f'{{"file":"{file}","bytes":10,"mirror":"charts","target":"there"}}\n'),
        ("", f"{file}: 10 B from charts at there\n"),
    ):
        coding.site.expect(*coding.site.reading(NAME, FILE))
        told = await coding.fetch(f"{PUBLIC}/raw/charts/main/docs/a%20b.yaml", "-o", str(file), *filter(None, [flag]))
        assert (told.status, told.out, file.read_bytes()) == (0, said, FILE), told
        file.unlink()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"Error": {"Code": "ResourceNotFound", "Message": "文件不存在"}},
            "DescribeGitFile: ResourceNotFound: 文件不存在",
        ),
        ({"Error": {"Code": "AuthFailure", "Message": "令牌无效"}}, "give the token `project:depot`"),
        ({"GitFile": {"Content": "not base64!", "Encoding": "base64"}}, "what the API sends is not base64"),
        ({"GitFile": {"Content": "", "Encoding": "gzip"}}, "the answer has no content in base64"),
        ({"GitFile": {"Content": "eA==", "ContentSha256": "0" * 64}}, "other bytes than it has the digests of"),
        ({"GitFile": None}, "the answer has no content in base64"),
    ],
)
async def test_what_coding_answers_otherwise(coding: Scene, answer: dict[str, Any], said: str) -> None:
    """Coding calls its errors a success (status 200): each is found and told, and wrong content is not printed."""
    *found, read = coding.site.reading(NAME, FILE)
    coding.site.expect(*found, replace(read, answer=answer))
    told = await coding.fetch(f"{PUBLIC}/raw/charts/main/docs/a%20b.yaml")
    assert (told.status, told.out) == (1, "")
    first, local, last = told.err.splitlines()
    assert local.startswith("not from charts at local: no run has written to local yet: ")
    assert first.startswith("not from charts at there: 127.0.0.1")
    assert said in first
    assert "charts at its origin: " in last
    assert "status 404" in last
    coding.site.check()


async def test_local_is_read_from_the_state(desk: Desk) -> None:
    """`local` is read in the order of `to`, with no daemon and no host: branch, tag, commit, folder, missing file."""
    async with GitHost(desk.folder / "git") as git:
        upstream = Upstream(git.create("app.git"))
        first = upstream.commit("main", {NAME: FILE})
        desk.configure(
            "settings: {listen: '127.0.0.1:0', url: 'https://mirror.example.org'}\n"
            f"mirrors: [{{name: charts, kind: git, from: '{git.url('app')}', to: local}}]\n"
        )
        assert (await desk.run("sync")).status == 0
    file = desk.folder / "file"
    for ref in ("main", "refs/heads/main", first):
        told = await desk.run("raw-url", "--fetch", f"{PUBLIC}/raw/charts/{ref}/docs/a%20b.yaml", "-o", str(file))
        assert (told.status, told.out, file.read_bytes()) == (0, f"{file}: 10 B from charts at local\n", FILE), told
        file.unlink()
    for rest, said in (("docs", "this is a folder"), ("docs/none", "no such file in that commit")):
        told = await desk.run("raw-url", "--fetch", f"{PUBLIC}/raw/charts/main/{rest}")
        assert (told.status, told.out, f"not from charts at local: {said}" in told.err) == (69, "", True), told


async def test_waiting_for_a_host_is_said(desk: Desk) -> None:
    """While a host that cannot be reached is tried again, a line says which one; the error comes after it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        host = "{}:{}".format(*taken.getsockname())
    desk.configure(f"mirrors: [{{name: charts, kind: git, from: 'http://{host}/a/b.git', to: [local]}}]")
    told = await desk.run("raw-url", "--fetch", "http://127.0.0.1:8080/raw/charts/main/a.yaml")
    assert (told.status, told.out) == (69, "")
    assert f"{host}: unreachable; trying again" in told.err.splitlines()
    assert told.err.endswith(f"charts at its origin: {host}: no connection: Connection refused\n")


async def test_a_file_that_is_too_large(scene: Scene) -> None:
    """Reading ends at the bound, whatever the host sends."""
    scene.site.expect(*scene.site.reading(NAME, FILE * 200_000))
    policy = HostPolicy(scene.site.host, Credential(scene.site.login, Secret(TOKEN)))
    main = "refs/heads/main"
    file = RepositoryFile(main, scene.upstream.refs()[main], NAME)
    async with Http(HostBook({scene.site.host: policy})) as http:
        address = Address.parse(scene.site.url)
        with pytest.raises(TooLargeError):
            await FORGES[scene.site.kind].read_file(http, address, file, 1 << 20)


@pytest.mark.parametrize("status", [401, 404])
async def test_what_hosts_refuse(httpserver: HTTPServer, desk: Desk, status: int) -> None:
    """A wrong token and a file that is not there are told as such; the origin is tried last."""
    async for scene in scene_of("gitea", httpserver, desk):
        (call,) = scene.site.reading(NAME, FILE)
        scene.site.expect(replace(call, answer=b'{"message": "no"}', status=status))
        told = await scene.fetch(f"http://{scene.site.host}/{scene.site.name}/raw/branch/main/{NAME}")
        assert (told.status, told.out) == (1, "")
        assert f"status {status}" in told.err
        assert TOKEN not in told.err


@pytest.mark.parametrize(("name", "fetched"), [("docs/a.yaml", False), ("docs/a.html", True)])
async def test_a_login_page_is_no_file(httpserver: HTTPServer, desk: Desk, name: str, fetched: bool) -> None:
    """A page with status 200 in place of a file is refused; a file that is a page by its name is taken."""
    page = b"\n<!DOCTYPE html>\n<title>Sign in</title>\n"
    async for scene in scene_of("gitea", httpserver, desk):
        (call,) = scene.site.reading(name, page)
        scene.site.expect(replace(call, media="text/html; charset=utf-8"))
        told = await scene.fetch(f"http://{scene.site.host}/{scene.site.name}/raw/branch/main/{name}")
        assert (told.status == 0, told.out) == (fetched, page.decode() if fetched else "")
        assert (f"the answer for {name} is a web page, such as a login page" in told.err) != fetched


def test_where_a_ref_ends() -> None:
    """The longest branch or tag that exists, a branch before a tag; a kind that the page tells is kept."""
    one, two, tag = "1" * 40, "2" * 40, "3" * 40
    refs = Refs(
        {"refs/heads/a": one, "refs/heads/a/b": two, "refs/tags/a": tag, "refs/tags/a/b/c": tag},
        peeled={"refs/tags/a/b/c": two},
    )
    address = Address.parse("https://h.example/o/r.git")

    def found(words: str, kind: str = "") -> tuple[str, str, str]:
        file = resolved(Page(address, tuple(words.split("/")), kind), refs)
        return file.ref, file.commit, file.path

    assert found("a/x/y") == ("refs/heads/a", one, "x/y")
    assert found("a/b/x") == ("refs/heads/a/b", two, "x")
    assert found("a/b/c/x") == ("refs/tags/a/b/c", two, "x")
    assert found("a/b/c/x", "branch") == ("refs/heads/a/b", two, "c/x")
    assert found("a/x", "tag") == ("refs/tags/a", tag, "x")
    assert found(f"{'9' * 40}/x") == ("9" * 40, "9" * 40, "x")
    assert found("1111111/x", "commit") == (one, one, "x")
    with pytest.raises(MissingError, match="no branch or tag is called 'b', nor begins so"):
        found("b/x")
    with pytest.raises(UsageError, match="is not a whole commit id"):
        found("9999999/x", "commit")


async def test_a_real_gitea(tmp_path: Path) -> None:
    """A private repository at a real Gitea: a branch with slashes, a tag of a branch's name, and what is not there."""
    require("gitea")
    desk = Desk(tmp_path)
    async with Gitea(tmp_path / "gitea") as gitea, GitHost(tmp_path / "source") as source:
        upstream = Upstream(source.create("app.git"))
        first = upstream.commit("main", {"README.md": b"one\n"})
        upstream.commit("main", {"README.md": b"two\n", NAME: FILE})
        upstream.commit("dev/x", {"dev.txt": b"dev\n"}, parent=first)
        upstream.tag("main", first, annotated=True)
        to = gitea.url("app")
        text = CONFIG.format(host=gitea.host, user=OWNER, to=to, kind="gitea", origin=source.url("app"))
        desk.configure(text)
        assert (await desk.run("sync", TOKEN=gitea.token)).status == 0
        await gitea.settle()
        pages = f"http://{gitea.host}/{OWNER}/app"

        async def fetched(rest: str) -> Said:
            return await desk.run("raw-url", "--fetch", f"{pages}/{rest}", TOKEN=gitea.token)

        for rest, content in (
            ("src/branch/main/README.md", "two\n"),
            ("raw/tag/main/README.md", "one\n"),
            ("src/branch/dev/x/dev.txt", "dev\n"),
            (f"raw/commit/{first}/README.md", "one\n"),
        ):
            told = await fetched(rest)
            assert (told.status, told.out) == (0, content), told
        for rest, said in (
            ("src/branch/main/gone.md", "404"),
            ("src/branch/main/docs", "404"),
            ("src/branch/nobody/README.md", "no branch or tag is called 'nobody'"),
        ):
            told = await fetched(rest)
            assert (told.status, told.out, said in told.err) == (1, "", True), told
        denied = await desk.run("raw-url", "--fetch", f"{pages}/src/branch/main/README.md", TOKEN="0badc0de" * 5)
        assert (denied.status, denied.out) == (1, "")
