"""What it costs to carry an image: every request, at the source and at a target, by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from mirrord.blobs.content_cache import open_cache
from mirrord.model.digest import Digest
from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.testing import Image, Registry, build_image, push
from tests.support.layouts import write_layout
from tests.support.world import World

PLACE = "mirror/app"
ONE = ["linux/amd64"]
ABOUT = ["GET referrer", "GET tag"]  # what is about an image, by the registry's list and by tags
BLOB = ["HEAD blob", "POST upload", "PUT upload"]  # what it takes at a target that does not have it


async def filled(world: World, image: Image, *tags: str) -> Registry:
    source = await world.registry("source")
    await push(image, source, "team/app", tags)
    return source


def kinds(registry: Registry, image: Image) -> list[str]:
    """Say what each request was about, in the order in which they came."""
    found = []
    for one in registry.log:
        kind, _, ref = one.path.rpartition("/")
        what = "upload" if "/uploads" in one.path else kind.rpartition("/")[2].removesuffix("s")
        called = f" {'root' if ref == image.digest else 'child' if ':' in ref else ref}" if what == "manifest" else ""
        found.append(f"{one.method} {what}{called}")
    return found


async def carried(world: World, source: Mapping[str, Any], *targets: Registry | str, **more: Any) -> None:
    for target in targets:
        if isinstance(target, Registry):
            target.forget()
    assert (await world.run(world.mirror(source, *targets, **more))).result is Result.SUCCESS


async def test_a_new_image_under_one_name(world: World) -> None:
    """Nobody asks for the digest of what has no name there, and one PUT writes manifest and name."""
    image = build_image(ONE, layers=1)
    source, target = await filled(world, image, "v1"), await world.registry("one")
    source.forget()
    await carried(world, {"repository": f"{source.host}/team/app:v1"}, target)
    assert kinds(source, image) == ["HEAD manifest v1", "GET manifest root", "GET blob", "GET blob", *ABOUT]
    asked = kinds(target, image)
    assert (asked[0], asked[-2:]) == ("HEAD manifest v1", ["HEAD manifest v1", "PUT manifest v1"])
    assert sorted(asked[1:-2]) == sorted(2 * BLOB)
    assert target.manifests[PLACE] == dict(image.manifests)


async def test_blobs_that_a_front_has_cached(world: World) -> None:
    """A mirror asks its source for no blob that clients pulled through the front, and every target gets it."""
    image = build_image(ONE, layers=2)
    source, target = await filled(world, image, "v1"), await world.registry("one")
    async with open_cache(world.folder / "cache" / "image", world.services.spools) as cache:
        for digest, data in image.blobs.items():
            await cache.store.put(Digest(digest), bytes(data))
        source.forget()
        await carried(world, {"repository": f"{source.host}/team/app:v1"}, target, LOCAL)
    assert kinds(source, image) == ["HEAD manifest v1", "GET manifest root", *ABOUT]
    assert target.manifests[PLACE] == dict(image.manifests)
    assert world.local_tags() == {"v1": image.digest}
    assert target.blobs == dict(image.blobs)


async def test_a_new_image_whose_blobs_are_there(world: World) -> None:
    """Blobs that another image brought are looked at, and not sent."""
    image = build_image(ONE, layers=1)
    source, target = await filled(world, image, "v1"), await world.registry("one")
    for data in image.blobs.values():
        target.content.put_blob(PLACE, data)
    await carried(world, {"repository": f"{source.host}/team/app:v1"}, target)
    head = "HEAD manifest v1"
    assert kinds(target, image) == [head, "HEAD blob", "HEAD blob", head, "PUT manifest v1"]


@pytest.mark.parametrize("platforms", [ONE, ["linux/amd64", "linux/arm64"]], ids=["image", "index"])
async def test_a_new_name_of_what_is_there(world: World, platforms: list[str]) -> None:
    """What stands at the target under another name of the mirror is asked for by digest, and gets the new name."""
    image = build_image(platforms)
    source, target = await filled(world, image, "v1"), await world.registry("one")
    tags = {"repository": f"{source.host}/team/app", "tags": ["v*"]}
    await carried(world, tags, target)
    await push(image, source, "team/app", ["v2"])
    source.forget()
    await carried(world, tags, target)
    assert kinds(target, image) == ["HEAD manifest v2", "HEAD manifest root", "HEAD manifest v2", "PUT manifest v2"]
    about = ["GET referrer"] * len(image.manifests) + ["GET tag"]
    assert sorted(kinds(source, image)) == ["GET manifest root", *about, "HEAD manifest v1", "HEAD manifest v2"]


async def test_a_name_that_moves(world: World) -> None:
    """A name that stands for something else: its new content may be there, so it is asked for by digest."""
    image = build_image(ONE, layers=1)
    source, target = await filled(world, image, "main"), await world.registry("one")
    await push(build_image(ONE, seed="old"), target, PLACE, ["main"])
    await carried(world, {"repository": f"{source.host}/team/app:main"}, target)
    asked = kinds(target, image)
    assert asked[:2] == ["HEAD manifest main", "HEAD manifest root"]
    assert asked[-2:] == ["HEAD manifest main", "PUT manifest main"]
    assert sorted(asked[2:-2]) == sorted(2 * BLOB)


async def test_a_new_index(world: World) -> None:
    """Children are asked for and written by digest, the index by digest and under its name; nobody asks for it."""
    image = build_image(layers=1)
    source, target = await filled(world, image, "v1"), await world.registry("one")
    source.forget()
    await carried(world, {"repository": f"{source.host}/team/app:v1"}, target)
    read = Counter({"HEAD manifest v1": 1, "GET manifest root": 1, "GET manifest child": 2, "GET blob": 4})
    assert Counter(kinds(source, image)) == read + Counter({"GET referrer": 3, "GET tag": 1})
    asked = kinds(target, image)
    assert asked[-3:] == ["PUT manifest root", "HEAD manifest v1", "PUT manifest v1"]
    children = {"HEAD manifest child": 2, "PUT manifest child": 2}
    assert Counter(asked[1:-3]) == Counter({**children, "HEAD blob": 4, "POST upload": 4, "PUT upload": 4})


async def test_several_names_of_one_build(world: World) -> None:
    """A manifest with several names is written by digest first, then each name in its order."""
    image, target = build_image(ONE, layers=1), await world.registry("one")
    layout = write_layout(image, world.folder / "build")
    await carried(world, {"layout": layout, "names": ["main-c1", "main"]}, target)
    asked = kinds(target, image)
    names = ["HEAD manifest main-c1", "HEAD manifest main"]
    assert sorted(asked[:2]) == sorted(names)
    assert asked[-5:] == ["PUT manifest root", *names, "PUT manifest main-c1", "PUT manifest main"]
    assert sorted(asked[2:-5]) == sorted(2 * BLOB)


async def test_several_tags_of_one_digest(world: World) -> None:
    """Tags of one image in one run: it is read once, its blobs are sent once, and each tag is one PUT."""
    image = build_image(ONE, layers=1)
    source, target = await filled(world, image, "v1", "v1.0", "v1.0.0"), await world.registry("one")
    source.forget()
    await carried(world, {"repository": f"{source.host}/team/app", "tags": ["v*"]}, target)
    looked = [f"HEAD manifest {tag}" for tag in ("v1", "v1.0", "v1.0.0")]
    assert sorted(kinds(source, image)) == sorted([*looked, "GET blob", "GET blob", "GET manifest root", *ABOUT])
    asked = Counter(kinds(target, image))
    assert {kind: asked[kind] for kind in {*BLOB, "HEAD manifest root", "PUT manifest root"}} == {
        **dict.fromkeys(BLOB, 2), "HEAD manifest root": 0, "PUT manifest root": 0,
    }  # fmt: skip
    assert [count for name, count in asked.items() if name.startswith("PUT manifest")] == [1, 1, 1]


async def test_together_content_comes_before_anybody_flips(world: World) -> None:
    """`publish: together`: what others wait for is there by digest before any name is set."""
    image = build_image(ONE, layers=1)
    source, target = await filled(world, image, "v1"), await world.registry("one")
    await carried(world, {"repository": f"{source.host}/team/app:v1"}, target, LOCAL, publish="together")
    assert kinds(target, image)[-3:] == ["PUT manifest root", "HEAD manifest v1", "PUT manifest v1"]
