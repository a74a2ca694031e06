"""What a registry sends back of our secrets is not told."""

from __future__ import annotations

from mirrord.testing import Registry
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.oci.probe import Probe
from mirrord.wire.oci.reference import Reference
from mirrord.wire.secret import Credential, Secret


async def test_secrets_that_come_back_are_not_told() -> None:
    """Not as a type of content, nor in a limit of the rate, also where the text is cut off in the middle of it."""
    secret = "Canary-s3cret-Canary"
    async with Registry(name="r") as registry:
        book = HostBook({registry.host: HostPolicy(registry.host, Credential("me", Secret(secret)))})
        registry.faults.on("GET", "/referrers/").status(200, b"{}", {"Content-Type": f"{secret}/x"})
        registry.faults.on("GET", "/tags/list").header("x-ratelimit-limit", "7" * 70 + secret)
        async with Http(book) as http:
            probe = Probe(http, Reference.parse(f"{registry.host}/team/app"))
            await probe.look()
    told = f"{[*probe.found.values()]}".lower()
    assert "***/x" in told
    assert "canary" not in told
