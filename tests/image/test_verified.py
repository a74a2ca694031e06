"""`signatures: {require: …}`: only images that are signed as the mirror requires are mirrored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirrord.model.digest import Digest
from mirrord.model.plan import Action
from mirrord.model.run import Result, Run
from mirrord.testing import Image, Registry, build_image, push
from mirrord.wire.oci.descriptor import OCI_INDEX, index_of
from tests.support.cosigning import (
    build_bundle,
    build_simple,
    bundle_of,
    new_key,
    pem_of,
    signature_tag,
    simple_by,
    statement_of,
)
from tests.support.world import World

IMAGE = build_image(["linux/amd64", "linux/arm64"], layers=1)
OTHER = build_image(["linux/amd64"], layers=1, seed="other")
KEY, STRANGER = new_key(), new_key()
STAYS = "not copied, and what is there under that name stays"
APP = "team/app"


def key_file(folder: Path, name: str = "release.pub", key: Any = KEY) -> str:
    path = folder / name
    path.write_bytes(pem_of(key))
    return str(path)


async def sign_2(source: Registry, image: Image, *keys: Any, digest: str | None = None) -> None:
    """Sign as cosign 2 does."""
    await push(simple_by(digest or image.digest, *keys), source, APP, [signature_tag(image)])


async def sign_3(source: Registry, image: Image, key: Any, *, digest: str | None = None, **made: Any) -> None:
    """Sign as cosign 3 does."""
    await push(build_bundle(image, bundle_of(key, statement_of(digest or image.digest, **made))), source, APP)


SIGN: Mapping[str, Any] = {"cosign2": sign_2, "cosign3": sign_3}


def required(world: World, *files: str) -> dict[str, Any]:
    return {"signatures": {"require": {"key": list(files) or [key_file(world.folder)]}}}


async def start(world: World, **tags: Image) -> tuple[Registry, Registry, dict[str, Any]]:
    world.services = replace(world.services, facts=world.store)
    source, target = await world.registry("source"), await world.registry("target")
    for tag, image in tags.items():
        await push(image, source, APP, [tag])
    return source, target, {"repository": f"{source.host}/{APP}", "tags": [*tags]}


def refusals(run: Run) -> list[tuple[str, str, str]]:
    assert run.plan is not None
    return [(one.item, one.code, one.reason) for one in run.plan.steps if one.action is Action.REFUSE]


@pytest.mark.parametrize("form", SIGN)
async def test_what_is_signed_is_mirrored_and_what_is_not_is_refused(world: World, form: str) -> None:
    """Of two tags the signed one is copied; the other one is refused by name, and nothing of it is read."""
    source, target, tags = await start(world, good=IMAGE, bad=OTHER)
    await SIGN[form](source, IMAGE, KEY)
    mirror = world.mirror(tags, target, **required(world))
    plan = await world.plan(mirror)
    assert source.count("GET", f"/manifests/{IMAGE.digest}") == 0  # a pull of it would count at Docker Hub
    assert [(one.item, one.action) for one in plan.steps] == [("good", Action.COPY), ("bad", Action.REFUSE)]
    assert plan.steps[0].reason == "good not there; signed by release.pub"
    run = await world.run(mirror)
    assert run.result is Result.PARTIAL
    assert refusals(run) == [("bad", "unsigned", f"is not signed; {STAYS}")]
    assert set(target.content.tags["mirror/app"]) >= {"good"}
    assert "bad" not in target.content.tags["mirror/app"]
    assert source.count("GET", f"/manifests/{OTHER.digest}") == 0
    assert not set(OTHER.blobs) - set(IMAGE.blobs) & set(target.blobs)
    assert [(one.item, one.code) for one in await world.store.behind("app")] == [("bad", "unsigned")]


@pytest.mark.parametrize("form", SIGN)
async def test_a_signature_for_another_digest_is_told(world: World, form: str) -> None:
    """A signature by the right key that is for another image is no signature of this one."""
    source, target, tags = await start(world, v1=IMAGE)
    await SIGN[form](source, IMAGE, KEY, digest=OTHER.digest)
    run = await world.run(world.mirror(tags, target, **required(world)))
    said = f"is signed by release.pub, but for another digest ({OTHER.digest}); {STAYS}"
    assert (run.result, refusals(run)) == (Result.FAILED, [("v1", "signature_digest", said)])
    assert not target.content.tags
    assert not target.blobs


@pytest.mark.parametrize("form", SIGN)
async def test_a_signature_by_another_key_is_told(world: World, form: str) -> None:
    """An image that somebody else signed is refused."""
    source, target, tags = await start(world, v1=IMAGE)
    await SIGN[form](source, IMAGE, STRANGER)
    run = await world.run(world.mirror(tags, target, **required(world)))
    assert refusals(run) == [("v1", "signature_key", f"is signed with another key than release.pub; {STAYS}")]
    assert not target.content.tags


async def test_one_good_signature_among_others_is_enough(world: World) -> None:
    """Signatures by strangers, and an attestation by the right key, stand in nobody's way."""
    source, target, tags = await start(world, v1=IMAGE)
    await sign_2(source, IMAGE, STRANGER, KEY)
    await sign_3(source, IMAGE, KEY, predicate="https://spdx.dev/Document")
    run = await world.run(world.mirror(tags, target, **required(world)))
    assert (run.result, refusals(run)) == (Result.SUCCESS, [])


