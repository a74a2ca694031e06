"""Names taken away at every sort of place, and nothing with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol

import pytest

from mirrord.errors import DeniedError, GuardError
from mirrord.model.digest import Digest
from mirrord.model.plan import Action, Plan
from mirrord.model.run import Outcome, Receipt, Result
from mirrord.syncer.values import LOCAL, Mirror, NoLedger
from mirrord.syncers.image.kept import LocalRepository
from mirrord.syncers.image.syncer import SYNCER
from mirrord.testing import DockerRegistry, Image, build_image, push, require
from mirrord.transfer import removal
from mirrord.transfer.execute import execute
from mirrord.transfer.removal import remove
from mirrord.transfer.tagged import Place
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.layout_writer import LayoutWriter
from mirrord.wire.oci.reference import Reference
from mirrord.wire.secret import Credential, Secret
from tests.support.auth import Auth
from tests.support.world import World

ONE, OTHER = build_image(seed="one"), build_image(["linux/amd64"], seed="other")
TAGS = {"v1": ONE, "v2": OTHER, "same": ONE}
CHILD = Digest(next(digest for digest in ONE.manifests if digest != ONE.digest))


class Opens(Protocol):
    """Opens one sort of place."""

    def __call__(self, world: World) -> Any:
        """Yield the targets of `World.mirror`, and what opens the destination."""
        ...


@asynccontextmanager
async def docker(world: World) -> AsyncIterator[tuple[Any, dict[str, str], Place]]:
    require("docker-registry")
    async with DockerRegistry() as server:
        yield server, {}, Repository(world.services.http, Reference(server.host, "mirror/app"), push=True)


@asynccontextmanager
async def newer(world: World) -> AsyncIterator[tuple[Any, dict[str, str], Place]]:
    require("registry3")
    async with DockerRegistry(program="registry3") as server:
        yield server, {}, Repository(world.services.http, Reference(server.host, "mirror/app"), push=True)


@asynccontextmanager
async def double(world: World) -> AsyncIterator[tuple[Any, dict[str, str], Place]]:
    target = await world.registry("one")
    yield target, {}, Repository(world.services.http, Reference(target.host, "mirror/app"), push=True)


@asynccontextmanager
async def layout(world: World) -> AsyncIterator[tuple[Any, dict[str, str], Place]]:
    yield None, {"backup": f"oci:{world.folder}/backup"}, LayoutWriter(world.folder / "backup" / "app")


@asynccontextmanager
async def local(world: World) -> AsyncIterator[tuple[Any, dict[str, str], Place]]:
    yield LOCAL, {}, LocalRepository(world.services, "app")


@asynccontextmanager
async def filled(world: World, place: Opens) -> AsyncIterator[Place]:
    """Mirror all of `TAGS` to a place, and open it."""
    source = await world.registry("source")
    for tag, image in TAGS.items():
        await push(image, source, "team/app", [tag])
    async with place(world) as (target, places, destination):
        targets = [target] if target is not None else []
        mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["*"]}, *targets, places=places)
        assert (await world.run(mirror)).result is Result.SUCCESS
        yield destination


async def names(destination: Place) -> dict[str, Digest | None]:
    """Return what the names stand for at a place."""
    heads = {tag: await destination.head_manifest(tag) for tag in TAGS}
    return {tag: head.digest if head else None for tag, head in heads.items()}


PLACES = pytest.mark.parametrize("place", [docker, newer, double, layout, local])


async def gone(destination: Place, *some: str, **others: Image) -> dict[str, str]:
    """Remove names of `TAGS`, or others; return why the ones that stay do so."""
    wanted = {name: TAGS[name].digest for name in some} | {name: image.digest for name, image in others.items()}
    ends = await remove("there", destination, wanted, NoLedger())
    assert ends.keys() == wanted.keys()
    return {name: str(error) for name, error in ends.items() if error}


@PLACES
async def test_a_name_goes_and_others_stay(world: World, place: Opens) -> None:
    """What is removed is gone; other names and their content are there; what is not there is no error."""
    async with filled(world, place) as destination:
        assert await gone(destination, "v2", never=OTHER) == {}
        assert await names(destination) == {"v1": ONE.digest, "same": ONE.digest, "v2": None}
        for digest in ONE.manifests:
            assert (await destination.get_manifest(digest)).body == ONE.manifests[digest][1]
        assert await gone(destination, "v2") == {}


@PLACES
async def test_a_name_that_moved_stays(world: World, place: Opens) -> None:
    """What stands for something else by now is not removed, and the others are."""
    async with filled(world, place) as destination:
        stays = await gone(destination, "v2", v1=OTHER)
        assert stays == {"v1": f"v1 stays: it is {ONE.digest} there now, and not {OTHER.digest}"}
        assert await names(destination) == {"v1": ONE.digest, "same": ONE.digest, "v2": None}


@PLACES
async def test_two_names_of_one_thing(world: World, place: Opens) -> None:
    """One of two names goes alone; where the registry cannot do that nothing goes. Both go together anywhere."""
    async with filled(world, place) as destination:
        stays = await gone(destination, "v1")
        if place is docker:
            assert f"stays: this registry deletes by digest only, and same needs {ONE.digest}" in stays["v1"]
            assert (await names(destination))["v1"] == ONE.digest
        else:
            assert stays == {}
            assert await names(destination) == {"v1": None, "same": ONE.digest, "v2": OTHER.digest}
        assert await gone(destination, "v1", "same") == {}
        assert await names(destination) == {"v1": None, "same": None, "v2": OTHER.digest}


async def test_a_name_that_moves_while_others_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many names take long: one that somebody moved after the first look stays as they set it."""
    monkeypatch.setattr(removal, "CHUNK", 1)
    target = await world.registry("one")
    fresh = build_image(seed="fresh")
    for tag, image in (("v1", ONE), ("v2", OTHER), ("fresh", fresh)):
        await push(image, target, "mirror/app", [tag])
    tags = target.content.tags["mirror/app"]

    def move(name: str, _: object) -> None:
        tags.update({other: fresh.digest for other in ("v1", "v2") if other != name and other in tags})

    repository = Repository(world.services.http, Reference(target.host, "mirror/app"), push=True)
    wanted = {"v1": Digest(ONE.digest), "v2": Digest(OTHER.digest)}
    ends = await remove("there", repository, wanted, NoLedger(), move)
    (stays,) = [name for name, error in ends.items() if isinstance(error, GuardError)]
    assert tags == {stays: fresh.digest, "fresh": fresh.digest}


