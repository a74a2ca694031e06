"""T17: a manifest that names somebody else's blob does not open it, wherever that blob lies on this machine."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.blobs.source import BlobSource, embedded
from mirrord.model.digest import Digest
from mirrord.testing import Registry
from mirrord.wire.oci.descriptor import OCI_MANIFEST
from tests.image.through.test_blobs import CONFIG, Scene, an_image
from tests.support.pulling import Pulls, pulling

LAYER = random.Random(17).randbytes(3_000_017)
DIGEST = Digest.of(LAYER)
PRIVATE, HOSTILE = f"up.test/team/app/blobs/{DIGEST}", f"up.test/evil/app/blobs/{DIGEST}"


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """Have an upstream whose repository `evil/app` names a blob that only `team/app` shows; both manifests pulled."""
    async with Registry() as upstream, pulling(tmp_path, upstream.host) as pulls:
        an_image(upstream.content, LAYER)
        config = upstream.content.put_blob("evil/app", CONFIG)
        body = (
            f'{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}",'
            f'"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{len(CONFIG)}}},'
            f'"layers":[{{"mediaType":"application/octet-stream","digest":"{DIGEST}","size":{len(LAYER)}}}]}}'
        )
        upstream.content.put_manifest("evil/app", OCI_MANIFEST, body.encode(), "v1")
        for repository in ("team", "evil"):
            assert (await pulls.ask(f"up.test/{repository}/app/manifests/v1")).status == 200
        upstream.forget()
        yield Scene(pulls, upstream)


def with_credentials(pulls: Pulls) -> None:
    """Read the upstream with our credentials."""
    pulls.configure(upstreams=[{pulls.upstream: {"credentials": True}}], allow=["up.test/team/app", "up.test/evil/app"])


async def refused(scene: Scene) -> None:
    """Expect that the hostile name gets nothing, and that upstream was asked each time."""
    scene.upstream.forget()
    for method in ("GET", "HEAD"):
        answer = await scene.pulls.ask(HOSTILE, method)
        assert (answer.status, len(answer.body) < 1000) == (404, True)
    assert [(one.method, "/evil/app/blobs/" in one.path) for one in scene.upstream.log] == [("HEAD", True)] * 2


async def test_a_blob_in_the_cache(scene: Scene) -> None:
    """With credentials the cache opens only what upstream showed; once shown, a warm pull costs nothing."""
    with_credentials(scene.pulls)
    assert (await scene.pulls.ask(PRIVATE)).body == LAYER
    await refused(scene)
    scene.upstream.forget()
    assert (await scene.pulls.ask(PRIVATE)).body == LAYER
    assert scene.upstream.log == []
    scene.upstream.content.put_blob("evil/app", LAYER)
    for _ in range(3):
        assert (await scene.pulls.ask(HOSTILE)).body == LAYER
    assert [(one.method, one.path.partition("/blobs/")[0]) for one in scene.upstream.log] == [("HEAD", "/v2/evil/app")]


async def test_only_public_upstreams(scene: Scene) -> None:
    """Without credentials everything in the cache is public: a blob that a manifest names costs no request."""
    assert (await scene.pulls.ask(PRIVATE)).body == LAYER
    while scene.pulls.front.standing().cache_entries < 3:  # noqa: ASYNC110 - the last client may have it before the cache
        await asyncio.sleep(0)
    scene.upstream.forget()
    assert (await scene.pulls.ask(HOSTILE)).body == LAYER
    assert scene.upstream.log == []


async def test_a_blob_of_local(scene: Scene) -> None:
    """What only a mirror has read, maybe with credentials, is not opened by a manifest either."""
    blobs = scene.pulls.services().blobs
    assert blobs is not None
    await blobs.put(DIGEST, LAYER)
    await refused(scene)
    assert (await scene.pulls.ask(PRIVATE)).body == LAYER
    assert [(one.method, one.path.split("/")[2]) for one in scene.upstream.log[2:]] == [("HEAD", "team")]


async def test_a_blob_that_a_run_has_read(scene: Scene) -> None:
    """The spool of runs is not open to a manifest, nor kept for one; who upstream shows the blob gets it from there."""
    given = BlobSource(DIGEST, len(LAYER), embedded(LAYER))
    async with scene.pulls.services().spools.reader(given, "mirror/target") as reader:
        await reader.whole()
    scene.upstream.forget()
    kept, pool = scene.pulls.front.standing().cache_entries, scene.pulls.services().spools
    for _ in range(2):
        answer = await scene.pulls.ask(HOSTILE)
        assert (answer.status, len(answer.body) < 1000) == (404, True)
        await asyncio.gather(*pool._keepers, return_exceptions=True)
        assert scene.pulls.front.standing().cache_entries == kept
    assert (await scene.pulls.ask(PRIVATE)).body == LAYER
    while len(scene.upstream.log) < 3:  # noqa: ASYNC110 - the double logs an answer after it went out
        await asyncio.sleep(0)
    assert [(one.method, one.path.split("/")[2]) for one in scene.upstream.log] == [
        ("HEAD", name) for name in ("evil", "evil", "team")
    ]


async def test_a_transfer_under_way(scene: Scene) -> None:
    """A hostile name does not join the transfer of the other one, which goes on."""
    with_credentials(scene.pulls)
    fault = scene.upstream.faults.on("GET", "/blobs/").stall(after=1_000_000)
    reading = asyncio.create_task(scene.pulls.ask(PRIVATE))
    await fault.reached.wait()
    answer = await scene.pulls.ask(HOSTILE)
    assert (answer.status, len(answer.body) < 1000) == (404, True)
    fault.release()
    assert (await reading).body == LAYER
    assert scene.blobs_read() == 1
