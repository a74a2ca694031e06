"""Every failpoint that `copy` and `publish` pass, killed and failed there; then once more without (§3.0, I1-I9)."""

from __future__ import annotations

import json
import secrets
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Final

import aiohttp
import pytest

from mirrord import failpoints
from mirrord.cli.copy import _copy
from mirrord.cli.hosts import copy_hosts
from mirrord.errors import MirrordError
from mirrord.failpoints import CRASH_STATUS, NAMES
from mirrord.model.run import Result, Run
from mirrord.syncer.values import Publication
from mirrord.syncers.image.names.typed import copying
from mirrord.testing import DockerRegistry, Image, Registry, build_image, push
from mirrord.wire.oci.manifest import ACCEPT
from tests.support.artifacts import build_artifact
from tests.support.commands import Desk
from tests.support.layouts import write_layout
from tests.support.localstore import linked_in
from tests.support.walking import leftovers, walk, walk_layout, walk_local

pytestmark = pytest.mark.asyncio(loop_scope="module")

Registries = tuple[DockerRegistry, DockerRegistry]
Tags = Mapping[str, str]
GOOD: Final = {Result.SUCCESS, Result.NOOP}

COPY: Final = frozenset({"spool.chunk", "spool.verified", "push.blob", "push.manifest", "push.referrer", "push.tag"})
"""What a copy of a signed image passes."""
PUBLISH: Final = (COPY - {"spool.chunk"}) | {
    "store.linked",
    "links.appended",
    "ledger.intended",
    "ledger.settled",
    "record.receipts",
    "record.days",
}
"""What the second publication to a registry, to a layout and to `local` passes; files of a build are no chunks."""
FIRST: Final = (PUBLISH - {"links.appended"}) | {"links.written", "links.renamed"}
"""What the first one passes: `local` has no list of its tags yet."""


@dataclass(frozen=True)
class Place:
    """What is at a place."""

    found: Tags
    wanted: Tags
    about: frozenset[str]  # digests of what it lists as about the image


class Work(ABC):
    """A signed image that is brought to places which must stay whole."""

    image: Image
    about: Image

    def __init__(self, desk: Desk, source: Registry, registry: DockerRegistry) -> None:
        self.desk, self.source, self.registry = desk, source, registry
        self.repository = f"t{secrets.token_hex(4)}/app"  # the registry is shared
        self.layout = desk.folder / "layouts" / "app"
        self.before: Tags = {}

    @property
    @abstractmethod
    def command(self) -> tuple[str, ...]: ...

    @abstractmethod
    async def prepare(self) -> None: ...

    @abstractmethod
    async def once(self) -> Run:
        """Do what the command does, in this process: it takes a tenth of the time of a child."""

    @abstractmethod
    async def places(self) -> Mapping[str, Place]:
        """Walk what is named at each place."""

    @abstractmethod
    def left(self) -> list[str]:
        """Name what is left over of work that was not finished."""

    async def sound(self) -> frozenset[str]:
        """Assert that everything named is whole and right (I1, I2); returns the places that have all."""
        places = await self.places()
        for name, place in places.items():
            assert place.found.items() <= place.wanted.items() | self.before.items(), name
            assert self.before.keys() <= place.found.keys(), name  # a tag is as it was or as it will be
            named = str(self.image.digest) in place.found.values()
            assert not named or place.about == {self.about.digest}, f"{name} has an image without its signature"
        return frozenset(name for name, place in places.items() if place.found == place.wanted)

    def make(self, seed: str) -> None:
        self.image = build_image(["linux/amd64"], layer_size=60_000, seed=seed)
        self.about = build_artifact(self.image, data=seed.encode())

    async def remote(self, wanted: Tags) -> Place:
        found = dict(await walk(self.registry, self.repository))
        listed = frozenset[str]()
        if found.pop(self.image.digest.replace(":", "-"), None):  # docker-registry 2.8 lists referrers by that tag
            listed = await referrers_in(self.registry, self.repository, self.image)
        return Place(found, wanted, listed)

    def folder(self, wanted: Tags) -> Place:
        found = walk_layout(self.layout)
        nameless = frozenset(digest for name, digest in found.items() if name == digest)
        return Place({name: digest for name, digest in found.items() if name != digest}, wanted, nameless)

    async def converge(self) -> None:
        """Once more: it succeeds without a human (I6), and a further one writes nothing (I9)."""
        assert (await self.once()).result in GOOD
        assert await self.sound() == (await self.places()).keys()
        assert self.left() == []
        before = self.written()
        assert (await self.once()).result is Result.NOOP
        assert self.written() == before

    def written(self) -> tuple[int, dict[str, int]]:
        """Count the writes to the registry, and say when each file of the other places was written."""
        folders = (self.layout, self.desk.folder / "state" / "repositories", self.desk.folder / "state" / "blobs")
        files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
        writes = sum(hit.method not in ("GET", "HEAD") for hit in self.registry.hits())
        return writes, {str(file): file.stat().st_mtime_ns for file in files}


