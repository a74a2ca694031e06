"""Fronts of several replicas: what one has pulled serves all, and a bucket that is away harms nobody."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from mirrord.blobs import resting, shared_source
from mirrord.blobs.s3 import S3Store
from mirrord.blobs.s3_repositories import S3Repositories
from mirrord.blobs.shared_cache import SharedCache
from mirrord.model.digest import Digest
from mirrord.names.denied import Denied, DeniedEntry
from mirrord.testing import Registry
from mirrord.wire.bucket import BucketPatience, ObjectBucket
from mirrord.wire.oci.descriptor import OCI_MANIFEST
from tests.image.through.test_blobs import CONFIG, an_image
from tests.support.bucketproxy import BucketProxy
from tests.support.gateway import bucket, gateway
from tests.support.pulling import Pulls, pulling

LAYER = random.Random(20).randbytes(9_000_017)
DIGEST = Digest.of(LAYER)
TAG, BLOB = "up.test/team/app/manifests/v1", f"up.test/team/app/blobs/{DIGEST}"
CONFIG_BLOB = f"up.test/team/app/blobs/{Digest.of(CONFIG)}"
PATIENT, IMPATIENT = BucketPatience(20.0, 0, 20.0), BucketPatience(1.0, 0, 1.0)
FRESH = 600.0


@dataclass(frozen=True, slots=True)
class Replica:
    """A front, and what it shares."""

    pulls: Pulls
    shared: SharedCache
    folder: Path

    def files(self, area: str) -> list[Path]:
        """Return the files of the cache on its disk."""
        return [file for file in (self.folder / "cache" / "image" / area).rglob("*") if file.is_file()]

    async def pull(self) -> None:
        """Pull the image as clients do, and wait until what is to be shared is."""
        assert (await self.pulls.ask(TAG)).status == 200
        for path, content in ((CONFIG_BLOB, CONFIG), (BLOB, LAYER)):
            assert (await self.pulls.ask(path)).body == content
        await self.settled()

    async def settled(self) -> None:
        """Wait until what is to be kept is kept, and shared."""
        pool = self.pulls.services().spools
        while pool._keepers:
            await asyncio.gather(*pool._keepers, return_exceptions=True)
        await self.shared.settled()


@dataclass(slots=True)
class Fleet:
    """Replicas of one bucket over an upstream with an image.

    Attributes:
        late: seconds by which what a replica writes is older than now.
        patience: how long the bucket may take: a busy machine is not away.
    """

    upstream: Registry
    folder: Path
    prefix: str
    endpoint: str = ""
    late: dict[str, float] = field(default_factory=dict)
    patience: BucketPatience = PATIENT

    @contextlib.asynccontextmanager
    async def replica(self, name: str, **keys: Any) -> AsyncIterator[Replica]:
        """Run one, whose disk is empty the first time."""
        address, late = gateway().address(self.prefix, endpoint=self.endpoint), self.late.get(name, 0.0)

        opened = list[Pulls]()

        def wall() -> float:
            return opened[0].wall() if opened else time.time()

        shared = SharedCache(ObjectBucket(address, self.patience), name, lambda: wall() - late, wall)
        async with pulling(self.folder / name, self.upstream.host, shared=shared, fresh="10m", **keys) as pulls:
            opened.append(pulls)
            yield Replica(pulls, shared, self.folder / name)

    def blobs(self) -> list[str]:
        """Return what content is in the bucket."""
        return [key for key in gateway().objects(self.prefix) if key.startswith("blobs/")]

    def asked(self) -> list[tuple[str, str]]:
        """Return what upstream was asked, and forget it."""
        found = [(one.method, one.path.removeprefix("/v2/").partition("sha256:")[0]) for one in self.upstream.log]
        self.upstream.forget()
        return found


@pytest.fixture
async def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    for module, name in ((resting, "PATIENCE"), (shared_source, "FIRST")):
        monkeypatch.setattr(module, name, 20.0)
    async with Registry() as upstream:
        an_image(upstream.content, LAYER)
        yield Fleet(upstream, tmp_path, f"front/{tmp_path.name}")


async def test_one_replica_pulls_for_all(fleet: Fleet) -> None:
    """What one replica pulled costs no request upstream at another, by tag, digest and blob; it is kept there, too."""
    async with fleet.replica("one") as one, fleet.replica("two") as two:
        await one.pull()
        assert len(fleet.asked()) == 3
        before = await gateway().asked(fleet.prefix)
        assert (before["PUT"], before["POST"]) == (3 + 1 + 1, 2)  # a blob in two parts, two small ones, and the names
        await two.pull()
        assert fleet.asked() == []
        assert {outcome for _, outcome in two.pulls.outcomes()} == {"hit"}
        assert dict(await gateway().asked(fleet.prefix) - before) == {"GET": 1 + 3, "HEAD": 2}
        assert two.pulls.front.standing().cache_entries == 3
        await two.pull()
        assert dict(await gateway().asked(fleet.prefix) - before) == {"GET": 1 + 3, "HEAD": 2}


async def test_a_blob_at_another_replica_than_its_manifest(fleet: Fleet) -> None:
    """A load balancer sends the requests of one pull anywhere: upstream is asked for each thing once."""
    async with fleet.replica("one") as one, fleet.replica("two") as two, fleet.replica("three") as three:
        assert (await one.pulls.ask(TAG)).status == 200
        await one.settled()
        assert (await two.pulls.ask(BLOB)).body == LAYER
        await two.settled()
        answer = await three.pulls.ask(BLOB, Range="bytes=5000000-5000099")
        assert answer.body == LAYER[5000000:5000100]
        assert fleet.asked() == [
            ("GET", "team/app/manifests/v1"),
            ("HEAD", "team/app/blobs/"),
            ("GET", "team/app/blobs/"),
        ]


async def test_many_clients_of_a_cold_blob(fleet: Fleet) -> None:
    """The bucket is asked for a blob once, whether it has it or not, and so is upstream; nobody waits in a line."""
    async with fleet.replica("one") as one, fleet.replica("two") as two:
        assert (await one.pulls.ask(TAG)).status == 200
        stalled = fleet.upstream.faults.on("GET", "/blobs/").stall(1_000_000)
        reading = asyncio.create_task(one.pulls.ask(BLOB))
        await stalled.reached.wait()
        others = [asyncio.create_task(one.pulls.ask(BLOB, Range=f"bytes={at}-{at + 99}")) for at in range(0, 2000, 100)]
        assert [(await other).body for other in others] == [LAYER[at : at + 100] for at in range(0, 2000, 100)]
        stalled.release()
        assert (await reading).body == LAYER
        await one.settled()
        assert (await gateway().asked(fleet.prefix))["HEAD"] == 2  # and before it was sent
        assert {(await asked).body for asked in [asyncio.create_task(two.pulls.ask(BLOB)) for _ in range(20)]} == {
            LAYER
        }
        operations = await gateway().operations(fleet.prefix)
        assert [kind for kind, path in operations if DIGEST.hex in path].count("GetObject") == 1
        assert [method for method, _ in fleet.asked()] == ["GET", "GET"]


async def test_a_lost_disk(fleet: Fleet) -> None:
    """A replica whose disk is new serves what it had, also while upstream does not answer."""
    async with fleet.replica("one") as one:
        await one.pull()
    shutil.rmtree(fleet.folder / "one")
    fleet.upstream.faults.on("GET", "/", times=None).status(503)
    fleet.upstream.faults.on("HEAD", "/", times=None).status(503)
    async with fleet.replica("one") as one:
        await one.pull()
        one.pulls.now += FRESH + 60
        answer = await one.pulls.ask(TAG)
        assert (answer.status, "warning" in answer.headers) == (200, True)


async def test_how_long_a_tag_is_fresh(fleet: Fleet) -> None:
    """A tag that one replica asked for is fresh for all as long as for that one; the renewal of one is that of all."""
    fleet.late["one"] = FRESH - 60
    async with fleet.replica("one") as one, fleet.replica("two") as two, fleet.replica("three") as three:
        await one.pull()
        assert len(fleet.asked()) == 3
        assert (await two.pulls.ask(TAG)).status == 200
        assert fleet.asked() == []
        two.pulls.now += 61
        assert (await two.pulls.ask(TAG)).status == 200
        await two.settled()
        assert fleet.asked() == [("HEAD", "team/app/manifests/v1")]
        three.pulls.now += 61
        assert (await three.pulls.ask(TAG)).status == 200
        assert fleet.asked() == []


async def test_a_tag_that_moved(fleet: Fleet) -> None:
    """One replica reads the new manifest; another one that asks by HEAD whether the tag moved needs no GET."""
    async with fleet.replica("one") as one, fleet.replica("two") as two:
        await one.pull()
        await two.pull()
        an_image(fleet.upstream.content, b"new")
        fleet.upstream.forget()
        for replica, asked in ((one, ["HEAD", "GET"]), (two, [])):
            replica.pulls.now += FRESH + 1
            answer = await replica.pulls.ask(TAG)
            await replica.settled()
            assert Digest.of(b"new") in answer.body.decode()
            assert [method for method, _ in fleet.asked()] == asked


async def test_with_credentials(fleet: Fleet) -> None:
    """Each replica asks once for each blob and name whether our credentials may show it, and reads it from none."""
    keys = {
        "upstreams": [{fleet.upstream.host: {"credentials": True}}],
        "allow": ["up.test/team/app", "up.test/evil/app"],
    }
    content = fleet.upstream.content
    content.put_blob("evil/app", CONFIG)
    async with fleet.replica("one", **keys) as one, fleet.replica("two", **keys) as two:
        await one.pull()
        content.put_manifest("evil/app", OCI_MANIFEST, (await one.pulls.ask(TAG)).body, "v1")
        assert (await two.pulls.ask("up.test/evil/app/manifests/v1")).status == 200
        fleet.asked()
        assert (await two.pulls.ask(f"up.test/evil/app/blobs/{DIGEST}")).status == 404
        assert fleet.asked() == [("HEAD", "evil/app/blobs/")]
        for asked in ([("HEAD", "team/app/blobs/")] * 2, []):
            await two.pull()
            assert fleet.asked() == asked


async def test_what_is_shared_is_older(fleet: Fleet) -> None:
    """A replica that could not share what it read last does not go back to what others have."""
    async with fleet.replica("one") as one, fleet.replica("two") as two:
        await one.pull()
        an_image(fleet.upstream.content, b"new")
        two.shared.bucket.rest("away")
        newest = (await two.pulls.ask(TAG)).body
        assert Digest.of(b"new") in newest.decode()
        two.pulls.now += FRESH + 1
        fleet.upstream.faults.on("HEAD", "/", times=None).status(503)
        answer = await two.pulls.ask(TAG)
        assert (answer.body, "warning" in answer.headers) == (newest, True)


async def test_what_is_on_the_disk_is_newer(fleet: Fleet) -> None:
    """Nor does it after a restart, when upstream is away."""
    async with fleet.replica("one") as one:
        await one.pull()
    async with fleet.replica("two") as two:
        an_image(fleet.upstream.content, b"new")
        two.shared.bucket.rest("away")
        newest = (await two.pulls.ask(TAG)).body
        assert Digest.of(b"new") in newest.decode()
    fleet.upstream.faults.on("HEAD", "/", times=None).status(503)
    async with fleet.replica("two") as two:
        answer = await two.pulls.ask(TAG)
        assert (answer.body, "warning" in answer.headers) == (newest, True)


async def test_another_name(fleet: Fleet) -> None:
    """What is shared under one name is not served under another, unless upstream shows it there."""
    async with fleet.replica("one") as one, fleet.replica("two") as two:
        await one.pull()
        fleet.asked()
        assert (await two.pulls.ask(f"up.test/evil/app/blobs/{DIGEST}")).status == 404
        manifest = Digest.of((await one.pulls.ask(TAG)).body)
        assert (await two.pulls.ask(f"up.test/evil/app/manifests/{manifest}")).status == 404
        assert fleet.asked() == [("HEAD", "evil/app/blobs/"), ("GET", "evil/app/manifests/")]


@pytest.mark.parametrize("how", ["refuses", "hangs", "fails"])
async def test_a_bucket_that_is_away(fleet: Fleet, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The front does what it does without one, and leaves the bucket alone for a while."""
    monkeypatch.setattr(resting, "PATIENCE", 0.1)
    fleet.patience = IMPATIENT
    async with contextlib.AsyncExitStack() as stack:
        if how == "hangs":
            stack.enter_context(gateway().stopped())
        elif how == "refuses":
            fleet.endpoint = "http://127.0.0.1:1"
        proxy = await stack.enter_async_context(BucketProxy()) if how == "fails" else None
        if proxy is not None:
            fleet.endpoint = proxy.base
            proxy.faults.on("GET", "/", times=None).status(503)
        one = await stack.enter_async_context(fleet.replica("one"))
        await one.pull()
        await one.pull()
        assert [method for method, _ in fleet.asked()] == ["GET"] * 3
        assert proxy is None or len(proxy.log) == 1


