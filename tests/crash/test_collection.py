"""Collections of `local`: what goes, and that a crash, a lost database and clients who pull change nothing of it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import pytest

from mirrord.blobs.collector import Collector
from mirrord.blobs.uses import DiskUses
from mirrord.daemon import local
from mirrord.daemon.collecting import GarbageCollection
from mirrord.failpoints import CRASH_STATUS
from mirrord.files import LocalFile
from mirrord.syncer.serving import Request
from mirrord.syncer.values import Services
from mirrord.syncers.image.front import respond
from mirrord.testing import Image, Registry, build_image, push
from tests.support.commands import Desk
from tests.support.layouts import write_layout
from tests.support.localstore import tags_in
from tests.support.walking import walk_local

VERSIONS = [f"1.{number}" for number in range(5)]


class Kept:
    """A mirror of five versions that share a layer, whose newest two are kept."""

    def __init__(self, desk: Desk, source: Registry, *, index: bool = False) -> None:
        self.desk, self.source, self.state = desk, source, desk.folder / "state"
        self.images: dict[str, Image] = {
            version: build_image(
                ["linux/amd64"], layers=2, layer_size=50_000, seed=version, shared_layers=1, index=index
            )
            for version in VERSIONS
        }

    def configure(self, keep: str = "", more: str = "") -> None:
        keep = f"keep: {keep}, " if keep else ""
        self.desk.configure(
            "settings: {listen: '127.0.0.1:0'}\nmirrors:\n"
            f"  - {{name: app, kind: image, from: {{repository: {self.source.host}/up/app, tags: ['*']}}, {keep}"
            f"to: local}}\n{more}"
        )

    async def open(self) -> None:
        for version, image in self.images.items():
            await push(image, self.source, "up/app", [version])
        self.configure()
        assert (await self.desk.run("sync")).status == 0

    def tags(self) -> set[str]:
        walk_local(self.state, "app")  # whatever is named is whole
        return set(tags_in(self.state / "repositories", "app"))

    def files(self) -> dict[str, int]:
        return {file.name: file.stat().st_size for file in (self.state / "blobs").glob("*/*/*")}

    async def gc(self, *options: str) -> dict[str, Any]:
        said = await self.desk.run("gc", "--json", *options)
        assert said.status == 0, said
        found: dict[str, Any] = said.document
        return found

    def expected(self) -> set[str]:
        """Return the files of the newest two."""
        return {
            digest.partition(":")[2]
            for version in VERSIONS[-2:]
            for digest in (*self.images[version].blobs, *self.images[version].manifests)
        }


@asynccontextmanager
async def kept(desk: Desk, *, index: bool = False) -> AsyncIterator[Kept]:
    async with Registry() as source:
        world = Kept(desk, source, index=index)
        await world.open()
        yield world


async def test_what_goes_is_said_before(desk: Desk) -> None:
    """A dry run changes nothing and says what goes, why, and how many bytes; a collection does just that."""
    async with kept(desk) as world:
        nothing = await world.gc()
        assert (nothing["gone"], nothing["freed"], nothing["kept"]) == ([], 0, 5)
        world.configure("{newest: 2}")
        before = world.files()
        dry = await world.gc("--dry-run")
        assert world.files() == before
        assert world.tags() == set(VERSIONS)
        wet = await world.gc()
        assert [(one["repository"], one["name"]) for one in wet["gone"]] == [("app", name) for name in VERSIONS[:3]]
        assert {one["why"].partition(",")[0] for one in wet["gone"]} == {"not among the newest 2"}
        assert dry == {**wet, "dry": True}
        assert world.tags() == set(VERSIONS[-2:])
        after = world.files()
        assert after.keys() == world.expected()
        assert wet["freed"] == sum(before.values()) - sum(after.values()) == sum(one["size"] for one in wet["gone"])


async def test_a_restored_name_stays(desk: Desk) -> None:
    """What somebody brought back is kept whatever the rules are, until it is released."""
    async with kept(desk) as world:
        world.configure("{newest: 2}")
        await world.gc()
        assert (await desk.run("restore", "app", "1.0")).status == 0
        await world.gc()
        assert world.tags() == {"1.0", *VERSIONS[-2:]}
        assert (await desk.run("restore", "app", "1.0", "--release")).status == 0
        await world.gc()
        assert world.tags() == set(VERSIONS[-2:])


async def test_dropped_names_do_not_come_back(desk: Desk) -> None:
    """The next run leaves what was not kept, and says so; with wider rules it brings it again, and only that."""
    async with kept(desk) as world:
        world.configure("{newest: 2}")
        await world.gc()
        reads = world.source.count("GET", "/blobs/")
        plan = (await desk.run("plan", "--json", "-v")).document
        assert "not kept: not among the newest 2" in json.dumps(plan)
        assert (await desk.run("sync", "--json")).document["runs"][0]["result"] == "noop"
        assert world.source.count("GET", "/blobs/") == reads
        world.configure("{newest: 3}")
        assert (await desk.run("sync")).status == 0
        assert world.tags() == set(VERSIONS[-3:])


async def test_mirrors_that_share_a_repository(desk: Desk) -> None:
    """Where two mirrors have names in one repository, neither lets go what the other one keeps."""
    async with Registry() as source:
        world = Kept(desk, source)
        for version, image in world.images.items():
            await push(image, source, "up/app", [version])
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\nmirrors:\n"
            "  - {name: all, kind: image, from: {list: all.txt}, to: local}\n"
            "  - {name: some, kind: image, from: {list: some.txt}, keep: {newest: 2}, to: local}\n"
        )
        lines = [f"{source.host}/up/app:{version}\n" for version in VERSIONS]
        desk.configure(lines[0], "all.txt")
        desk.configure("".join(lines[1:]), "some.txt")
        synced = await desk.run("sync")
        assert synced.status == 0, synced
        (log,) = (world.state / "repositories").rglob("_links.jsonl")
        repositories = world.state / "repositories"
        assert set(tags_in(repositories, str(log.parent.relative_to(repositories)))) == set(VERSIONS)


async def test_who_knows_the_index_asks_for_a_platform(desk: Desk) -> None:
    """An image of which clients ask for one platform by its digest is in use, though nobody asks for its tag."""
    async with kept(desk, index=True) as world:
        blobs = world.state / "blobs" / "sha256"
        files = [blobs / digest[7:9] / digest[7:] for image in world.images.values() for digest in image.manifests]
        for file in files:
            os.utime(file, (0, 0))
        for log in (world.state / "repositories").rglob("_links.jsonl"):
            lines = [re.sub(r'"at":[0-9]+', '"at":1', line) for line in log.read_text().splitlines()[1:]]
            body = "".join(f"{line}\n" for line in lines)
            log.write_text(json.dumps({"log": "0", "size": len(body)}) + "\n" + body)
        (child,) = (digest for digest in world.images["1.1"].manifests if digest != world.images["1.1"].digest)
        os.utime(blobs / child[7:9] / child[7:])
        world.configure("{unused: 30d}")
        assert {one["name"] for one in (await world.gc())["gone"]} == set(VERSIONS) - {"1.1"}


async def test_branches_that_look_like_versions(desk: Desk) -> None:
    """A branch of published builds stays with the build that it stands for, also where its name has a version."""
    desk.configure("mirrors: [{name: app, kind: image, from: {layouts: builds}, keep: {newest: 1}, to: local}]\n")
    for number, commit in enumerate(("a" * 40, "b" * 40, "c" * 40)):
        write_layout(build_image(seed=commit), desk.folder / commit)
        branch = f"release-1.{max(number, 1)}"
        said = await desk.run("publish", "app", "--layout", commit, "--branch", branch, "--commit", commit)
        assert said.status == 0, said
    branches = {"release-1.1", "release-1.1-bbbbbbb", "release-1.2", "release-1.2-ccccccc"}
    assert set(tags_in(desk.folder / "state" / "repositories", "app")) == branches


async def test_after_a_run_by_itself(desk: Desk) -> None:
    """A run is followed by a collection; a changed build that moves a name keeps the old content for `days`."""
    async with kept(desk) as world:
        world.configure("{newest: 2, days: 3}")
        assert (await desk.run("sync")).status == 0
        assert world.tags() == set(VERSIONS)
        world.configure("{newest: 2}")
        assert (await desk.run("sync")).status == 0
        assert world.tags() == set(VERSIONS[-2:])


async def test_without_the_database(desk: Desk) -> None:
    """Ages are in the logs of `local`: a lost database makes nothing go that stayed, and nothing stay that goes."""
    async with kept(desk) as world:
        for file in world.state.glob("mirrord.db*"):
            file.unlink()
        world.configure("{days: 1}")
        assert (await world.gc())["gone"] == []
        world.configure("{newest: 2}")
        assert len((await world.gc())["gone"]) == 3


async def test_names_of_an_older_version(desk: Desk) -> None:
    """Names that came before times were noted count from the first collection: none goes by its age before that."""
    async with kept(desk) as world:
        log = world.state / "repositories" / "app" / "_links.jsonl"
        head, *lines = map(json.loads, log.read_text().splitlines())
        body = "".join(json.dumps({key: value for key, value in line.items() if key != "at"}) + "\n" for line in lines)
        log.write_text(json.dumps({"log": head["log"], "size": len(body)}) + "\n" + body)
        world.configure("{newest: 1, days: 30}")
        assert (await world.gc("--dry-run"))["gone"] == []
        assert (await world.gc())["gone"] == []
        assert '"at":' in log.read_text()
        assert world.tags() == set(VERSIONS)


@pytest.mark.parametrize("place", ["links.written", "links.renamed", "ledger.intended", "gc.dropped", "gc.swept"])
async def test_crash(desk: Desk, place: str) -> None:
    """Killed at any step, whatever is named is whole; the next collection does the rest."""
    async with kept(desk) as world:
        world.configure("{newest: 2}")
        crashed = await desk.run("gc", MIRRORD_FAILPOINTS=f"{place}=exit")
        assert crashed.status == CRASH_STATUS, crashed
        assert world.tags() in (set(VERSIONS), set(VERSIONS[-2:]))
        await world.gc()
        assert world.tags() == set(VERSIONS[-2:])
        assert world.files().keys() == world.expected()
        assert (await desk.run("sync", "--json")).document["runs"][0]["result"] == "noop"


@pytest.mark.parametrize("place", ["links.written", "links.renamed", "ledger.intended", "gc.dropped", "gc.swept"])
async def test_failure(desk: Desk, place: str) -> None:
    """Where the disk fails at a step the command says so in one line, and the next collection does the rest."""
    async with kept(desk) as world:
        world.configure("{newest: 2}")
        failed = await desk.run("gc", MIRRORD_FAILPOINTS=f"{place}=fail")
        assert (failed.status, "failpoint" in failed.err, "Traceback" in failed.err) == (1, True, False), failed
        assert world.tags() in (set(VERSIONS), set(VERSIONS[-2:]))
        await world.gc()
        assert world.tags() == set(VERSIONS[-2:])
        assert world.files().keys() == world.expected()
        assert (await desk.run("sync", "--json")).document["runs"][0]["result"] == "noop"


async def test_trouble_after_a_run_is_said(desk: Desk) -> None:
    """A run without a daemon succeeds where the collection after it fails, and says what failed."""
    async with kept(desk) as world:
        world.configure("{newest: 2}")
        said = await desk.run("sync", MIRRORD_FAILPOINTS="gc.dropped=fail")
        assert (said.status, world.tags()) == (0, set(VERSIONS[-2:])), said
        assert "what `keep` does not keep was not removed: app: failpoint" in said.err


async def test_two_processes(desk: Desk) -> None:
    """While a daemon holds the state it collects for the command; what clients asked for a moment ago stays."""
    async with kept(desk) as world:
        world.configure("{newest: 2}")
        async with desk.serving() as server:
            found = await world.gc()
            assert found["gone"] == []  # the daemon does not know who was reading when it began
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://{server.address}/v2/app/manifests/1.0") as answer,
            ):
                assert answer.status == 200
        assert len((await world.gc())["gone"]) == 3


class Client:
    """Pulls the newest two names, over and over."""

    def __init__(self, services: Services) -> None:
        self.services, self.pulls = services, 0

    async def get(self, path: str) -> tuple[int, bytes]:
        answer = await respond(Request("GET", "/v2/", path, {}), self.services)
        if isinstance(answer.body, LocalFile):
            return answer.status, await asyncio.to_thread(answer.body.load, 1 << 20)
        assert isinstance(answer.body, bytes)
        return answer.status, answer.body

    async def newest(self) -> list[str]:
        tags = json.loads((await self.get("app/tags/list"))[1])["tags"]
        return sorted(tags, key=lambda tag: int(tag.partition(".")[2]))[-2:]

    async def begin(self) -> list[dict[str, Any]]:
        """Return the manifests of the newest two; only a name that was dropped since it was listed is missing."""
        found = []
        for tag in await self.newest():
            status, body = await self.get(f"app/manifests/{tag}")
            if status == 200:
                found.append(json.loads(body))
            else:
                assert (status, tag in await self.newest()) == (404, False)
        return found

    async def finish(self, begun: list[dict[str, Any]]) -> None:
        """Get the rest of what was begun: all of it is there."""
        for manifest in begun:
            for layer in (manifest["config"], *manifest["layers"]):
                status, body = await self.get(f"app/blobs/{layer['digest']}")
                assert (status, len(body)) == (200, layer["size"])
            self.pulls += 1

    async def pull(self, ended: asyncio.Event) -> None:
        for _ in range(4):
            await self.finish(await self.begin())
        while not ended.is_set():
            await self.finish(await self.begin())


async def test_clients_pull_during_collections(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients pull at full speed while names come and go: what is named is there, and a pull that began gets all of it.

    What was pulled two hours ago, by a clock of ours, goes: no pull is too slow on a busy machine.
    """
    gone, hours = 0, 0

    def clock() -> float:
        return time.time() + hours * 3600

    monkeypatch.setattr(local, "DiskUses", partial(DiskUses, clock=clock))
    monkeypatch.setattr(local, "Collector", partial(Collector, clock=clock))
    async with kept(desk) as world:
        world.configure("{newest: 2}")
        async with desk.opened() as runtime:
            assert runtime.collector is not None
            work, client = GarbageCollection(runtime, runtime.collector), Client(runtime.snapshot.services)
            for number in range(5, 20):
                begun, ended = await client.begin(), asyncio.Event()
                pulling = [asyncio.create_task(client.pull(ended)) for _ in range(3)]
                image = build_image(["linux/amd64"], layers=2, layer_size=50_000, seed=f"{number}", shared_layers=1)
                await push(image, world.source, "up/app", [f"1.{number}"])
                _, meanwhile = await asyncio.gather(runtime.runner.sync("app"), work.collect())
                gone += len(meanwhile.gone) + len((await work.collect()).gone)
                await client.finish(begun)
                ended.set()
                await asyncio.gather(*pulling)
                hours += 2
    assert client.pulls >= 300
    assert gone >= 5


