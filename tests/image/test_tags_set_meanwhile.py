"""Somebody sets tags while others are removed: none of theirs is lost, and the looks stay few."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mirrord.errors import GuardError, MirrordError, MissingError, RefusedError
from mirrord.model.digest import Digest
from mirrord.syncer.values import NoLedger
from mirrord.testing import Registry, build_image, push
from mirrord.transfer import removal
from mirrord.transfer.removal import remove
from mirrord.wire.oci import tags
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.reference import Reference
from tests.support.world import World

IMAGE = build_image(["linux/amd64"], layers=1, seed="one")


async def many(world: World, count: int, *others: str) -> tuple[Registry, dict[str, Digest]]:
    """Fill a registry that deletes by digest only, as docker-registry 2.8; return it, and tags by digest."""
    target = await world.registry("one")
    await push(IMAGE, target, "mirror/app", ["latest", *others])
    names: dict[str, Digest] = {}
    for number in range(count):
        body = IMAGE.body + b" " * (number + 1)  # another manifest of the same image
        target.content.put_manifest("mirror/app", IMAGE.media_type, body)
        names[f"v{number}"] = Digest.of(body)
    target.content.tags["mirror/app"].update(names)
    target.faults.on("DELETE", "/manifests/v[0-9]+$", times=None).status(400)
    return target, names


def opened(world: World, target: Registry) -> Repository:
    return Repository(world.services.http, Reference(target.host, "mirror/app"), push=True)


@pytest.mark.parametrize("tag", ["stable", "latest"])
async def test_a_tag_of_theirs_is_not_lost(tag: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new tag, and one that moves (somebody rolls back), keep what they stand for from the next deletions on."""
    target, names = await many(world, 20)
    deleted, real = list[str](), tags.delete_manifest

    async def delete(repository: Repository, digest: Digest) -> None:
        await real(repository, digest)
        deleted.append(digest)
        if len(deleted) == 8:
            target.tags["mirror/app"][tag] = next(one for one in names.values() if one not in deleted)

    monkeypatch.setattr(removal, "delete_manifest", delete)
    ends = await remove("there", opened(world, target), names, NoLedger())
    (kept,) = [name for name, error in ends.items() if error]
    assert isinstance(ends[kept], GuardError)
    assert f"deletes by digest only, and {tag} needs {names[kept]}" in str(ends[kept])
    left = target.tags["mirror/app"]
    assert (left[tag], left[kept]) == (names[kept], names[kept])
    assert len(deleted) == 19


@pytest.mark.parametrize(("going", "staying"), [(100, 0), (200, 0), (20, 200), (100, 100), (200, 200)])
async def test_the_looks_are_linear(going: int, staying: int, world: World) -> None:
    """However many tags go and stay, each of them is looked at six times at the most."""
    target, names = await many(world, going, *(f"other{number}" for number in range(staying)))
    assert not any((await remove("there", opened(world, target), names, NoLedger())).values())
    assert target.count("HEAD", "/manifests/") <= 6 * (going + staying + 1)
    assert target.count("GET", "/tags/list") <= 30
    assert len(target.content.tags["mirror/app"]) == staying + 1


async def test_what_an_api_does_not_find_is_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harbor finds no tag that moved meanwhile, others none that we may not see: that is no deletion."""
    target, names = await many(world, 3)

    class Api:
        async def delete(self, names: Mapping[str, Digest]) -> Mapping[str, MirrordError | None]:
            there = target.tags["mirror/app"]
            there["v1"] = Digest(IMAGE.digest)
            del there["v2"]
            return {name: MissingError(f"{name}: no such tag") for name in names}

    async def deleter(*_: object) -> Api:
        return Api()

    monkeypatch.setattr(removal, "tag_deleter", deleter)
    ends = await remove("there", opened(world, target), names, NoLedger())
    assert str(ends["v1"]) == f"v1 stays: it is {IMAGE.digest} there now, and not {names['v1']}"
    assert isinstance(ends["v1"], GuardError)
    assert isinstance(ends["v0"], RefusedError)
    assert "check what it lets us do" in str(ends["v0"])
    assert ends["v2"] is None