async def test_an_attestation_alone_is_no_signature(world: World) -> None:
    """An SBOM in a bundle by the right key does not sign the image."""
    source, target, tags = await start(world, v1=IMAGE)
    await sign_3(source, IMAGE, KEY, predicate="https://spdx.dev/Document")
    run = await world.run(world.mirror(tags, target, **required(world)))
    assert refusals(run) == [("v1", "unsigned", f"is not signed; {STAYS}")]


async def test_any_of_several_keys_is_enough(world: World) -> None:
    """Of several keys each counts, and the plan names the one that signed."""
    source, target, tags = await start(world, v1=IMAGE, v2=OTHER)
    await sign_2(source, IMAGE, KEY)
    await sign_3(source, OTHER, STRANGER)
    files = key_file(world.folder), key_file(world.folder, "old.pub", STRANGER)
    plan = await world.plan(world.mirror(tags, target, **required(world, *files)))
    assert [one.reason for one in plan.steps] == [
        "v1 not there; signed by release.pub",
        "v2 not there; signed by old.pub",
    ]


async def test_what_was_verified_once_costs_nothing_until_keys_change(world: World) -> None:
    """A second run asks for no signature, one with another key for all; then what is not signed with it is refused."""
    source, target, tags = await start(world, v1=IMAGE)
    await sign_2(source, IMAGE, KEY)
    mirror = world.mirror(tags, target, **required(world))
    assert (await world.run(mirror)).result is Result.SUCCESS
    source.forget()
    assert (await world.run(mirror)).result is Result.NOOP
    assert source.count("*", r"sha256|/tags/list|/referrers/") == 0
    key_file(world.folder, key=STRANGER)  # the same file, another key
    run = await world.run(mirror)
    assert refusals(run) == [("v1", "signature_key", f"is signed with another key than release.pub; {STAYS}")]
    assert target.content.tags["mirror/app"]["v1"] == IMAGE.digest  # it stays


async def test_requiring_signatures_later_looks_at_what_is_recorded(world: World) -> None:
    """Neither a record that is trusted nor a tag that never moves skips the first verification."""
    source, target, tags = await start(world, v1=IMAGE)
    assert (await world.run(world.mirror(tags, target, immutable=["v*"]))).result is Result.SUCCESS
    mirror = world.mirror(tags, target, immutable=["v*"], **required(world))
    assert refusals(await world.run(mirror)) == [("v1", "unsigned", f"is not signed; {STAYS}")]
    await sign_2(source, IMAGE, KEY)
    assert (await world.run(mirror)).result in (Result.NOOP, Result.SUCCESS)


async def test_a_signature_that_cannot_be_fetched_is_no_refusal(world: World) -> None:
    """A registry that fails while a signature is read leaves the image for the next run, and another one goes on."""
    source, target, tags = await start(world, good=IMAGE, late=OTHER)
    await sign_2(source, IMAGE, KEY)
    await sign_2(source, OTHER, KEY)
    payload = simple_by(OTHER.digest, KEY)
    (layer,) = [digest for digest, kind in payload.media_types.items() if "simplesigning" in kind]
    source.faults.on("GET", f"/blobs/{layer}", times=None).status(503)
    run = await world.run(world.mirror(tags, target, **required(world)))
    assert (run.result, refusals(run)) == (Result.PARTIAL, [])
    assert run.plan is not None
    assert [one.partition(":")[0] for one in run.plan.missing] == ["late"]
    assert "its signatures cannot be fetched" in run.plan.missing[0]
    assert run.plan.missing_code == "signature_missing"


async def test_a_signature_whose_content_is_gone_is_refused(world: World) -> None:
    """A payload that its registry does not have is no signature, and a bundle of 10 MB is not read."""
    source, target, tags = await start(world, gone=IMAGE, huge=OTHER)
    await sign_2(source, IMAGE, KEY)
    for digest in simple_by(IMAGE.digest, KEY).blobs:
        del source.content.blobs[digest]
    huge = build_simple([(b" " * (10 << 20), {})])
    await push(huge, source, APP, [signature_tag(OTHER)])
    await push(build_bundle(OTHER, b" " * (10 << 20)), source, APP)
    run = await world.run(world.mirror(tags, target, **required(world)))
    found = {item: reason for item, _, reason in refusals(run)}
    assert found["gone"].startswith("has a signature that cannot be read: ")
    assert {item: code for item, code, _ in refusals(run)} == {"gone": "signature_missing", "huge": "signature"}
    assert "10485760 bytes; a signature has" in found["huge"]
    assert source.sent("/blobs/") < 1 << 20


