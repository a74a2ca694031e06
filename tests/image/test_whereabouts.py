"""Where images can be read by digest: at the source, in `local`, at other targets."""

from __future__ import annotations

from mirrord.model.digest import Digest
from mirrord.syncer.values import LOCAL
from mirrord.syncers.image.upstream.whereabouts import SOURCE, whereabouts
from mirrord.testing import DockerRegistry, build_image, push, require
from tests.support.localstore import place_in
from tests.support.world import World

OLD, NEW = build_image(seed="old"), build_image(seed="new")
NEVER = Digest(f"sha256:{'0' * 64}")


async def test_every_place_that_has_an_image_is_named(world: World) -> None:
    """The source, `local`, a real registry and a layout are asked, `local` first and the source last."""
    require("docker-registry")
    source = await world.registry("source")
    await push(OLD, source, "team/app", ["v1"])
    async with DockerRegistry() as server:
        backup = {"backup": f"oci:{world.folder}/backup"}
        mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, server, LOCAL, places=backup)
        await world.run(mirror)
        await push(NEW, source, "team/app", ["v1"])
        found = await whereabouts(mirror, world.services, [OLD.digest, NEW.digest, NEVER])
    every = (LOCAL, mirror.targets[0].name, "backup", SOURCE)
    assert found.found == {OLD.digest: every, NEW.digest: (SOURCE,), NEVER: ()}
    assert not found.unknown


async def test_a_place_that_is_away_is_unknown_and_costs_one_look(world: World) -> None:
    """What cannot be asked is neither there nor not there; the others are asked all the same."""
    source, one = await world.registry("source"), await world.registry("one")
    await push(OLD, source, "team/app", ["v1"])
    mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, one, LOCAL)
    await world.run(mirror)
    await source.stop()
    found = await whereabouts(mirror, world.services, [OLD.digest], without=["one"])
    assert found.found == {OLD.digest: (LOCAL,)}
    assert found.unknown.keys() == {SOURCE}


async def test_an_image_of_local_with_a_lost_file_is_not_there(world: World) -> None:
    """`local` is checked whole, since nobody else would have what it lacks."""
    source = await world.registry("source")
    await push(OLD, source, "team/app", ["v1"])
    mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, LOCAL)
    await world.run(mirror)
    lost = place_in(world.folder / "blobs", Digest(min(OLD.blobs)))
    assert lost is not None
    lost.unlink()
    found = await whereabouts(mirror, world.services, [OLD.digest], without=[SOURCE])
    assert found.found == {OLD.digest: ()}


async def test_each_digest_costs_each_place_one_request(world: World) -> None:
    """Twice as many digests cost twice as many requests, and no GET."""
    source, one = await world.registry("source"), await world.registry("one")
    images = [build_image(seed=f"n{number}") for number in range(8)]
    for number, image in enumerate(images):
        await push(image, source, "team/app", [f"v{number}"])
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["*"]}, one)
    await world.run(mirror)
    for few in (images[:4], images):
        before = [(at.count("HEAD", "/manifests/"), at.count("GET", "/manifests/")) for at in (source, one)]
        await whereabouts(mirror, world.services, [image.digest for image in few])
        after = [(at.count("HEAD", "/manifests/"), at.count("GET", "/manifests/")) for at in (source, one)]
        assert [(b[0] - a[0], b[1] - a[1]) for a, b in zip(before, after, strict=True)] == [(len(few), 0)] * 2
