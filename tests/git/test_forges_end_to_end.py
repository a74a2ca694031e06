"""Whole runs to every kind of host that has an API, with real Git behind it: made, filled, and followed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

from mirrord.errors import DeniedError, MissingError
from mirrord.model.run import Outcome, Receipt, Result, Run
from mirrord.syncer.values import Mirror
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.forges.known import forge_of
from mirrord.wire.git.address import Address
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import HttpRequest
from mirrord.wire.secret import Credential, Secret
from tests.support.forgehost import TOKEN, ForgeHost
from tests.support.forgewords import Forge
from tests.support.gitworld import GitWorld, open_git_world, receipts

FORGES: tuple[Forge, ...] = get_args(Forge)
USERS = {"cnb": "cnb"}
OWNERS = {"coding": "team/project", "gitlab": "group/sub", "cnb": "group/sub", "github": "org"}
SETTLES = "mirrord.syncers.git.transfer.destinations.SETTLES"
PAUSES = "mirrord.syncers.git.transfer.destinations.PAUSES"
GITLAB_PROTECTED = """#!/bin/sh
test "$1" = refs/heads/main || exit 0
test "$3" = 0000000000000000000000000000000000000000 || exit 0
echo "GitLab: You can only delete protected branches using the web interface." >&2
exit 1
"""


def book(host: ForgeHost, token: str = TOKEN) -> HostBook:
    policy = HostPolicy(host.host, Credential(USERS.get(host.forge, "robot"), Secret(token)))
    return HostBook({host.host: policy})


@dataclass(slots=True)
class Scene:
    """An upstream and a host of some kind, which has no repository yet."""

    world: GitWorld
    upstream: Upstream
    source: GitHost
    host: ForgeHost
    mirror: Mirror

    @property
    def name(self) -> str:
        return f"{OWNERS.get(self.host.forge, 'robot')}/app"

    def held(self) -> dict[str, str]:
        return self.host.refs(f"{self.name}.git")

    def head(self) -> str:
        return self.host.head(f"{self.name}.git")

    async def run(self) -> Run:
        return await self.world.run(self.mirror)

    def rename(self) -> None:
        """Let upstream's main become trunk."""
        self.upstream.set("refs/heads/trunk", self.upstream.refs()["refs/heads/main"])
        self.upstream.head("trunk")
        self.upstream.delete("refs/heads/main")

    def told(self, run: Run) -> dict[str, Receipt]:
        return receipts(run, "there")


Begin = Callable[..., contextlib.AbstractAsyncContextManager[Scene]]


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    @contextlib.asynccontextmanager
    async def make(forge: Forge, **options: str) -> AsyncIterator[Scene]:
        async with (
            ForgeHost(tmp_path / "forge", forge, user=(USERS.get(forge, "robot"), TOKEN)) as host,
            open_git_world(tmp_path, book=book(host)) as world,
        ):
            owner = OWNERS.get(forge, "robot")
            host.api.owners.add(owner)
            source = await world.host("source")
            upstream = Upstream(source.create("app.git"))
            upstream.commit("main", {"README.md": b"one\n"})
            upstream.tag("v1", "main", annotated=True)
            there = {"there": host.url(f"{owner}/app.git")}
            mirror = world.mirror(
                source.url("app.git"), there, keys={"max_loss": 1}, options={"host": forge, **options}
            )
            yield Scene(world, upstream, source, host, mirror)

    return make


@pytest.mark.parametrize("forge", FORGES)
async def test_a_missing_repository_is_made_filled_and_followed(begin: Begin, forge: Forge) -> None:
    """Missing → made, private, filled; main becomes trunk → pushed, switched, main deleted; no URL has the token.

    CNB has nothing in its API for the default branch: somebody has to set it, and the next run goes on.
    """
    async with begin(forge) as scene:
        assert (await scene.run()).result is Result.SUCCESS
        made = scene.host.api.made[scene.name]
        assert (made.private, made.description) == (True, f"Mirror of {scene.source.url('app.git')}")
        assert (scene.held(), scene.head()) == (scene.upstream.refs(), "refs/heads/main")
        scene.rename()
        run = await scene.run()
        if forge == "cnb":
            assert run.result is Result.PARTIAL
            assert "default branch" in scene.told(run)["refs/heads/main"].detail
            assert scene.host.api.switch(scene.name, "trunk")
            run = await scene.run()
        assert run.result is Result.SUCCESS, run.receipts
        assert (scene.held(), scene.head()) == (scene.upstream.refs(), "refs/heads/trunk")
        assert (await scene.run()).result is Result.NOOP
        assert scene.host.leaks == []


async def test_the_order_is_push_switch_delete(begin: Begin) -> None:
    """The API is asked to switch after the new branch was pushed, and before the old one is deleted."""
    async with begin("gitea") as scene:
        await scene.run()
        scene.host.forget()
        scene.rename()
        await scene.run()
        seen = [one.method for one in scene.host.log if one.matches("PATCH", "") or one.matches("POST", "receive-pack")]
        assert seen == ["POST", "PATCH", "POST"]


