"""Names taken away at every sort of place, and nothing with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol

import pytest

from mirrord.errors import GuardError, RefusedError
from mirrord.model.digest import Digest
from mirrord.model.plan import Action, Plan
from mirrord.model.run import Outcome, Receipt, Result
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.syncers.image.kept import LocalRepository
from mirrord.syncers.image.syncer import SYNCER
from mirrord.syncers.image.transfer.destinations import Destination
from mirrord.testing import DockerRegistry, build_image, push, require
from mirrord.transfer.execute import execute
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
async def docker(world: World) -> AsyncIterator[tuple[Any, dict[str, str], Destination]]:
    require("docker-registry")
    async with DockerRegistry() as server:
        yield server, {}, Repository(world.services.http, Reference(server.host, "mirror/app"), push=True)


@asynccontextmanager
async def double(world: World) -> AsyncIterator[tuple[Any, dict[str, str], Destination]]:
    target = await world.registry("one")
    yield target, {}, Repository(world.services.http, Reference(target.host, "mirror/app"), push=True)


@asynccontextmanager
async def layout(world: World) -> AsyncIterator[tuple[Any, dict[str, str], Destination]]:
    yield None, {"backup": f"oci:{world.folder}/backup"}, LayoutWriter(world.folder / "backup" / "app")


@asynccontextmanager
async def local(world: World) -> AsyncIterator[tuple[Any, dict[str, str], Destination]]:
    yield LOCAL, {}, LocalRepository(world.services, "app")


@asynccontextmanager
async def filled(world: World, place: Opens) -> AsyncIterator[Destination]:
    """Mirror all of `TAGS` to a place, and open it."""
    source = await world.registry("source")
    for tag, image in TAGS.items():
        await push(image, source, "team/app", [tag])
    async with place(world) as (target, places, destination):
        targets = [target] if target is not None else []
        mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["*"]}, *targets, places=places)
        assert (await world.run(mirror)).result is Result.SUCCESS
        yield destination


async def names(destination: Destination) -> dict[str, Digest | None]:
    """Return what the names stand for at a place."""
    heads = {tag: await destination.head_manifest(tag) for tag in TAGS}
    return {tag: head.digest if head else None for tag, head in heads.items()}


PLACES = pytest.mark.parametrize("place", [docker, double, layout, local])


@PLACES
async def test_a_name_goes_and_others_stay(world: World, place: Opens) -> None:
    """What is removed is gone; other names and their content are there; what is not there is no error."""
    async with filled(world, place) as destination:
        await destination.remove(["v2", "never"])
        assert await names(destination) == {"v1": ONE.digest, "same": ONE.digest, "v2": None}
        for digest in ONE.manifests:
            assert (await destination.get_manifest(digest)).body == ONE.manifests[digest][1]
        await destination.remove(["v2"])


@PLACES
async def test_two_names_of_one_thing(world: World, place: Opens) -> None:
    """One of two names goes alone; where the registry cannot do that nothing goes. Both go together anywhere."""
    async with filled(world, place) as destination:
        if place is docker:
            with pytest.raises(
                GuardError, match=f"v1 stays: this registry deletes by digest only, and same needs {ONE.digest}"
            ):
                await destination.remove(["v1"])
            assert (await names(destination))["v1"] == ONE.digest
        else:
            await destination.remove(["v1"])
            assert await names(destination) == {"v1": None, "same": ONE.digest, "v2": OTHER.digest}
        await destination.remove(["v1", "same"])
        assert await names(destination) == {"v1": None, "same": None, "v2": OTHER.digest}


async def test_a_platform_that_an_index_needs_stays(world: World) -> None:
    """Docker-registry deletes manifests: the one of a platform is kept while an index with a tag refers to it."""
    async with filled(world, docker) as destination:
        assert isinstance(destination, Repository)
        await destination.put_manifest(await destination.get_manifest(CHILD), "amd64")
        with pytest.raises(GuardError, match=f"amd64 stays: .* needs {CHILD}"):
            await destination.remove(["amd64"])
        assert (await destination.get_manifest(CHILD)).digest == CHILD
        await destination.remove(["amd64", "v1", "same"])
        assert await destination.head_manifest("amd64") is None


async def test_the_right_to_delete_is_asked_for(world: World) -> None:
    """The token of a deletion is one for deleting; a registry that refuses is told so, and not asked in another way."""
    target = await world.registry("closed", auth=Auth(bearer=("ann", "pw")))
    target.content.put_manifest("a/b", ONE.media_type, ONE.body)
    target.content.tags["a/b"] = {"v1": ONE.digest}
    book = HostBook({target.host: HostPolicy(target.host, Credential("ann", Secret("pw")))})
    async with Http(book) as http:
        repository = Repository(http, Reference(target.host, "a/b"), push=True)
        fault = target.faults.on("DELETE", "/manifests/v1").status(403)
        with pytest.raises(RefusedError):
            await repository.remove(["v1"])
        assert fault.hits == 1
        assert target.count("DELETE", "") == target.count("DELETE", "/manifests/v1")
        await repository.remove(["v1"])
    assert isinstance(target.auth, Auth)
    assert ("repository:a/b:pull,delete",) in target.auth.asked
    assert target.tags["a/b"] == {}


async def test_a_session_refuses_what_it_cannot_do(world: World) -> None:
    """A step that deletes is refused by name, and never taken for a copy; its batch goes on without it."""
    source, one, two = await world.registry("source"), await world.registry("one"), await world.registry("two")
    await push(ONE, source, "team/app", ["v1"])
    mirror: Mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, one, two)
    plan: Plan = await world.plan(mirror)
    first, second = plan.steps
    receipts: list[Receipt] = []
    async with SYNCER.open(mirror, plan, world.services) as session:
        wrong = replace(plan, steps=(replace(first, action=Action.DELETE), second))
        await execute(wrong, session, 1, receipts.append)
    told = {receipt.step.target: receipt for receipt in receipts}
    assert told["one"].outcome is Outcome.REFUSED
    assert told["one"].detail == "v1: image mirrors do not support `delete`"
    assert told["two"].outcome is Outcome.DONE
    assert one.count("PUT", "") == 0
    assert two.tags["mirror/app"] == {"v1": ONE.digest}
