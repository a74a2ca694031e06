"""`mirrord probe` of what mirrord itself serves."""

from __future__ import annotations

from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.syncers.image.syncer import SYNCER
from mirrord.testing import build_image, push
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.oci.probe import Probe
from mirrord.wire.oci.reference import Reference
from tests.support.frontserver import listening
from tests.support.world import World


async def test_the_front_is_a_registry_that_takes_nothing(world: World) -> None:
    """Its HEAD, digests and list of referrers work; no upload begins, so that nothing is tried."""
    source = await world.registry("source")
    await push(build_image(["linux/amd64"]), source, "team/app", ["main"])
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, LOCAL))
    assert run.result is Result.SUCCESS, run
    async with listening(world.services, SYNCER) as (host, port), Http(HostBook()) as http:
        probe = Probe(http, Reference(f"{host}:{port}", "app"))
        await probe.look()
    found = {what: one.answer for what, one in probe.found.items()}
    assert found == {
        "tls": "no",
        "api": "yes",
        "auth": "none",
        "repository": "yes",
        "head": "yes",
        "digest": "yes",
        "absent": "404",
        "referrers": "yes",
        "uploads": "no",
        "rate": "none seen",
    }
    assert probe.advice() == {}
