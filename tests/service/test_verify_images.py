"""`verify` of images at real registries and in `local`: what was lost or damaged is found, and only that is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.model.run import Result
from mirrord.model.verification import Level
from mirrord.testing import Registry, build_image, push, require
from mirrord.testing.servers import DockerRegistry
from tests.support.cosigning import new_key, pem_of
from tests.support.verifying import at, codes, damage, data_of, lose_blob, lose_manifest, lose_tag, opened

IMAGES = {tag: build_image(layer_size=2000, seed=tag, shared_layers=1) for tag in ("v1", "v2", "v3")}
OTHER = build_image(layer_size=1000, layers=1, seed="other")
PATH = "mirror/app"

CONFIGURATION = """\
targets: {{there: {{kind: image, to: "{there}/mirror"}}}}
mirrors:
  - {{name: app, kind: image, from: {{repository: "{source}/team/app", tags: ["*"]}}, to: [there, local]}}
"""


@pytest.fixture(params=["docker-registry", "registry3"])
def program(request: pytest.FixtureRequest) -> str:
    require(request.param)
    return str(request.param)


async def filled(source: Registry) -> None:
    for tag, image in IMAGES.items():
        await push(image, source, "team/app", [tag])


def layer(tag: str) -> str:
    """Return a layer that only this image has."""
    others = {digest for name, image in IMAGES.items() if name != tag for digest in image.blobs}
    return next(digest for digest in IMAGES[tag].layers if digest not in others)


def child(tag: str) -> str:
    """Return the manifest of a platform."""
    return next(digest for digest in IMAGES[tag].manifests if digest != IMAGES[tag].digest)


async def test_what_is_as_it_was_costs_one_head_a_name(tmp_path: Path, program: str) -> None:
    """Names cost a HEAD each, `deep` a GET for each manifest and a HEAD for each blob; the source costs nothing."""
    async with Registry() as source, DockerRegistry(program=program, access_log=True) as there:
        await filled(source)
        async with opened(tmp_path, CONFIGURATION.format(source=source.host, there=there.host)) as one:
            assert (await one.sync()).result is Result.SUCCESS
            asked, before = len(source.log), len(there.hits())
            found = await one.verify()
            assert (found.drift, found.unknown, [target.checked for target in found.targets]) == (0, 0, [3, 3])
            names = [(hit.method, hit.path.rpartition("/")[2]) for hit in there.hits()[before:]]
            assert sorted(names) == [("HEAD", tag) for tag in sorted(IMAGES)]
            before = len(there.hits())
            found = await one.verify(Level.DEEP)
            assert (found.drift, found.unknown) == (0, 0)
            hits = [(hit.method, "/blobs/" in hit.path) for hit in there.hits()[before:]]
            manifests = {digest for image in IMAGES.values() for digest in image.manifests}
            blobs = {digest for image in IMAGES.values() for digest in image.blobs}
            assert hits.count(("GET", False)) == len(manifests)
            assert hits.count(("HEAD", True)) == len(blobs)
            assert len(hits) == len(IMAGES) + len(manifests) + len(blobs)
            assert len(source.log) == asked


async def test_each_loss_has_its_code_and_only_it_is_sent_again(tmp_path: Path, program: str) -> None:
    """A tag, a manifest, a blob: each is found, by its own level, and repair sends it and nothing else."""
    async with Registry() as source, DockerRegistry(program=program, access_log=True) as there:
        await filled(source)
        async with opened(tmp_path, CONFIGURATION.format(source=source.host, there=there.host)) as one:
            await one.sync()
            lose_tag(there, PATH, "v1")
            lose_manifest(there, PATH, child("v2"))
            lose_blob(there, PATH, layer("v3"))
            assert codes(await one.verify()) == [("there", "v1", "missing")]
            wrong = [("there", "v1", "missing"), ("there", "v2", "tree"), ("there", "v3", "blob")]
            found = await one.verify(Level.DEEP)
            assert codes(found) == wrong
            texts = [finding.text for finding in at(found, "there").findings]
            assert not [text for text in texts if "check the name" in text or "credentials" in text], texts
            before, read = len(there.hits()), source.sent("/blobs/")
            found = await one.verify(Level.DEEP, repair=True)
            assert (found.repaired, found.drift, found.unknown, codes(found)) == (3, 0, 0, [])
            puts = [hit.path.split("?")[0] for hit in there.hits()[before:] if hit.method == "PUT"]
            manifests = sorted(path for path in puts if "/manifests/" in path)
            assert manifests == sorted([f"/v2/{PATH}/manifests/v1", f"/v2/{PATH}/manifests/{child('v2')}"])
            assert len(puts) == 3
            assert data_of(there, layer("v3")).read_bytes() == IMAGES["v3"].blobs[layer("v3")]
            assert source.sent("/blobs/") == read  # it is still here


async def test_a_moved_name_comes_back(tmp_path: Path, program: str) -> None:
    """A tag that somebody moved is found by its digest, and repair sets it again."""
    async with Registry() as source, DockerRegistry(program=program) as there:
        await filled(source)
        async with opened(tmp_path, CONFIGURATION.format(source=source.host, there=there.host)) as one:
            await one.sync()
            await push(OTHER, there.url, PATH, ["v2"])
            assert codes(await one.verify()) == [("there", "v2", "moved")]
            found = await one.verify(repair=True)
            assert (found.repaired, found.drift) == (1, 0)


async def test_damaged_bytes_are_found_where_a_head_says_200(tmp_path: Path, program: str) -> None:
    """A blob with other bytes passes `deep` at a registry; `bytes` finds it, there and in `local`, which is repaired.

    A registry keeps the bytes that it has under a digest, whatever is sent: that is said, and stays drift.
    """
    async with Registry() as source, DockerRegistry(program=program) as there:
        await filled(source)
        async with opened(tmp_path, CONFIGURATION.format(source=source.host, there=there.host)) as one:
            await one.sync()
            damage(data_of(there, layer("v1")))
            damage(one.blob(layer("v2")))
            assert codes(await one.verify(Level.DEEP)) == []
            found = await one.verify(Level.BYTES)
            assert codes(found) == [("local", "v2", "bytes"), ("there", "v1", "bytes")]
            content = sum(len(data) for data in {k: v for i in IMAGES.values() for k, v in i.blobs.items()}.values())
            assert at(found, "there").size == content
            found = await one.verify(Level.BYTES, repair=True)
            assert found.repaired == 1
            assert codes(found) == [("there", "v1", "bytes")]
            runs = await one.dispatcher.runtime.store.runs("app")
            assert [run.trigger for run in runs] == ["repair", "command"]  # other places have no better bytes
            assert one.blob(layer("v2")).read_bytes() == IMAGES["v2"].blobs[layer("v2")]


async def test_what_cannot_be_asked_is_not_equal(tmp_path: Path, program: str) -> None:
    """A registry that is away, and a record that is lost, leave it open: never equal, and never drift."""
    async with Registry() as source, DockerRegistry(program=program) as there:
        await filled(source)
        text = CONFIGURATION.format(source=source.host, there=there.host)
        async with opened(tmp_path, text) as one:
            await one.sync()
            await there.stop()
            found = await one.verify(Level.DEEP)
            assert (found.drift, at(found, "there").unknown, at(found, "local").equal) == (0, 3, True)
            assert {code for _, _, code in codes(found)} == {"unreachable"}
        for file in (tmp_path / "state").glob("mirrord.db*"):
            file.unlink()
        await there.start()
        async with opened(tmp_path, text) as one:
            found = await one.verify()
            assert (found.drift, [target.unknown for target in found.targets]) == (0, [1, 1])
            assert codes(found) == [("local", "", "unrecorded"), ("there", "", "unrecorded")]


async def test_what_could_not_be_read_is_read_the_next_time(tmp_path: Path) -> None:
    """A registry that sends us away in the middle is asked for no further content, and that does not count as read."""
    async with Registry() as source, Registry() as there:
        await filled(source)
        async with opened(tmp_path, CONFIGURATION.format(source=source.host, there=there.host)) as one:
            assert (await one.sync()).result is Result.SUCCESS
            there.faults.on("GET", "/blobs/", times=None).status(429, headers={"Retry-After": "7200"})
            found = at(await one.verify(Level.BYTES), "there")
            assert (found.drift, found.unknown > 0, found.read) == (0, True, 0)
            facts = await one.dispatcher.runtime.store.recall("app", "verify")
            assert list(facts) == ["local"]


async def test_what_a_rule_refuses_is_no_drift(tmp_path: Path) -> None:
    """An image that nobody signed who must is not there as the source has it: that is said, and everything is equal."""
    async with Registry() as source, Registry() as there:
        await filled(source)
        text = CONFIGURATION.format(source=source.host, there=there.host)
        async with opened(tmp_path, text) as one:
            assert (await one.sync()).result is Result.SUCCESS
        (tmp_path / "release.pub").write_bytes(pem_of(new_key()))
        await push(OTHER, source, "team/app", ["v2"])
        required = text.replace(
            "to: [there, local]", f'to: [there, local], signatures: {{require: {{key: "{tmp_path}/release.pub"}}}}'
        )
        async with opened(tmp_path, required) as one:
            assert (await one.sync()).result is Result.FAILED
            found = await one.verify(Level.DEEP)
            assert (found.drift, found.unknown, [target.refused for target in found.targets]) == (0, 0, [3, 3])
            assert codes(found) == [(target, tag, "refused") for target in ("local", "there") for tag in sorted(IMAGES)]
            assert "is not signed" in at(found, "there").findings[0].text
            lose_all = there.tags[PATH]
            lose_all.pop("v1")
            found = await one.verify(repair=True)
            assert (found.drift, found.repaired, at(found, "there").refused) == (1, 0, 2)