async def test_an_image_of_an_index_that_is_pinned_by_digest(desk: Desk) -> None:
    """An item that names a platform's image by digest keeps it, also when the tag of the index that has it goes."""
    async with Registry() as source:
        world = Kept(desk, source, index=True)
        for version, image in world.images.items():
            await push(image, source, "up/app", [version])
        (child,) = (digest for digest in world.images["1.0"].manifests if digest != world.images["1.0"].digest)
        lines = [f"{source.host}/up/app:{version}\n" for version in VERSIONS] + [f"{source.host}/up/app@{child}\n"]
        desk.configure("".join(lines), "some.txt")

        def configure(keep: str) -> None:
            desk.configure(
                "settings: {listen: '127.0.0.1:0'}\nmirrors:\n"
                f"  - {{name: some, kind: image, from: {{list: some.txt}}, {keep}to: local}}\n"
            )

        configure("")
        synced = await desk.run("sync")
        assert synced.status == 0, synced
        configure("keep: {newest: 2}, ")
        dry = await world.gc("--dry-run")
        wet = await world.gc()
        assert [one["name"] for one in wet["gone"]] == VERSIONS[:3]
        assert dry == {**wet, "dry": True}
        expected = world.expected() | {one.partition(":")[2] for one in (child, *world.images["1.0"].blobs)}
        assert world.files().keys() == expected
