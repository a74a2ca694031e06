"""A real Gitea as `mirrord sync` meets it: made, filled and followed; and what its API says when it is asked."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from mirrord.errors import DeniedError
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.running import run
from mirrord.testing.servers import require
from mirrord.wire.forges.known import forge_of
from mirrord.wire.git.address import Address
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.secret import Credential, Secret
from tests.support.commands import Desk
from tests.support.gitcontent import lfs_pointer
from tests.support.gitea import OWNER, Gitea
from tests.support.lfshost import LfsHost

REPOSITORY = f"/repos/{OWNER}/app"
CONFIG = """\
settings: {{listen: '127.0.0.1:0'}}
hosts: {{'{host}': {{auth: {{username: {user}, password: {{env: TOKEN}}}}}}}}
targets: {{there: {{kind: git, to: '{to}', host: gitea, create: true}}}}
mirrors: [{{name: app, kind: git, from: '{source}', to: there, max_loss: 1}}]
"""


def book(gitea: Gitea, token: str = "") -> HostBook:
    return HostBook({gitea.host: HostPolicy(gitea.host, Credential(OWNER, Secret(token or gitea.token)))})


def basic(gitea: Gitea) -> str:
    return base64.b64encode(f"{OWNER}:{gitea.token}".encode()).decode()


@pytest.fixture
async def gitea(tmp_path: Path) -> AsyncIterator[Gitea]:
    require("gitea")
    async with Gitea(tmp_path / "gitea") as server:
        yield server


@dataclass(slots=True)
class Scene:
    """An upstream, a Gitea without a repository, and a configuration to mirror one to the other."""

    gitea: Gitea
    source: LfsHost
    upstream: Upstream
    desk: Desk

    async def sync(self, *flags: str, status: int = 0) -> str:
        """Run `mirrord sync`, which ends so; return what it printed."""
        said = await self.desk.run("sync", *flags, TOKEN=self.gitea.token)
        assert said.status == status, said
        assert self.gitea.token not in said.out + said.err
        return said.out + said.err

    async def said(self, *words: str) -> str:
        """Run another command, which succeeds; return what it printed to standard output."""
        said = await self.desk.run(*words, TOKEN=self.gitea.token)
        assert said.status == 0, said
        return said.out

    async def branches(self) -> dict[str, str]:
        """Return the branches as Gitea's API tells them."""
        await self.gitea.settle()
        listed = await self.gitea.api("GET", f"{REPOSITORY}/branches")
        return {f"refs/heads/{one['name']}": one["commit"]["id"] for one in listed}

    async def settings(self) -> tuple[str, bool, str]:
        """Return default branch, privacy and description as Gitea's API tells them."""
        told = await self.gitea.api("GET", REPOSITORY)
        return told["default_branch"], told["private"], told["description"]


@pytest.fixture
async def scene(gitea: Gitea, tmp_path: Path) -> AsyncIterator[Scene]:
    async with LfsHost(tmp_path / "source") as source:
        upstream = Upstream(source.create("app.git"))
        upstream.commit("main", {"README.md": b"one\n"})
        upstream.commit("main", {"README.md": b"two\n"})
        upstream.tag("v1", "main", annotated=True)
        desk = Desk(tmp_path)
        url = source.url("app.git")
        desk.configure(CONFIG.format(host=gitea.host, user=OWNER, to=gitea.url("{name}"), source=url))
        yield Scene(gitea, source, upstream, desk)


async def test_a_missing_repository_is_made_and_its_default_branch_follows(scene: Scene, tmp_path: Path) -> None:
    """One `mirrord sync` makes a private repository with all refs; when main becomes trunk, so does Gitea's default."""
    assert await scene.gitea.api("GET", "/user/repos") == []
    await scene.sync()
    assert await scene.settings() == ("main", True, f"Mirror of {scene.source.url('app.git')}")
    tip = scene.upstream.refs()["refs/heads/main"]
    assert await scene.branches() == {"refs/heads/main": tip}
    scene.upstream.set("refs/heads/trunk", tip)
    scene.upstream.head("trunk")
    scene.upstream.delete("refs/heads/main")
    await scene.sync()
    assert (await scene.settings())[0] == "trunk"
    assert await scene.branches() == {"refs/heads/trunk": tip}
    cloned = tmp_path / "cloned"
    given = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.extraHeader"}
    given["GIT_CONFIG_VALUE_0"] = f"Authorization: Basic {basic(scene.gitea)}"
    ran = await run("git", "clone", "-q", scene.gitea.url("app"), cloned, env=given)
    assert ran.status == 0, ran
    assert (cloned / "README.md").read_bytes() == b"two\n"