async def test_a_platform_that_an_index_needs_stays(world: World) -> None:
    """Docker-registry deletes manifests: the one of a platform is kept while an index with a tag refers to it."""
    async with filled(world, docker) as destination:
        assert isinstance(destination, Repository)
        await destination.put_manifest(await destination.get_manifest(CHILD), "amd64")
        ends = await remove("there", destination, {"amd64": CHILD}, NoLedger())
        assert f"needs {CHILD}" in str(ends["amd64"])
        assert (await destination.get_manifest(CHILD)).digest == CHILD
        both = {"amd64": CHILD, "v1": Digest(ONE.digest), "same": Digest(ONE.digest)}
        assert await remove("there", destination, both, NoLedger()) == dict.fromkeys(both)
        assert await destination.head_manifest("amd64") is None


@pytest.mark.parametrize("digits", [64, 100])
async def test_what_is_about_a_digest_by_sha512_goes(world: World, digits: int) -> None:
    """A tag has no room for it: the specification says its first 64 digits, and some write more."""
    image, target = build_image(algorithm="sha512"), await world.registry("one")
    about = next(Digest(one) for one in image.manifests if one != image.digest).hex[:digits]
    await push(image, target, "mirror/app", ["v1"])
    await push(OTHER, target, "mirror/app", [f"sha512-{about}", f"sha512-{about}.sig", f"sha512-{'0' * 64}.sig"])
    repository = Repository(world.services.http, Reference(target.host, "mirror/app"), push=True)
    top = await repository.head_manifest("v1")
    assert top
    assert not any((await remove("there", repository, {"v1": top.digest}, NoLedger())).values())
    assert [*target.content.tags["mirror/app"]] == [f"sha512-{'0' * 64}.sig"]


