"""Whole runs to every kind of host that has an API, with real Git behind it: made, filled, and followed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from pytest_httpserver import HTTPServer

from mirrord.errors import DeniedError
from mirrord.model.run import Outcome, Receipt, Result, Run
from mirrord.syncer.values import Mirror
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.forges.known import forge_of
from mirrord.wire.git.address import Address
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.secret import Credential, Secret
from tests.support.forgesite import KINDS, LOGINS, TOKEN, ApiCall, ForgeKind, ForgeSite
from tests.support.gitworld import GitWorld, open_git_world, receipts
from tests.support.hostrules import Kind, RuledHost

SETTLES = "mirrord.syncers.git.transfer.destinations.SETTLES"
PAUSES = "mirrord.syncers.git.transfer.destinations.PAUSES"
GITLAB_PROTECTED = """#!/bin/sh
test "$1" = refs/heads/main || exit 0
test "$3" = 0000000000000000000000000000000000000000 || exit 0
echo "GitLab: You can only delete protected branches using the web interface." >&2
exit 1
"""


@dataclass(slots=True)
class Scene:
    """An upstream and a host of some kind, which has no repository yet."""

    world: GitWorld
    upstream: Upstream
    source: GitHost
    site: ForgeSite
    mirror: Mirror

    def held(self) -> dict[str, str]:
        return self.site.git.refs(f"{self.site.name}.git")

    def head(self) -> str:
        return self.site.git.head(f"{self.site.name}.git")

    async def run(self) -> Run:
        return await self.world.run(self.mirror)

    def rename(self) -> None:
        """Let upstream's main become trunk."""
        self.upstream.set("refs/heads/trunk", self.upstream.refs()["refs/heads/main"])
        self.upstream.head("trunk")
        self.upstream.delete("refs/heads/main")

    def http(self) -> Http:
        return Http(self.world.services.http.book)

    def told(self, run: Run) -> dict[str, Receipt]:
        return receipts(run, "there")


Begin = Callable[..., contextlib.AbstractAsyncContextManager[Scene]]


@pytest.fixture(scope="session")
def httpserver_listen_address() -> tuple[str, int]:
    return ("127.0.0.1", 0)


@pytest.fixture
def begin(tmp_path: Path, httpserver: HTTPServer) -> Begin:
    @contextlib.asynccontextmanager
    async def make(kind: ForgeKind, **options: str) -> AsyncIterator[Scene]:
        rules: Kind = kind if kind in ("github", "gitee", "coding") else "plain"
        login = LOGINS.get(kind, "robot")
        async with RuledHost(tmp_path / "forge", user=(login, TOKEN), kind=rules) as git:
            site = ForgeSite(httpserver, git, kind)
            policy = HostPolicy(site.host, Credential(login, Secret(TOKEN)))
            async with open_git_world(tmp_path, book=HostBook({site.host: policy})) as world:
                source = await world.host("source")
                upstream = Upstream(source.create("app.git"))
                upstream.commit("main", {"README.md": b"one\n"})
                upstream.tag("v1", "main", annotated=True)
                mirror = world.mirror(
                    source.url("app.git"), {"there": site.url}, keys={"max_loss": 1}, options={"host": kind, **options}
                )
                yield Scene(world, upstream, source, site, mirror)
                site.check()

    return make


@pytest.mark.parametrize("kind", KINDS)
async def test_a_missing_repository_is_made_filled_and_followed(begin: Begin, kind: ForgeKind) -> None:
    """Missing → made, private, filled; main becomes trunk → pushed, switched, main deleted; no URL has the token.

    CNB has nothing in its API for the default branch: somebody has to set it, and the next run goes on.
    """
    async with begin(kind) as scene:
        *finds, creates = scene.site.making()
        description = f"Mirror of {scene.source.url('app.git')}"
        scene.site.expect(*finds, creates, *scene.site.switching())
        assert (await scene.run()).result is Result.SUCCESS
        sent = scene.site.bodies(creates)[0]
        assert sent.get("description", sent.get("Description")) == description
        assert (sent.get("private"), sent.get("visibility"), sent.get("Shared")) in (
            (True, None, None),
            (None, "private", None),
            (None, None, False),
        )
        assert (scene.held(), scene.head()) == (scene.upstream.refs(), "refs/heads/main")
        scene.rename()
        run = await scene.run()
        if kind == "cnb":
            assert run.result is Result.PARTIAL
            assert "default branch" in scene.told(run)["refs/heads/main"].detail
            scene.site.switch("trunk")
            run = await scene.run()
        assert run.result is Result.SUCCESS, run.receipts
        assert (scene.held(), scene.head()) == (scene.upstream.refs(), "refs/heads/trunk")
        assert (await scene.run()).result is Result.NOOP


async def test_the_order_is_push_switch_delete(begin: Begin) -> None:
    """The API is asked to switch after the new branch was pushed, and before the old one is deleted."""
    async with begin("gitea") as scene:
        scene.site.expect(*scene.site.making(), *scene.site.switching())
        await scene.run()
        before = len(scene.site.server.log)
        scene.rename()
        await scene.run()
        changes = [
            request.method
            for request, _ in scene.site.server.log[before:]
            if request.method == "PATCH" or request.path.endswith("/git-receive-pack")
        ]
        assert changes == ["POST", "PATCH", "POST"]


