"""What `mirrord probe` finds out about registries, and that nothing of it stays there."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from mirrord.errors import UnreachableError
from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from mirrord.testing.ports import free_port
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.oci.probe import Probe
from mirrord.wire.oci.reference import Reference
from mirrord.wire.oci.trial import Trial
from mirrord.wire.secret import Credential, Secret
from tests.support.auth import Auth
from tests.support.quirks import Quirk, Quirky, artifactory, book, gar, ghcr, hub, nexus

IMAGE = build_image(["linux/amd64"], index=False)
NEW = "the repository, which is new and empty: the protocol has no way to delete one"


async def asked(host: str, rules: HostBook | None = None, *, pushing: bool = True) -> tuple[Probe, list[str]]:
    """Probe a repository; return what was found out, and what is said to stay."""
    async with Http(rules or HostBook(), jitter=lambda: 0.0) as http:
        probe = Probe(http, Reference(host, "team/app"))
        await probe.look()
        if pushing:
            await Trial(probe).run()
        return probe, probe.left


def answers(probe: Probe) -> Mapping[str, str]:
    return {what: one.answer for what, one in probe.found.items()}


def held(registry: Registry) -> list[str]:
    """Return what a double holds in the repository that is probed."""
    content = registry.content
    tags = [*content.tags.get("team/app", {})]
    uploads = [f"upload {number}" for number in registry.protocol.uploads.open]
    return sorted([*content.links.get("team/app", ()), *content.manifests.get("team/app", ()), *tags, *uploads])


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    """A registry that has the repository, with one tag."""
    async with Registry() as registry:
        await push(IMAGE, registry, "team/app", ["v1"])
        registry.wire.exchanges.clear()
        yield registry


async def test_reading_writes_nothing(registry: Registry) -> None:
    """Without a push: the API, tags, one that is there and one that is not, referrers, an upload and its end."""
    before = held(registry)
    probe, _ = await asked(registry.host, pushing=False)
    methods = ["GET", "GET", "HEAD", "HEAD", "GET", "POST", "DELETE"]
    assert [exchange.method for exchange in registry.log] == methods
    assert {"api": "yes", "auth": "none", "referrers": "yes", "uploads": "yes", "cancel": "yes"}.items() <= (
        answers(probe).items()
    )
    assert probe.advice() == {}
    assert held(registry) == before


async def test_everything_of_a_registry_that_can_do_it(registry: Registry) -> None:
    """Blobs, mounts, referrers, deletions: each is tried, and in the end the repository is as it was."""
    before = held(registry)
    probe, left = await asked(registry.host)
    wanted = dict.fromkeys(
        ("api", "head", "digest", "referrers", "put", "chunks", "mount", "push", "delete", "delete_tag", "subject"),
        "yes",
    )
    assert wanted.items() <= answers(probe).items()
    assert (answers(probe)["sparse"], answers(probe)["tag_query"]) == ("no", "no")
    assert (left, held(registry)) == ([], before)
    assert registry.count("DELETE", f"/manifests/{probe.mark}$") == 2  # to try it, and in the end whatever came of it
    assert registry.count("DELETE", f"/manifests/{probe.mark}-2$") == 1


@pytest.mark.parametrize(
    ("quirk", "profile"), [(nexus, "nexus"), (artifactory, "artifactory"), (ghcr, None), (gar, None), (hub, None)]
)
async def test_the_profile_that_is_needed(quirk: Quirk, profile: str | None) -> None:
    """What mirrord cannot find out in a run is to be written under hosts:, and only that; then nothing is missing."""
    async with Quirky(quirk) as registry:
        await push(IMAGE, registry, "team/app", ["v1"])
        probe, _ = await asked(registry.host)
        assert probe.advice() == ({"profile": profile} if profile else {})
        again, _ = await asked(registry.host, book(registry, profile or "generic"), pushing=False)
        assert again.advice() == {}


@pytest.mark.parametrize(
    ("header", "value", "profile"),
    [("X-JFrog-Version", "Artifactory/7.12.8 71208900", "artifactory"), ("Server", "Nexus/3.41.0-01 (OSS)", "nexus")],
)
async def test_a_registry_that_says_what_it_is(registry: Registry, header: str, value: str, profile: str) -> None:
    """A header that only one kind sends says which profile fits."""
    registry.faults.on("GET", "/v2/$", times=None).header(header, value)
    probe, _ = await asked(registry.host, pushing=False)
    assert probe.advice() == {"profile": profile}


@pytest.mark.parametrize(("least", "sizes"), [("", [1024]), ("70000", [70000]), (str(1 << 30), []), ("x" * 99, [1024])])
async def test_the_shortest_chunk_counts(registry: Registry, least: str, sizes: list[int]) -> None:
    """OCI-Chunk-Min-Length is kept to in the trial; a length that is too much is not tried, and the rest is."""
    registry.faults.on("POST", "/uploads/", times=None).header("OCI-Chunk-Min-Length", least or None)
    probe, left = await asked(registry.host)
    assert [exchange.received for exchange in registry.log if exchange.method == "PATCH"] == sizes
    assert answers(probe)["push"] == "yes"
    assert left == []


async def test_no_chunks_and_no_mounts() -> None:
    """A registry that refuses PATCH gets both blobs whole; a mount that opens an upload is cancelled."""
    async with Quirky(gar, mount=False) as registry:
        probe, left = await asked(registry.host)
        expected = {"chunks": "no", "put": "yes", "mount": "no", "anonymous": "no", "push": "yes"}
        assert expected.items() <= answers(probe).items()
        assert (left, held(registry)) == ([NEW], [])


async def test_what_cannot_be_deleted_is_named_and_has_no_tag() -> None:
    """Where a manifest cannot be deleted nothing is pushed under a tag, and what stays is named."""
    async with Quirky(hub) as registry:
        probe, left = await asked(registry.host)
        assert answers(probe)["delete"] == "no"
        assert "delete_tag" not in probe.found
        (digest,) = registry.manifests["team/app"]
        assert left[0] == f"manifests/{digest}: status 405 to DELETE"
        assert registry.tags.get("team/app", {}) == {}


async def test_a_second_ctrl_c_names_what_stays() -> None:
    """Where cleaning up ends before its end, what was refused until then is named."""
    async with Quirky(hub) as registry, Http(HostBook(), jitter=lambda: 0.0) as http:
        probe = Probe(http, Reference(registry.host, "team/app"))
        await probe.look()
        trial = Trial(probe)
        held = registry.faults.on("HEAD", "/manifests/sha256:").hold()
        task = asyncio.ensure_future(trial.run())
        await held.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (digest,) = registry.manifests["team/app"]
        assert probe.left == [f"manifests/{digest}: status 405 to DELETE"]


@pytest.mark.parametrize("status", [405, 500, None])
async def test_an_upload_that_cannot_be_cancelled_is_named(registry: Registry, status: int | None) -> None:
    """It stays there for hours: whether its DELETE is refused or has no answer, also while pushes are tried."""
    rule = registry.faults.on("DELETE", "/uploads/", times=None)
    rule.status(status) if status else rule.close()
    said = f"status {status} to DELETE" if status else ""
    probe, left = await asked(registry.host, pushing=False)
    assert answers(probe)["uploads"] == "yes"
    assert answers(probe)["cancel"] == ("no" if status else "failed")
    assert probe.may_push() == (status is not None)
    (named,) = left
    assert named.startswith("an upload: ")
    assert said in named
    registry.protocol.uploads.open.clear()
    registry.faults.on("PATCH", "/uploads/").status(405)
    _, left = await asked(registry.host)
    assert len(left) == len(registry.protocol.uploads.open) > 1  # all that became a blob are over
    assert {one.partition(":")[0] for one in left} == {"an upload"}


async def test_ctrl_c_while_an_upload_is_cancelled(registry: Registry) -> None:
    """A registry whose DELETE hangs: whoever ends the command is told that an upload stays."""
    async with Http(HostBook(), jitter=lambda: 0.0) as http:
        probe = Probe(http, Reference(registry.host, "team/app"))
        held = registry.faults.on("DELETE", "/uploads/").hold()
        task = asyncio.ensure_future(probe.look())
        await held.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert probe.left == ["an upload: no answer to DELETE"]


async def test_ctrl_c_cleans_up(registry: Registry) -> None:
    """Whichever answer is the last before Ctrl-C, nothing stays."""
    before = held(registry)
    await asked(registry.host)
    requests = len(registry.log)
    assert requests > 30
    for number in range(requests - 10):  # the last ten are the deletions
        registry.faults.clear()
        task = asyncio.ensure_future(asked(registry.host))
        registry.faults.on("*", "", skip=number).then(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(registry.protocol.uploads.open) <= 1, number  # one whose address did not arrive any more
        registry.protocol.uploads.open.clear()
        assert held(registry) == before, number


async def test_who_may_not_push(registry: Registry) -> None:
    """A registry that lets nobody in says how to come in; no secret is in what was found out."""
    registry.auth = Auth(bearer=("ann", "canary-secret"), realm="https://auth.example/token")
    probe, _ = await asked(registry.host, pushing=False)
    assert {"auth": "bearer", "realm": "https://auth.example", "uploads": "failed"}.items() <= answers(probe).items()
    assert probe.advice() == {"token_realms": ["https://auth.example"]}
    registry.auth = Auth(basic=("ann", "canary-secret"))
    rules = HostBook({registry.host: HostPolicy(registry.host, Credential("ann", Secret("canary-secret")))})
    probe, left = await asked(registry.host, rules)
    assert {"auth": "basic", "uploads": "yes", "push": "yes"}.items() <= answers(probe).items()
    assert "canary" not in repr(probe.found)
    assert left == []


async def test_nobody_there() -> None:
    """A host where nothing listens is an error, not a finding."""
    with pytest.raises(UnreachableError):
        await asked(f"127.0.0.1:{free_port()}")


@pytest.mark.parametrize("program", ["docker-registry", "registry3"])
async def test_a_real_registry_is_empty_afterwards(program: str) -> None:
    """docker-registry 2.8 and 3: no tag, manifest or link stays, and no byte after the registry's own collection."""
    require(program)
    async with DockerRegistry(program=program) as real:
        probe, left = await asked(real.host)
        expected = {"chunks": "yes", "mount": "yes", "referrers": "no", "subject": "no", "sparse": "no"}
        assert expected.items() <= answers(probe).items()
        assert answers(probe)["delete_tag"] == ("no" if program == "docker-registry" else "yes")
        assert [one.partition(",")[0] for one in left] == ["the repository"]
        assert [one for one in _files(real) if one.endswith("/link")] == []
        await real.stop()
        command = [program, "garbage-collect", str(real.folder / "config.json")]
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
        assert [one for one in _files(real) if one.endswith("/data")] == []


@pytest.mark.parametrize("program", ["docker-registry", "registry3"])
async def test_a_real_registry_without_deletions(program: str) -> None:
    """Without `delete` both refuse: two blobs and a manifest stay, each is named, and there is no tag."""
    require(program)
    async with DockerRegistry(program=program, deletes=False) as real:
        probe, left = await asked(real.host)
        assert answers(probe)["delete"] == "no"
        kinds = [one.partition("/")[0] for one in left]
        assert kinds == ["manifests", "blobs", "blobs"]
        assert [one for one in _files(real) if "/tags/" in one] == []


def _files(real: DockerRegistry) -> list[str]:
    content = Path(real.folder / "content")
    return [str(one.relative_to(content)) for one in content.rglob("*") if one.is_file()]