async def test_lfs_objects_and_a_default_branch_of_another_name(scene: Scene) -> None:
    """LFS objects are there with the first run; the default branch is upstream's, not the first one that arrived."""
    require("git-lfs")
    content = b"big" * 4096
    scene.source.put("app.git", content)
    attributes = b"*.bin filter=lfs diff=lfs merge=lfs -text\n"
    scene.upstream.commit("trunk", {"f.bin": lfs_pointer(content), ".gitattributes": attributes}, parent=None)
    scene.upstream.head("trunk")
    await scene.sync()
    assert (await scene.settings())[0] == "trunk"
    await scene.gitea.settle()
    headers = {"Authorization": f"Basic {basic(scene.gitea)}"}
    url = f"http://{scene.gitea.host}/{OWNER}/app/media/branch/trunk/f.bin"
    async with aiohttp.ClientSession(headers=headers) as session, session.get(url) as answer:
        assert (answer.status, await answer.read()) == (200, content)


async def test_a_default_branch_that_stays_cannot_be_deleted(scene: Scene) -> None:
    """Where the default branch is to stay as it is, Gitea's refusal to delete it is told in its own words."""
    await scene.sync()
    tip = scene.upstream.refs()["refs/heads/main"]
    scene.upstream.set("refs/heads/trunk", tip)
    scene.upstream.head("trunk")
    scene.upstream.delete("refs/heads/main")
    config = scene.desk.folder / "conf.d" / "a.yaml"
    config.write_text(config.read_text().replace("create: true", "default_branch: keep"))
    said = " ".join((await scene.sync(status=2)).split())
    assert "branch main is the default branch and cannot be deleted" in said
    assert await scene.branches() == {"refs/heads/main": tip, "refs/heads/trunk": tip}


async def test_what_people_commit_there_is_kept_and_comes_back(scene: Scene) -> None:
    """Commits made on Gitea's pages are fetched before they are overwritten, listed, and pushed back by `restore`."""
    await scene.sync()
    assert "app: nothing is known that a run overwrote or deleted" in await scene.said("restore", "app")
    upstream = await scene.branches()
    content = {"content": base64.b64encode(b"mine\n").decode(), "message": "mine", "branch": "main"}
    await scene.gitea.api("POST", f"{REPOSITORY}/contents/mine.txt", content)
    await scene.gitea.api("POST", f"{REPOSITORY}/contents/work.txt", {**content, "new_branch": "work"})
    theirs = await scene.branches()
    assert theirs.keys() == {"refs/heads/main", "refs/heads/work"}
    assert (await scene.said("plan", "app")).count("fetched from there and kept as backup") == 2
    await scene.sync()
    assert await scene.branches() == upstream
    listed = json.loads(await scene.said("restore", "app", "--json"))["backups"]
    assert {one["item"]: one["digest"] for one in listed} == theirs
    assert {one["item"]: one["why"].partition(",")[0] for one in listed} == {
        "refs/heads/main": "overwritten at there",
        "refs/heads/work": "deleted at there",
    }
    for one in listed:
        await scene.said("restore", "app", one["name"])
    assert await scene.branches() == theirs


async def test_what_the_forge_asks(gitea: Gitea) -> None:
    """Repositories of the user and of an organisation are made as asked for; who is neither, or was slower, is told."""
    await gitea.api("POST", "/orgs", {"username": "team"})
    async with Http(book(gitea)) as http:
        for owner, visibility in ((OWNER, "private"), (OWNER, "public"), ("team", "private")):
            address = Address.parse(f"http://{gitea.host}/{owner}/{visibility}.git")
            forge = forge_of(address, "gitea")
            assert await forge.exists(http, address) is False
            assert await forge.default_branch(http, address) is None
            for _ in range(2):  # somebody was faster
                assert await forge.create(http, address, visibility, "d") == ""
            assert await forge.exists(http, address) is True
            told = await gitea.api("GET", f"/repos/{owner}/{visibility}")
            assert (told["private"], told["empty"], told["description"]) == (visibility == "private", True, "d")
        stranger = Address.parse(f"http://{gitea.host}/nobody/x.git")
        with pytest.raises(DeniedError, match="nobody is neither the credential's own name"):
            await forge_of(stranger, "gitea").create(http, stranger, "private", "")


async def test_a_token_that_is_not_enough(gitea: Gitea) -> None:
    """A wrong token and one without the needed scopes are told with the next step."""
    address = Address.parse(gitea.url("app"))
    weak = await gitea.make_token("read:repository", "read:user")
    tokens = {"0badc0de" * 5: "the token is wrong", weak: "give the token read and write for repositories"}
    for token, told in tokens.items():
        async with Http(book(gitea, token)) as http:
            with pytest.raises(DeniedError, match=told):
                await forge_of(address, "gitea").create(http, address, "private", "")


async def test_no_token_at_all(gitea: Gitea) -> None:
    """Where no credentials were found, the one next step is `auth:`: neither a new token nor docker helps."""
    address = Address.parse(gitea.url("app"))
    async with Http(HostBook({gitea.host: HostPolicy(gitea.host)})) as http:
        with pytest.raises(DeniedError) as caught:
            await forge_of(address, "gitea").create(http, address, "private", "")
    assert str(caught.value).endswith(f"(no credentials for {gitea.host} were found; write `auth:` under hosts:)")
