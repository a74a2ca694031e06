"""`verify --repair` where the source is gone: `local` and other targets give what a target lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.cli.exits import verify_exit_code
from mirrord.model.run import Result
from mirrord.model.verification import Level
from mirrord.testing import Registry, build_image, push, require
from mirrord.testing.servers import DockerRegistry
from tests.support.cosigning import new_key, pem_of
from tests.support.verifying import codes, data_of, lose_blob, lose_manifest, lose_tag, opened

IMAGES = {tag: build_image(layer_size=2000, seed=tag, shared_layers=1) for tag in ("v1", "v2", "v3")}
PATH = "mirror/app"

CONFIGURATION = """\
targets:
  a: {{kind: image, to: "{a}/mirror"}}
  b: {{kind: image, to: "{b}/mirror"}}
mirrors:
  - {{name: app, kind: image, from: {{repository: "{source}/team/app", tags: ["*"]}}, to: [{to}]}}
"""


@pytest.fixture(params=["docker-registry", "registry3"])
def program(request: pytest.FixtureRequest) -> str:
    require(request.param)
    return str(request.param)


def layer(tag: str) -> str:
    """Return a layer that only this image has."""
    others = {digest for name, image in IMAGES.items() if name != tag for digest in image.blobs}
    return next(digest for digest in IMAGES[tag].layers if digest not in others)


def child(tag: str) -> str:
    """Return the manifest of a platform."""
    return next(digest for digest in IMAGES[tag].manifests if digest != IMAGES[tag].digest)


async def filled(source: Registry) -> None:
    for tag, image in IMAGES.items():
        await push(image, source.url, "team/app", [tag])


@pytest.mark.parametrize("to", ["a, b", "a, local", "a, b, local"])
async def test_a_target_gets_back_what_it_lost_while_the_source_is_gone(tmp_path: Path, program: str, to: str) -> None:
    """A tag with its layer, a manifest, and a layer come back from other places; only they are sent."""
    require("docker-registry")
    async with (
        DockerRegistry() as source,
        DockerRegistry(program=program, access_log=True) as a,
        DockerRegistry(program=program) as b,
    ):
        for tag, image in IMAGES.items():
            await push(image, source.url, "team/app", [tag])
        text = CONFIGURATION.format(source=source.host, a=a.host, b=b.host, to=to)
        async with opened(tmp_path, text) as one:
            assert (await one.sync()).result is Result.SUCCESS
            await source.stop()
            lose_tag(a, PATH, "v1")
            lose_blob(a, PATH, layer("v1"))
            lose_manifest(a, PATH, child("v2"))
            lose_blob(a, PATH, layer("v3"))
            before, standing = len(a.hits()), await one.dispatcher.runtime.store.standing("app")
            found = await one.verify(Level.DEEP, repair=True)
            assert (found.repaired, codes(found), found.error) == (3, [], "")
            assert verify_exit_code([found]) == 0
            puts = sorted(hit.path.split("?")[0] for hit in a.hits()[before:] if hit.method == "PUT")
            assert [path for path in puts if "/manifests/" in path] == sorted(
                [f"/v2/{PATH}/manifests/v1", f"/v2/{PATH}/manifests/{child('v2')}"]
            )
            assert len(puts) == 4
            for tag in ("v1", "v3"):
                assert data_of(a, layer(tag)).read_bytes() == IMAGES[tag].blobs[layer(tag)]
            found = await one.verify(Level.DEEP)
            assert (found.drift, found.unknown) == (0, 0)
            store = one.dispatcher.runtime.store
            assert [run.trigger for run in await store.runs("app")] == ["recovery", "repair", "command"]
            after = await store.standing("app")
            assert [new.items for new in after] == [old.items for old in standing]
            assert not await store.recall("app", "restored")  # the source decides again


async def test_the_source_is_asked_no_more_than_by_a_run(tmp_path: Path) -> None:
    """Neither where it answers with errors, nor where it does not have the tag any more."""
    async with Registry() as source, Registry() as a, Registry() as b:
        await filled(source)
        async with opened(
            tmp_path, CONFIGURATION.format(source=source.host, a=a.host, b=b.host, to="a, b, local")
        ) as one:
            assert (await one.sync()).result is Result.SUCCESS
            source.tags["team/app"].pop("v1")
            before = len(source.log)
            await one.sync()
            cost = len(source.log) - before
            a.tags[PATH].pop("v1")
            b.tags[PATH].pop("v1")
            before, sent = len(source.log), a.received("/blobs/")
            found = await one.verify(repair=True)
            assert (found.repaired, codes(found), found.error) == (2, [], "")
            assert len(source.log) - before <= cost
            assert a.received("/blobs/") == sent
            assert a.tags[PATH]["v1"] == IMAGES["v1"].digest
            source.faults.on("GET", "", times=None).status(500)
            source.faults.on("HEAD", "", times=None).status(500)
            before = len(source.log)
            assert (await one.sync()).result is Result.FAILED
            cost = len(source.log) - before
            a.tags[PATH].pop("v2")
            before = len(source.log)
            found = await one.verify(repair=True)
            assert (found.repaired, codes(found), found.error) == (1, [], "")
            assert len(source.log) - before <= cost


async def test_what_no_place_has_stays_as_it_is_found(tmp_path: Path, program: str) -> None:
    """It is drift, with the reason; what can be had comes back nevertheless, also from the target itself."""
    require("docker-registry")
    async with DockerRegistry() as source, DockerRegistry(program=program) as a, DockerRegistry(program=program) as b:
        for tag, image in IMAGES.items():
            await push(image, source.url, "team/app", [tag])
        async with opened(tmp_path, CONFIGURATION.format(source=source.host, a=a.host, b=b.host, to="a, b")) as one:
            assert (await one.sync()).result is Result.SUCCESS
            await source.stop()
            for place in (a, b):
                lose_blob(place, PATH, layer("v1"))
                lose_tag(place, PATH, "v2")  # its content is there
            found = await one.verify(Level.DEEP, repair=True)
            assert (found.repaired, codes(found)) == (2, [("a", "v1", "blob"), ("b", "v1", "blob")])
            assert verify_exit_code([found]) == 1
            assert f"{IMAGES['v1'].digest} is nowhere" in found.error


async def test_what_a_rule_refuses_comes_from_nowhere(tmp_path: Path) -> None:
    """What the source has and is not signed is not put back from another place either."""
    async with Registry() as source, Registry() as a, Registry() as b:
        await filled(source)
        text = CONFIGURATION.format(source=source.host, a=a.host, b=b.host, to="a, b, local")
        async with opened(tmp_path, text) as one:
            assert (await one.sync()).result is Result.SUCCESS
        (tmp_path / "release.pub").write_bytes(pem_of(new_key()))
        required = f'], signatures: {{require: {{key: "{tmp_path}/release.pub"}}}}}}\n'
        async with opened(tmp_path, text.removesuffix("]}\n") + required) as one:
            a.tags[PATH].pop("v1")
            found = await one.verify(repair=True)
            assert (found.repaired, found.drift) == (0, 1)
            assert "v1" not in a.tags[PATH]