async def test_local_in_a_bucket_that_is_away(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who names the registry beside the path, which `local` cannot mean, gets what upstream has; nobody waits."""
    monkeypatch.setattr(resting, "PATIENCE", 0.1)
    fleet.endpoint = "http://127.0.0.1:1"
    async with fleet.replica("one") as one:
        away = ObjectBucket(gateway().address(fleet.prefix, endpoint=fleet.endpoint), BucketPatience(9.0, 9, 9.0))
        services = replace(one.pulls.services(), blobs=S3Store(away), repositories=S3Repositories(away))
        one.pulls.world.services = services
        for _ in range(2):
            assert (await one.pulls.ask("team/app/manifests/v1?ns=up.test")).status == 200
            assert (await one.pulls.ask(f"team/app/blobs/{DIGEST}?ns=up.test")).body == LAYER
            await one.settled()
        assert [method for method, _ in fleet.asked()] == ["GET", "GET"]


async def test_a_name_that_local_may_have(fleet: Fleet) -> None:
    """While nobody knows whether it is one of `local`, clients are told to come again, in the format of registries."""
    async with fleet.replica("one") as one:
        away = ObjectBucket(gateway().address(fleet.prefix, endpoint="http://127.0.0.1:1"), IMPATIENT)
        services = replace(one.pulls.services(), blobs=S3Store(away), repositories=S3Repositories(away))
        one.pulls.world.services = services
        for _ in range(2):  # the second time it is known already
            answer = await one.pulls.ask(TAG)
            assert (answer.status, answer.headers["retry-after"]) == (503, "10")
            (error,) = json.loads(answer.body)["errors"]
            assert error["code"] == "UNAVAILABLE"
            assert "bucket" in error["message"]
            assert "127.0.0.1" not in error["message"]
        assert fleet.asked() == []


@pytest.mark.parametrize("how", ["gone", "shorter"])
async def test_a_shared_copy_that_cannot_be_read(fleet: Fleet, how: str) -> None:
    """Content that another replica evicted at this moment, or that breaks off, comes from upstream, from there on."""
    async with fleet.replica("one") as one, fleet.replica("two") as two:
        await one.pull()
        assert (await two.pulls.ask(TAG)).status == 200
        assert await two.shared.find(DIGEST)
        fleet.asked()
        objects, key = bucket(fleet.prefix), S3Store.key(DIGEST)
        await objects.delete([key])
        if how == "shorter":
            await objects.write(key, LAYER[:5_000_000], "application/octet-stream")
        assert (await two.pulls.ask(BLOB)).body == LAYER
        assert fleet.asked() == [("GET", "team/app/blobs/")]


@pytest.mark.parametrize("clients", [1, 10])
async def test_wrong_bytes_in_the_bucket(fleet: Fleet, clients: int) -> None:
    """No client gets them whole; they are read once, then upstream is, and the bucket has the right ones afterwards."""
    async with fleet.replica("one") as one, fleet.replica("two") as two:
        await one.pull()
        assert (await two.pulls.ask(TAG)).status == 200
        objects, key, small = bucket(fleet.prefix), S3Store.key(DIGEST), S3Store.key(Digest.of(CONFIG))
        await objects.write(key, LAYER[:-1] + b"!", "application/octet-stream")
        await objects.write(small, b"!" + CONFIG[1:], "application/octet-stream")
        fleet.asked()
        for answer in await asyncio.gather(*(two.pulls.ask(BLOB) for _ in range(clients))):
            assert not answer.clean or answer.body == LAYER
        for path, content in ((CONFIG_BLOB, CONFIG), (BLOB, LAYER)):
            await two.pulls.ask(path)
            assert (await two.pulls.ask(path)).body == content
        await two.settled()
        assert 2 <= len(fleet.asked()) <= 4  # a client that is cut off leaves, and the next one asks anew
        stored = [await objects.read(one) for one in (key, small)]
        assert [found and found.content for found in stored] == [LAYER, CONFIG]


async def test_wrong_bytes_that_nobody_waits_for(fleet: Fleet) -> None:
    """A copy that is wrong goes although its only client leaves when it is cut off, and nobody comes again."""
    async with fleet.replica("one") as one, fleet.replica("two") as two:
        await one.pull()
        assert (await two.pulls.ask(TAG)).status == 200
        objects, key = bucket(fleet.prefix), S3Store.key(DIGEST)
        await objects.write(key, LAYER[:-1] + b"!", "application/octet-stream")
        fleet.upstream.faults.on("GET", "/blobs/", times=None).status(503)
        answer = await two.pulls.ask(BLOB)
        assert not answer.clean
        assert len(answer.body) < len(LAYER)
        await two.settled()
        assert await objects.head(key) is None


async def test_a_copy_of_another_length(fleet: Fleet) -> None:
    """It is not taken where the manifest says another size; clients get the blob at once."""
    async with fleet.replica("one") as one, fleet.replica("two") as two:
        await one.pull()
        assert (await two.pulls.ask(TAG)).status == 200
        objects, key = bucket(fleet.prefix), S3Store.key(DIGEST)
        await objects.write(key, LAYER + b"!", "application/octet-stream")
        assert (await two.pulls.ask(BLOB)).body == LAYER
        await two.settled()
        stored = await objects.read(key)
        assert stored
        assert stored.content == LAYER


async def test_a_bucket_that_hangs_in_the_middle(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """One blob waits for its first bytes; those of the next ones come from upstream at once."""
    async with fleet.replica("one") as one, BucketProxy() as proxy:
        await one.pull()
        fleet.endpoint = proxy.base
        async with fleet.replica("two") as two:
            assert (await two.pulls.ask(TAG)).status == 200
            fleet.asked()
            monkeypatch.setattr(shared_source, "FIRST", 0.2)
            stalled = proxy.faults.on("GET", "/blobs/", times=None).stall(0)
            for path, content in ((CONFIG_BLOB, CONFIG), (BLOB, LAYER)):
                assert (await two.pulls.ask(path)).body == content
            assert len(fleet.asked()) == 2
            hanging = [one for one in proxy.log if one.method == "GET" and "/blobs/" in one.path]
            assert len(hanging) == 2  # the manifest, and one blob
            assert "nothing came" in two.shared.standing().error
            stalled.release()


async def test_a_manifest_that_is_wrong_in_the_bucket(fleet: Fleet) -> None:
    """It is read from upstream, and shared anew."""
    async with fleet.replica("one") as one, fleet.replica("two") as two:
        await one.pull()
        manifest = (await one.pulls.ask(TAG)).body
        fleet.asked()
        objects, key = bucket(fleet.prefix), S3Store.key(Digest.of(manifest))
        await objects.write(key, b"{}", "application/octet-stream")
        assert (await two.pulls.ask(TAG)).body == manifest
        await two.settled()
        stored = await objects.read(key)
        assert stored
        assert stored.content == manifest
        assert len(fleet.asked()) == 1


async def test_what_was_taken_down_is_not_brought(fleet: Fleet) -> None:
    """A replica keeps no manifest that was taken down, although another one, which did not hear of it, shares it."""
    async with fleet.replica("one") as one, fleet.replica("two") as two:
        await one.pull()
        manifest = Digest.of((await one.pulls.ask(TAG)).body)
        denied = Denied([DeniedEntry(3, "a complaint", "", (manifest,), "")])
        two.pulls.world.services = replace(two.pulls.services(), denied=denied)
        for ref in ("v1", manifest):
            assert (await two.pulls.ask(f"up.test/team/app/manifests/{ref}")).status == 451
        assert two.pulls.front.standing().cache_entries == 0


async def test_a_takedown_at_another_replica(fleet: Fleet) -> None:
    """What was taken down there goes from the disk of each replica that learns of it, and nothing else does."""
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest.of(CONFIG), "size": len(CONFIG)}
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []}
    fleet.upstream.content.put_manifest("team/other", OCI_MANIFEST, json.dumps(manifest).encode(), "v1")
    other = "up.test/team/other/manifests/v1"
    async with fleet.replica("one", allow=["up.test/team/**"]) as one:
        await one.pull()
        assert (await one.pulls.ask(other)).status == 200
        before, image = one.pulls.services(), f"{fleet.upstream.host}/team/app"
        first = DeniedEntry(3, "a complaint", image, (), "")
        one.pulls.world.services = replace(before, denied=Denied([first]))
        await one.pulls.front.follow()
        left = {Digest.of(CONFIG).hex, Digest.of(json.dumps(manifest).encode()).hex}  # what the other one needs
        assert {file.name for file in one.files("blobs")} == left
        assert not [file for file in one.folder.rglob("*") if file.is_file() and file.stat().st_size == len(LAYER)]
        one.pulls.world.services = before
        await one.pulls.front.follow()
        await one.pull()
        assert one.pulls.front.standing().cache_entries == 4
    async with fleet.replica("one", allow=["up.test/team/**"]) as one:
        one.pulls.world.services = replace(one.pulls.services(), denied=Denied([first]))
        await one.pulls.front.follow()
        assert {file.name for file in one.files("blobs")} == left


async def test_a_takedown(fleet: Fleet) -> None:
    """What is taken down goes from the bucket, too."""
    async with fleet.replica("one") as one:
        await one.pull()
        assert len(fleet.blobs()) == 3
        denied = Denied([DeniedEntry(3, "a complaint", f"{fleet.upstream.host}/team/app", (), "")])
        await one.pulls.front.purge(denied)
        assert fleet.blobs() == []
