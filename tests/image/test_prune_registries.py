"""`mirrord prune` at real registries: tags where they can be deleted, else manifests; and what is about images."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import pytest

from mirrord.model.digest import Digest
from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import LOCAL
from mirrord.testing import DockerRegistry, Image, build_image, push, require
from mirrord.wire.oci.reference import referrers_tag
from tests.support.artifacts import build_artifact
from tests.support.pruning import OTHER, REPOSITORY, V1, Pruned, done, stays
from tests.support.world import World, open_world

BOTH = pytest.mark.parametrize("program", ["docker-registry", "registry3"])
WIDE = build_image(["linux/amd64", "linux/arm64"], seed="wide", layer_size=500)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as made:
        yield made


async def tags_at(server: DockerRegistry, repository: str = REPOSITORY) -> set[str]:
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/v2/{repository}/tags/list") as answer:
        return set((await answer.json())["tags"] or ())


async def there(server: DockerRegistry, image: Image) -> bool:
    url = f"{server.url}/v2/{REPOSITORY}/manifests/{image.digest}"
    async with aiohttp.ClientSession() as session, session.head(url, headers={"Accept": image.media_type}) as answer:
        return answer.status == 200


async def signed(pruned: Pruned, images: Sequence[Image]) -> None:
    """Sign images at the source, in both ways, and mirror that."""
    for image in images:
        about = build_artifact(image, data=image.digest.encode())
        await push(about, pruned.source, "team/app")
        signature = build_image(["linux/amd64"], seed=f"signature of {image.digest}", layer_size=100)
        await push(signature, pruned.source, "team/app", [f"{referrers_tag(Digest(image.digest))}.sig"])
    pruned.world.later(days=1)
    assert (await pruned.world.run(pruned.mirror)).result is Result.SUCCESS


@BOTH
async def test_a_tag_of_its_own(world: World, program: str) -> None:
    """The tag goes, and where tags cannot be deleted alone the manifest with it; everything else stays."""
    require(program)
    async with DockerRegistry(program=program) as server:
        pruned = await Pruned.open(world, server, LOCAL)
        pruned.lose("v1")
        assert done(await pruned.twice()) == {(server.host, "v1")}
        assert await tags_at(server) == {"v2", "v3"}
        assert await there(server, V1) is (program == "registry3")


@BOTH
async def test_a_tag_that_shares_its_image(world: World, program: str) -> None:
    """Where only manifests can be deleted, a tag stays whose image has another one; else it goes alone."""
    require(program)
    async with DockerRegistry(program=program) as server:
        pruned = await Pruned.open(world, server, LOCAL, images={"v1": V1, "latest": V1, "v2": OTHER})
        pruned.lose("v1")
        run = await pruned.twice()
        if program == "registry3":
            assert done(run) == {(server.host, "v1")}
            assert await tags_at(server) == {"latest", "v2"}
            return
        (receipt,) = run.receipts
        assert (receipt.outcome, receipt.code) == (Outcome.REFUSED, "guard")
        assert f"this registry deletes by digest only, and latest needs {V1.digest}" in receipt.detail
        assert await tags_at(server) == {"v1", "latest", "v2"}
        standing = await world.store.standing("app")
        assert {entry.failures for entry in standing} == {0}
        pruned.lose("latest")
        await pruned.plan()
        world.later(days=2)
        assert done(await pruned.prune()) == {(server.host, "v1"), (server.host, "latest")}
        assert await tags_at(server) == {"v2"}


@BOTH
async def test_a_platform_that_an_index_needs(world: World, program: str) -> None:
    """A tag of one platform of an image whose index has a tag: the index stays whole."""
    require(program)
    child = next(digest for digest in WIDE.manifests if digest != WIDE.digest)
    media_type, body = WIDE.manifests[child]
    root = {"digest": child, "mediaType": media_type, "size": len(body)}
    one = Image(root, {child: WIDE.manifests[child]}, WIDE.blobs)
    async with DockerRegistry(program=program) as server:
        pruned = await Pruned.open(world, server, LOCAL, images={"all": WIDE, "amd64": one, "v2": OTHER})
        pruned.lose("amd64")
        run = await pruned.twice()
        if program == "registry3":
            assert done(run) == {(server.host, "amd64")}
        else:
            assert f"all needs {child}" in run.receipts[0].detail
        assert await there(server, one)
        assert await there(server, WIDE)


@BOTH
async def test_what_is_about_it_goes_with_it(world: World, program: str) -> None:
    """Signatures of an image that loses its last tag go after it; those of the others, and shared ones, stay."""
    require(program)
    async with DockerRegistry(program=program, access_log=True) as server:
        images = {"v1": V1, "v2": OTHER, "wide": WIDE, "also": WIDE}
        pruned = await Pruned.open(world, server, LOCAL, images=images)
        await signed(pruned, [V1, OTHER, WIDE])
        about = {image.digest: referrers_tag(Digest(image.digest)) for image in (V1, OTHER, WIDE)}
        every = {*about.values(), *(f"{tag}.sig" for tag in about.values())}
        assert await tags_at(server) == {*images, *every}
        pruned.lose("v1", *(["wide"] if program == "registry3" else []))
        done(await pruned.twice())
        gone = {about[V1.digest], f"{about[V1.digest]}.sig", "v1"} | ({"wide"} if program == "registry3" else set())
        assert await tags_at(server) == {*images, *every} - gone
        deleted = [hit.path.rpartition("/")[2] for hit in server.hits() if hit.method == "DELETE" and hit.status == 202]
        first = "v1" if program == "registry3" else V1.digest
        assert deleted.index(first) < min(n for n, ref in enumerate(deleted) if ref not in ("v1", "wide", V1.digest))
        world.later(days=1)
        assert not (await pruned.prune()).receipts


async def test_a_signature_that_another_tag_needs(world: World) -> None:
    """Somebody else's tag for an image keeps its signature; a later prune says so, and removes it after that tag."""
    require("registry3")
    async with DockerRegistry(program="registry3") as server:
        pruned = await Pruned.open(world, server, LOCAL)
        await signed(pruned, [V1])
        signature = f"{referrers_tag(Digest(V1.digest))}.sig"
        await push(V1, server.url, REPOSITORY, ["by-ci"])
        pruned.lose("v1")
        assert done(await pruned.twice()) == {(server.host, "v1")}
        assert {"by-ci", signature} <= await tags_at(server)
        (receipt,) = (await pruned.prune()).receipts
        assert (receipt.outcome, receipt.detail) == (Outcome.KEPT, "another tag needs the image")
        async with aiohttp.ClientSession() as session:
            await session.delete(f"{server.url}/v2/{REPOSITORY}/manifests/by-ci")
        assert len(done(await pruned.prune())) == 1
        assert await tags_at(server) == {"v2", "v3"}


@BOTH
async def test_a_registry_that_does_not_delete(world: World, program: str) -> None:
    """Nothing is removed, nothing is unknown afterwards, and the error says how deletion is switched on."""
    require(program)
    async with DockerRegistry(program=program, deletes=False) as server:
        pruned = await Pruned.open(world, server, LOCAL)
        pruned.lose("v1")
        run = await pruned.twice()
        (receipt,) = run.receipts
        assert receipt.outcome is Outcome.REFUSED
        assert "set REGISTRY_STORAGE_DELETE_ENABLED=true" in receipt.detail
        assert await tags_at(server) == {"v1", "v2", "v3"}
        assert not await world.store.moves("app", unsettled=True)
        assert ("v1" in {item for _, item in await world.store.memory("app")}) is True


async def test_a_folder(world: World) -> None:
    """The name of an image in an OCI layout goes out of its index."""
    pruned = await Pruned.open(world, LOCAL, places={"backup": f"oci:{world.folder}/backup"})
    pruned.lose("v1")
    assert done(await pruned.twice()) == {("backup", "v1")}
    assert '"v1"' not in (world.folder / "backup" / "app" / "index.json").read_text()
    assert stays((await pruned.prune()).plan) == {}