@pytest.mark.parametrize(("lag", "result"), [(2, Result.SUCCESS), (1000, Result.FAILED)])
async def test_the_api_may_be_ahead_of_git(
    begin: Begin, lag: int, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository that Git does not see at once is waited for; one that stays away fails the run, and not the next."""
    monkeypatch.setattr(PAUSES, (0.0, 0.0))
    async with begin("gitee") as scene:

        def late() -> None:
            scene.site.create()
            scene.site.lag = lag

        *finds, creates = scene.site.making()
        scene.site.expect(*finds, replace(creates, effect=late))
        assert (await scene.run()).result is result
        assert bool(scene.held()) is (result is Result.SUCCESS)
        scene.site.lag = 0
        await scene.run()
        assert scene.held() == scene.upstream.refs()


async def test_a_host_that_says_yes_and_does_nothing(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A default branch that stays as it was although the host said yes is a failure; the old branch stays."""
    monkeypatch.setattr(PAUSES, (0.0, 0.0))
    async with begin("gitea") as scene:
        scene.site.expect(*scene.site.making())
        await scene.run()
        scene.site.expect(*scene.site.switching(deaf=True) * 3)
        scene.rename()
        run = await scene.run()
        assert run.result is Result.PARTIAL
        told = scene.told(run)
        assert told["HEAD"].outcome is Outcome.FAILED
        assert "accepted refs/heads/trunk as the default branch, and still shows refs/heads/main" in told["HEAD"].detail
        assert scene.held().keys() == {"refs/heads/main", "refs/heads/trunk", "refs/tags/v1"}
        scene.site.expect(*scene.site.switching(deaf=True) * 2, *scene.site.switching())
        assert (await scene.run()).result is Result.SUCCESS
        assert scene.held() == scene.upstream.refs()


async def test_gitlab_protects_what_was_the_default_branch(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """GitLab's refusal to delete the branch that it protected is told in its words, with the next step."""
    monkeypatch.setattr(SETTLES, 0.0)
    async with begin("gitlab") as scene:
        scene.site.expect(*scene.site.making(), *scene.site.switching() * 2)
        await scene.run()
        scene.site.git.hook(f"{scene.site.name}.git", "update", GITLAB_PROTECTED)
        scene.rename()
        run = await scene.run()
        assert run.result is Result.PARTIAL
        detail = scene.told(run)["refs/heads/main"].detail
        assert "You can only delete protected branches" in detail
        assert "take the branch out of Protected branches" in detail
        assert scene.head() == "refs/heads/trunk"


@pytest.mark.parametrize("private", [True, False])
async def test_gitee_reviews_before_the_public_sees_it(begin: Begin, private: bool) -> None:
    """A repository that is to be public is filled either way; that it waits for a review is told."""
    async with begin("gitee", visibility="public") as scene:
        shown = ApiCall(
            "PATCH", f"/repos/{scene.site.name}", {"private": private}, sent={"name": "app", "private": False}
        )
        scene.site.expect(*scene.site.making(), shown)
        run = await scene.run()
        assert run.result is Result.SUCCESS
        assert scene.held() == scene.upstream.refs()
        details = " ".join(one.detail for one in scene.told(run).values())
        assert ("until Gitee has reviewed it" in details) is private


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_there_is_taken_as_it_is(begin: Begin, kind: ForgeKind) -> None:
    """Making what somebody else made a moment ago is no failure, in each host's own way to say so."""
    async with begin(kind) as scene, scene.http() as http:
        site = scene.site
        site.expect(*site.making(), *site.taken(), *site.found(), *site.empty())
        address, forge = Address.parse(site.url), forge_of(Address.parse(site.url), kind)
        for _ in range(2):
            assert await forge.create(http, address, "private", "") == ""
        assert await forge.exists(http, address) is True
        assert await forge.default_branch(http, address) is None


@pytest.mark.parametrize("kind", KINDS)
async def test_a_wrong_token_makes_nothing(begin: Begin, kind: ForgeKind) -> None:
    """A wrong token is told as such with the next step, in each host's own way to say so, and nothing is made."""
    async with begin(kind) as scene, scene.http() as http:
        scene.site.expect(*scene.site.denied())
        address = Address.parse(scene.site.url)
        with pytest.raises(DeniedError, match=r"; .*token"):
            await forge_of(address, kind).create(http, address, "private", "")


def test_the_site_hears_a_token_in_a_url(httpserver: HTTPServer, tmp_path: Path) -> None:
    """The control: a token in a URL fails whoever checks the site."""
    site = ForgeSite(httpserver, GitHost(tmp_path), "gitee")
    site.lag = 1
    with contextlib.suppress(HTTPError), urlopen(f"{site.url}/info/refs?access_token={TOKEN}"):
        pass
    with pytest.raises(AssertionError):
        site.check()