async def test_an_index_goes_before_its_platforms(world: World) -> None:
    """Where registries delete by digest only, an index that cannot be deleted keeps what it is made of."""
    target = await world.registry("one")
    await push(ONE, target, "mirror/app", ["v1"])
    target.content.tags["mirror/app"].update(dict.fromkeys(("amd64", "other"), CHILD))
    for tag in ("v1", "amd64", "other"):  # as docker-registry 2.8 answers
        target.faults.on("DELETE", f"/manifests/{tag}", times=None).status(400)
    target.faults.on("DELETE", f"/manifests/{ONE.digest}").status(403)
    repository = Repository(world.services.http, Reference(target.host, "mirror/app"), push=True)
    names = {"v1": Digest(ONE.digest), "amd64": CHILD, "other": CHILD}
    ends = await remove("there", repository, names, NoLedger())
    assert isinstance(ends["v1"], DeniedError)
    assert all(f"v1 needs {CHILD}" in str(ends[name]) for name in ("amd64", "other"))
    assert (await repository.get_manifest(CHILD)).digest == CHILD
    target.wire.exchanges.clear()
    assert await remove("there", repository, names, NoLedger()) == dict.fromkeys(names)
    deleted = [exchange.path for exchange in target.log if exchange.method == "DELETE" and "sha256:" in exchange.path]
    assert [path.rpartition("/")[2] for path in deleted] == [ONE.digest, CHILD]


async def test_the_right_to_delete_is_asked_for(world: World) -> None:
    """The token of a deletion is one for deleting; a registry that refuses is told so, and not asked in another way."""
    target = await world.registry("closed", auth=Auth(bearer=("ann", "pw")))
    target.content.put_manifest("a/b", ONE.media_type, ONE.body)
    target.content.tags["a/b"] = {"v1": ONE.digest}
    book = HostBook({target.host: HostPolicy(target.host, Credential("ann", Secret("pw")))})
    async with Http(book) as http:
        repository = Repository(http, Reference(target.host, "a/b"), push=True)
        fault = target.faults.on("DELETE", "/manifests/v1").status(403)
        ends = await remove("there", repository, {"v1": Digest(ONE.digest)}, NoLedger())
        assert isinstance(ends["v1"], DeniedError)
        assert fault.hits == 1
        assert target.count("DELETE", "") == target.count("DELETE", "/manifests/v1")
        assert await gone(repository, "v1") == {}
    assert isinstance(target.auth, Auth)
    assert ("repository:a/b:pull,delete",) in target.auth.asked
    assert target.tags["a/b"] == {}


@pytest.mark.parametrize("program", ["docker-registry", "registry3"])
async def test_a_registry_that_does_not_delete(world: World, program: str) -> None:
    """Deletion is off by default: nothing goes, and the error says how it is switched on."""
    require(program)
    async with DockerRegistry(program=program, deletes=False) as server:
        await push(ONE, server.url, "mirror/app", ["v1"])
        repository = Repository(world.services.http, Reference(server.host, "mirror/app"), push=True)
        assert "REGISTRY_STORAGE_DELETE_ENABLED=true" in (await gone(repository, "v1"))["v1"]
        assert (await names(repository))["v1"] == ONE.digest


async def test_a_step_that_deletes_is_no_copy(world: World) -> None:
    """A session takes the name away that it says, and sends nothing there; its batch goes on beside it."""
    source, one, two = await world.registry("source"), await world.registry("one"), await world.registry("two")
    await push(ONE, source, "team/app", ["v1"])
    mirror: Mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, one, two)
    await push(ONE, one, "mirror/app", ["v1", "v2"])
    plan: Plan = await world.plan(mirror)
    first, second = plan.steps
    receipts: list[Receipt] = []
    async with SYNCER.open(mirror, plan, world.services) as session:
        wrong = replace(plan, steps=(replace(first, action=Action.DELETE), second))
        await execute(wrong, session, 1, receipts.append)
    told = {receipt.step.target: receipt for receipt in receipts}
    assert told["one"].outcome is Outcome.DONE
    assert one.tags["mirror/app"] == {"v2": ONE.digest}
    assert told["two"].outcome is Outcome.DONE
    assert one.count("PUT", "") == 0
    assert two.tags["mirror/app"] == {"v1": ONE.digest}
