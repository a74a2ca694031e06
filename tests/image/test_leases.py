"""Runs into `local` beside one another, while content that nobody names is removed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mirrord.blobs.disk import DiskStore
from mirrord.errors import StorageError
from mirrord.model.digest import Digest
from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.syncers.image.kept import LocalRepository
from mirrord.testing import build_image, push
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.manifest import Manifest
from tests.support.localstore import place_in
from tests.support.world import World

IMAGE = build_image(["linux/amd64"], layers=1)


async def test_a_full_disk_takes_nothing_from_others(world: World) -> None:
    """A run that clears up what it brought, after the disk was full, leaves what another one found and names next."""
    manifest = Manifest.parse(IMAGE.body, IMAGE.media_type, IMAGE.digest)
    full, other = LocalRepository(world.services, "full"), LocalRepository(world.services, "other")
    assert world.services.blobs is not None
    for digest, blob in IMAGE.blobs.items():
        await world.services.blobs.put(Digest(digest), blob)
    alone = Descriptor("", Digest.of(b"alone"), 5)
    await world.services.blobs.put(alone.digest, b"alone")
    for one in (full, other):
        assert all([await one.has_blob(blob) for blob in manifest.blobs])
    await other.put_manifest(manifest)
    full._brought |= {blob.digest for blob in (*manifest.blobs, alone)}
    assert await full.has_blob(alone)
    await full.discard()
    await other.publish(manifest, ["v1"])
    assert world.local_tags("other") == {"v1": str(IMAGE.digest)}
    assert await other.has_manifest(IMAGE.digest)
    assert place_in(world.folder / "blobs", alone.digest) is None


async def test_a_run_holds_nothing_afterwards(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run brought and could not name is not held when it has ended, whether it failed or not."""
    source = await world.registry("source")
    await push(IMAGE, source, "team/app", ["v1"])
    publish = LocalRepository.publish_all

    async def fails(*_: object) -> None:
        raise StorageError("no")

    monkeypatch.setattr(LocalRepository, "publish_all", fails)
    mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, LOCAL)
    assert (await world.run(mirror)).result is not Result.SUCCESS
    monkeypatch.setattr(LocalRepository, "publish_all", publish)
    assert world.services.repositories is not None
    assert isinstance(world.services.blobs, DiskStore)
    held = [Digest(digest) for digest in IMAGE.blobs]
    await world.services.repositories.remove_unlinked(world.services.blobs, held, world.services.repositories.lease())
    assert await world.services.blobs.missing(held) == set(held)
    assert (await world.run(replace(mirror, trust=0.0))).result is Result.SUCCESS