class Copy(Work):
    """`mirrord copy` to a registry and into a layout."""

    @property
    def targets(self) -> tuple[str, ...]:
        return f"{self.registry.host}/{self.repository}:v1", f"oci:{self.layout}:v1"

    @property
    def command(self) -> tuple[str, ...]:
        return "copy", f"{self.source.host}/up/app:v1", *self.targets

    async def prepare(self) -> None:
        self.make("copied")
        await push(self.image, self.source, "up/app", ["v1"])
        await push(self.about, self.source, "up/app")

    async def once(self) -> Run:
        source, *targets = self.command[1:]
        book = copy_hosts([self.source.host, self.registry.host], {})
        return await _copy(source, targets, copying, book, quiet=True)

    async def places(self) -> Mapping[str, Place]:
        wanted = {"v1": str(self.image.digest)}
        remote, folder = self.targets
        return {remote: await self.remote(wanted), folder: self.folder(wanted)}

    def left(self) -> list[str]:
        halves = [str(file) for file in self.layout.rglob("*") if file.name.startswith(".") or file.suffix == ".tmp"]
        return [*halves, *map(str, self.desk.temporary.iterdir())]


class FirstPublish(Work):
    """`mirrord publish` of a build to a registry, into a layout and to the embedded store."""

    names = ("main-0123456", "main")

    @property
    def command(self) -> tuple[str, ...]:
        build = ("--layout", "build", "--branch", "main", "--commit", "0123456789")
        return "publish", "app", *build

    async def prepare(self) -> None:
        self.make("built")
        write_layout(self.image, self.desk.folder / "build", "main")
        write_layout(self.about, self.desk.folder / "build", add=True)
        parent, _, _ = self.repository.rpartition("/")
        self.desk.configure(
            f"targets: {{remote: {{kind: image, to: {self.registry.host}/{parent}}}, "
            f"folder: {{kind: image, to: 'oci:{self.layout.parent}'}}}}\n"
            f"mirrors: [{{name: app, kind: image, from: {{layouts: {self.desk.folder}/builds}}, "
            "to: [remote, folder, local]}]\n"
        )

    async def once(self) -> Run:
        return await self._publish("build", *self.names)

    async def _publish(self, folder: str, *names: str) -> Run:
        async with self.desk.opened() as shop:
            run = await shop.runner.publish("app", Publication(f"oci:{self.desk.folder}/{folder}", names))
            recorded = [one.result for one in await shop.store.runs("app", 1) if one.finished == run.finished]
            assert recorded == [run.result] or run.result not in GOOD  # what is not remembered is not called good
            return run

    async def places(self) -> Mapping[str, Place]:
        wanted = {**self.before, **dict.fromkeys(self.names, str(self.image.digest))}
        state = self.desk.folder / "state"
        linked = linked_in(state / "repositories", "app")
        about = linked.manifests.keys() & {self.about.digest} if linked else ()
        local = Place(walk_local(state, "app"), wanted, frozenset(about))
        places = {"remote": await self.remote(wanted), "folder": self.folder(wanted), "local": local}
        for place in places.values():  # what stays comes first
            assert place.found.get("main") == self.before.get("main") or "main-0123456" in place.found
        return places

    def left(self) -> list[str]:
        state = self.desk.folder / "state"
        with closing(sqlite3.connect(state / "mirrord.db")) as link:
            open_moves = link.execute("select name from ledger where outcome = 'open'").fetchall()
        return [*leftovers(state), *(f"nobody knows what became of {name}" for (name,) in open_moves)]


