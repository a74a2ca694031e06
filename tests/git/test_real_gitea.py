"""A real Gitea: what our reading of its API, and of what its hooks say, is worth."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirrord.errors import DeniedError, MissingError
from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import Mirror
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.servers import require
from mirrord.wire.forges.known import forge_of
from mirrord.wire.forges.page import page
from mirrord.wire.git.address import Address
from mirrord.wire.git.lsrefs import ls_refs
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import HttpRequest
from mirrord.wire.secret import Credential, Secret
from tests.support.gitea import OWNER, Gitea
from tests.support.gitworld import GitWorld, open_git_world, receipts

NAME = "app.git"
MAIN = "refs/heads/main"
FORGE = "gitea"
FILES = (
    (MAIN, "docs/a b.txt", b"hello\n"),
    ("main", "README.md", b"two\n"),
    ("v1.0", "README.md", b"one\n"),  # Gitea redirects to what is of that name
    ("refs/heads/dev/x", "dev.txt", b"dev\n"),
    ("refs/tags/v2", "README.md", b"two\n"),
)


@dataclass(slots=True)
class Scene:
    """An upstream, and a Gitea where nothing is yet."""

    world: GitWorld
    gitea: Gitea
    source: GitHost
    upstream: Upstream

    @property
    def address(self) -> Address:
        return Address.parse(self.gitea.url("app"))

    def mirror(self, **options: object) -> Mirror:
        places = {"there": self.gitea.url("app")}
        return self.world.mirror(self.source.url(NAME), places, options={"host": FORGE, **options})

    async def held(self) -> tuple[dict[str, str], str | None]:
        refs = await ls_refs(self.world.cache(self.mirror()).git, self.world.services.http, self.address)
        return dict(refs.refs), refs.head

    async def shown(self) -> dict[str, object]:
        found: dict[str, object] = await self.gitea.api("GET", f"/repos/{OWNER}/app")
        return found


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    require("gitea")
    async with Gitea(tmp_path / "gitea") as gitea:
        book = HostBook({gitea.host: gitea.policy})
        async with open_git_world(tmp_path / "world", book=book) as world:
            source = await world.host("source")
            upstream = Upstream(source.create(NAME))
            first = upstream.commit("main", {"README.md": b"one\n"})
            upstream.commit("main", {"README.md": b"two\n", "docs/a b.txt": b"hello\n"})
            upstream.commit("dev/x", {"dev.txt": b"dev\n"}, parent=first)
            upstream.tag("v1", first)
            upstream.tag("v1.0", first)
            upstream.tag("v2", "main", annotated=True)
            yield Scene(world, gitea, source, upstream)


async def shown_at(http: Http, url: str, host: str) -> bytes:
    """Return what a page says, once there is one: Gitea shows a push in the background, a moment after it was taken."""
    async with asyncio.timeout(30):
        while True:
            try:
                return (await http.fetch(HttpRequest("GET", url, host))).body
            except MissingError:
                await asyncio.sleep(0.1)


async def test_a_missing_repository_is_made_and_filled(scene: Scene) -> None:
    """It is made private, has every ref and the right default branch, a clone is sound, and a second run rests."""
    run = await scene.world.run(scene.mirror())
    assert run.result is Result.SUCCESS, run.receipts
    assert await scene.held() == (scene.upstream.refs(), MAIN)
    shown = await scene.shown()
    assert (shown["private"], shown["default_branch"]) == (True, "main")
    assert (await scene.world.run(scene.mirror())).result is Result.NOOP
    clone = scene.world.folder / "clone"
    way = f"http://{OWNER}:{scene.gitea.token}@{scene.gitea.host}/{OWNER}/app.git"
    await asyncio.to_thread(subprocess.run, ["git", "clone", "-q", "--mirror", way, str(clone)], check=True)
    await asyncio.to_thread(subprocess.run, ["git", "-C", str(clone), "fsck", "--strict"], check=True)
    assert Upstream(clone).refs() == scene.upstream.refs()


async def test_a_public_repository_has_raw_urls(scene: Scene) -> None:
    """`visibility: public` is obeyed, and the raw URLs that we print are those of files of branches and tags."""
    assert (await scene.world.run(scene.mirror(visibility="public"))).result is Result.SUCCESS
    assert (await scene.shown())["private"] is False
    forge = forge_of(scene.address, FORGE)
    async with Http(HostBook()) as http:
        for ref, path, content in FILES:
            file = page(scene.address.host, ("o", "r"), (*ref.split("/"), *path.split("/")))
            url = forge.raw_url(scene.address, file)
            assert url is not None
            assert await shown_at(http, url, scene.gitea.host) == content


async def test_a_renamed_default_branch_is_followed(scene: Scene) -> None:
    """`main` becomes `trunk`: pushed, switched by the API, and then the old one can be deleted."""
    await scene.world.run(scene.mirror())
    upstream = scene.upstream
    upstream.set("refs/heads/trunk", upstream.refs()[MAIN])
    upstream.head("trunk")
    upstream.delete(MAIN)
    run = await scene.world.run(scene.mirror())
    assert run.result is Result.SUCCESS, run.receipts
    assert await scene.held() == (upstream.refs(), "refs/heads/trunk")


async def test_a_protected_branch_refuses_in_its_own_words(scene: Scene) -> None:
    """A force push to a protected branch fails alone, with the host's words and what to do; the rest arrives."""
    await scene.world.run(scene.mirror())
    rule = {"rule_name": "main", "branch_name": "main", "enable_push": True, "enable_force_push": False}
    await scene.gitea.api("POST", f"/repos/{OWNER}/app/branch_protections", rule)
    old = scene.upstream.refs()[MAIN]
    scene.upstream.rewrite("main")
    scene.upstream.tag("v3", "main")
    run = await scene.world.run(scene.mirror(), allow=True)
    assert run.result is Result.PARTIAL, run.receipts
    refused = receipts(run, "there")[MAIN]
    assert refused.outcome is Outcome.REFUSED
    assert "branch main is protected from force push" in refused.detail
    assert "let the mirror's account force-push in the branch's protection" in refused.detail
    refs, _ = await scene.held()
    assert (refs[MAIN], refs["refs/tags/v3"]) == (old, scene.upstream.refs()["refs/tags/v3"])


async def test_a_wrong_token_is_told_from_a_missing_repository(scene: Scene) -> None:
    """A token that is none is `denied` and names the host; nothing is made for it."""
    wrong = HostPolicy(scene.gitea.host, credential=Credential(OWNER, Secret("0badc0de" * 5)))
    async with Http(HostBook({scene.gitea.host: wrong})) as http:
        forge = forge_of(scene.address, FORGE)
        with pytest.raises(DeniedError, match=scene.gitea.host):
            await forge.create(http, scene.address, "private", "")
    assert await scene.gitea.api("GET", "/user/repos") == []