async def test_only_so_many_signatures_are_looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who signs an image very often does not keep a run busy: the rest is not read, and the refusal says so."""
    monkeypatch.setattr("mirrord.syncers.image.upstream.verified.MOST", 2)
    source, target, tags = await start(world, few=IMAGE, many=OTHER)
    await sign_2(source, IMAGE, STRANGER, KEY)
    await sign_2(source, OTHER, STRANGER, STRANGER, KEY)
    run = await world.run(world.mirror(tags, target, **required(world)))
    why = "is signed with another key than release.pub; only 2 signatures were looked at"
    assert refusals(run) == [("many", "signature_key", f"{why}; {STAYS}")]


async def test_what_a_list_says_is_about_an_image_and_is_not(world: World) -> None:
    """A list may name the signature of another image: that is none of this one, not even a wrong one."""
    source, target, tags = await start(world, v1=IMAGE)
    bundle = build_bundle(OTHER, bundle_of(KEY, statement_of(OTHER.digest)))
    await push(bundle, source, APP)
    body = index_of([dict(bundle.root)])
    source.content.put_manifest(APP, OCI_INDEX, body, digest=Digest.of(body))
    source.content.tags[APP][signature_tag(IMAGE).removesuffix(".sig")] = Digest.of(body)
    run = await world.run(world.mirror(tags, target, **required(world)))
    assert refusals(run) == [("v1", "unsigned", f"is not signed; {STAYS}")]


async def test_the_index_is_verified_and_a_subset_copied(world: World) -> None:
    """With platforms, the signature of the whole index counts, also in runs that know the subset from the record."""
    source, target, tags = await start(world, v1=IMAGE, v2=OTHER)
    await sign_3(source, IMAGE, KEY)
    mirror = world.mirror(tags, target, platforms=["linux/amd64"], immutable=["v1"], **required(world))
    run = await world.run(mirror)
    assert refusals(run) == [("v2", "unsigned", f"is not signed; {STAYS}")]
    assert target.content.tags["mirror/app"]["v1"] not in ("", IMAGE.digest)
    again = await world.run(mirror)
    assert again.plan is not None
    assert [one.item for one in again.plan.steps if one.action is Action.KEEP] == ["v1"]


async def test_the_verified_digest_is_what_is_copied(world: World) -> None:
    """A tag that moves between plan and copy changes nothing: what is copied is the digest that was verified."""
    source, target, tags = await start(world, v1=IMAGE)
    await sign_2(source, IMAGE, KEY)

    def move() -> None:
        source.content.tags[APP]["v1"] = OTHER.digest

    await push(OTHER, source, APP)
    source.faults.on("GET", f"/manifests/{IMAGE.digest}").before.append(move)
    run = await world.run(world.mirror(tags, target, **required(world)))
    assert run.result is Result.SUCCESS
    assert target.content.tags["mirror/app"]["v1"] == IMAGE.digest


async def test_a_file_that_is_no_key_ends_the_run(world: World) -> None:
    """A key that cannot be read names its file and the key of the configuration, and nothing is copied."""
    source, target, tags = await start(world, v1=IMAGE)
    await sign_2(source, IMAGE, KEY)
    file = world.folder / "cosign.key"
    file.write_text("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n")
    run = await world.run(world.mirror(tags, target, **required(world, str(file))))
    assert (run.result, run.code) == (Result.FAILED, "config")
    assert f"mirrors.app.signatures.require: {file} holds a private key; give the public one" in run.error
    file.unlink()
    run = await world.run(world.mirror(tags, target, **required(world, str(file))))
    assert f"{file} does not exist; make it, or correct the path" in run.error
    assert not target.blobs


@pytest.mark.parametrize("form", SIGN)
async def test_a_signature_is_read_once(world: World, form: str) -> None:
    """What was read to verify an image is not read again to copy it: one GET for its manifest and its payload."""
    source, target, tags = await start(world, good=IMAGE)
    await SIGN[form](source, IMAGE, KEY)
    assert (await world.run(world.mirror(tags, target, **required(world)))).result is Result.SUCCESS
    gets = Counter(each.path.rpartition("/")[2] for each in source.select("GET", "/(manifests|blobs)/sha256:"))
    assert set(gets) > {IMAGE.digest, *IMAGE.blobs}
    assert {name: count for name, count in gets.items() if count > 1} == {}