@pytest.mark.parametrize(("lag", "result"), [(2, Result.SUCCESS), (1000, Result.FAILED)])
async def test_the_api_may_be_ahead_of_git(
    begin: Begin, lag: int, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository that Git does not see at once is waited for; one that stays away fails the run, and not the next."""
    monkeypatch.setattr(PAUSES, (0.0, 0.0))
    async with begin("gitee") as scene:
        create = scene.host.create

        def late(name: str, **config: str) -> Path:
            scene.host.lag = lag
            return create(name, **config)

        monkeypatch.setattr(scene.host, "create", late)
        assert (await scene.run()).result is result
        assert bool(scene.held()) is (result is Result.SUCCESS)
        scene.host.lag = 0
        await scene.run()
        assert scene.held() == scene.upstream.refs()


async def test_a_host_that_says_yes_and_does_nothing(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A default branch that stays as it was although the host said yes is a failure; the old branch stays."""
    monkeypatch.setattr(PAUSES, (0.0, 0.0))
    async with begin("gitea") as scene:
        await scene.run()
        scene.host.api.deaf = 1000
        scene.rename()
        run = await scene.run()
        assert run.result is Result.PARTIAL
        told = scene.told(run)
        assert told["HEAD"].outcome is Outcome.FAILED
        assert "accepted refs/heads/trunk as the default branch, and still shows refs/heads/main" in told["HEAD"].detail
        assert scene.held().keys() == {"refs/heads/main", "refs/heads/trunk", "refs/tags/v1"}
        scene.host.api.deaf = 2
        assert (await scene.run()).result is Result.SUCCESS
        assert scene.held() == scene.upstream.refs()


async def test_gitlab_protects_what_was_the_default_branch(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """GitLab's refusal to delete the branch that it protected is told in its words, with the next step."""
    monkeypatch.setattr(SETTLES, 0.0)
    async with begin("gitlab") as scene:
        await scene.run()
        scene.host.hook(f"{scene.name}.git", "update", GITLAB_PROTECTED)
        scene.rename()
        run = await scene.run()
        assert run.result is Result.PARTIAL
        detail = scene.told(run)["refs/heads/main"].detail
        assert "You can only delete protected branches" in detail
        assert "take the branch out of Protected branches" in detail
        assert scene.head() == "refs/heads/trunk"


@pytest.mark.parametrize(("reviews", "private"), [(True, True), (False, False)])
async def test_gitee_reviews_before_the_public_sees_it(begin: Begin, reviews: bool, private: bool) -> None:
    """A repository that is to be public is filled either way; that it waits for a review is told."""
    async with begin("gitee", visibility="public") as scene:
        scene.host.api.reviews = reviews
        run = await scene.run()
        assert run.result is Result.SUCCESS
        assert scene.host.api.made[scene.name].private is private
        details = " ".join(one.detail for one in scene.told(run).values())
        assert ("until Gitee has reviewed it" in details) is private


@pytest.mark.parametrize("forge", FORGES)
async def test_what_is_there_is_taken_as_it_is(begin: Begin, forge: Forge) -> None:
    """Making what somebody else made a moment ago is no failure, in each host's own way to say so."""
    async with begin(forge) as scene, Http(book(scene.host)) as http:
        address = Address.parse(scene.host.url(f"{scene.name}.git"))
        for _ in range(2):
            assert await forge_of(address, forge).create(http, address, "private", "") == ""
        assert await forge_of(address, forge).exists(http, address) is True
        assert await forge_of(address, forge).default_branch(http, address) is None


@pytest.mark.parametrize("forge", FORGES)
async def test_a_wrong_token_makes_nothing(begin: Begin, forge: Forge) -> None:
    """A wrong token is told as such with the next step, in each host's own way to say so, and nothing is made."""
    async with begin(forge) as scene, Http(book(scene.host, "wrong-9d41c7")) as http:
        address = Address.parse(scene.host.url(f"{scene.name}.git"))
        with pytest.raises(DeniedError, match=r"; .*token"):
            await forge_of(address, forge).create(http, address, "private", "")
        assert scene.host.api.made == {}


async def test_coding_tells_projects_in_pages(begin: Begin) -> None:
    """A project is found on whichever page of the search it stands; one that is on none of them is told."""
    async with begin("coding") as scene, Http(book(scene.host)) as http:
        scene.host.api.owners |= {f"team/project-{number:03}" for number in range(250)}
        assert (await scene.run()).result is Result.SUCCESS
        assert [one.body["PageNumber"] for one in scene.host.api.asked if "PageNumber" in one.body] == [1, 2, 3]
        address = Address.parse(scene.host.url("team/proj/app.git"))
        with pytest.raises(MissingError, match="the token sees no project 'proj'"):
            await forge_of(address, "coding").create(http, address, "private", "")


async def leak(host: ForgeHost, path: str) -> None:
    async with host, Http(book(host)) as http:
        with contextlib.suppress(DeniedError, MissingError):
            await http.fetch(HttpRequest("GET", f"{host.base}/{path}", host.host))


@pytest.mark.parametrize("path", [f"api/v5/user?access_token={TOKEN}", f"{TOKEN}/app.git/HEAD"])
async def test_the_double_hears_a_token_in_a_url(path: str, tmp_path: Path) -> None:
    """The control: a token in a URL of the API or of Git fails whoever leaves the host."""
    with pytest.raises(AssertionError, match="a token was seen"):
        await leak(ForgeHost(tmp_path, "gitee"), path)