class Publish(FirstPublish):
    """The next one, which moves `main`."""

    async def prepare(self) -> None:
        await super().prepare()
        old = build_image(layer_size=60_000, seed="old", shared_layers=1)
        write_layout(old, self.desk.folder / "old")
        names = ("main-7654321", "main")
        assert (await self._publish("old", *names)).result is Result.SUCCESS
        self.before = dict.fromkeys(names, str(old.digest))


async def referrers_in(registry: DockerRegistry, repository: str, image: Image) -> frozenset[str]:
    url = f"{registry.url}/v2/{repository}/manifests/{image.digest.replace(':', '-')}"
    async with aiohttp.ClientSession() as session, session.get(url, headers={"Accept": ACCEPT}) as answer:
        return frozenset(entry["digest"] for entry in json.loads(await answer.read())["manifests"])


WORKS: Final[Mapping[str, tuple[Callable[[Desk, Registry, DockerRegistry], Work], frozenset[str]]]] = {
    "copy": (Copy, COPY),
    "first": (FirstPublish, FIRST),
    "publish": (Publish, PUBLISH),
}
CASES: Final = [
    *(("copy", place) for place in sorted(COPY)),
    *(("first", place) for place in sorted(FIRST - PUBLISH)),
    *(("publish", place) for place in sorted(PUBLISH)),
]


@pytest.fixture(autouse=True)
def _temporary(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(desk.temporary))


@pytest.mark.parametrize(("work", "place"), CASES)
async def test_killed(desk: Desk, registries: Registries, work: str, place: str) -> None:
    """The process ends there at once: nothing named lacks content, and the next run mends all and then rests."""
    async with Registry() as source:
        done = WORKS[work][0](desk, source, registries[0])
        await done.prepare()
        crashed = await desk.run(*done.command, MIRRORD_FAILPOINTS=f"{place}=exit")
        assert crashed.status == CRASH_STATUS, crashed
        await done.sound()
        await done.converge()


@pytest.mark.parametrize(("work", "place"), CASES)
async def test_failed(desk: Desk, registries: Registries, work: str, place: str) -> None:
    """The step fails there, each time: who is told that all is well has all, nobody else has half of it."""
    async with Registry() as source:
        done = WORKS[work][0](desk, source, registries[0])
        await done.prepare()
        failpoints.arm(place, failpoints.fail)
        try:
            run = await done.once()
        except MirrordError:
            await done.sound()
        else:
            whole = await done.sound()
            assert {one.step.target for one in run.receipts if one.good} <= whole
            assert run.result not in GOOD or whole == (await done.places()).keys()
        failpoints.disarm()
        await done.converge()


@pytest.mark.parametrize("work", WORKS)
async def test_no_place_is_missing(desk: Desk, registries: Registries, work: str) -> None:
    """The lists above name all that the work passes, so that a new failpoint is in the matrix from its first day."""
    make, places = WORKS[work]
    passed = set[str]()
    async with Registry() as source:
        done = make(desk, source, registries[0])
        await done.prepare()
        for name in NAMES:
            failpoints.arm(name, partial(passed.add, name))
        assert (await done.once()).result is Result.SUCCESS
    assert passed == places
