"""Signatures, attestations and SBOMs go with their images."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mirrord.model.digest import Digest
from mirrord.model.run import Outcome, Result
from mirrord.syncer.serving import Request
from mirrord.syncer.values import LOCAL
from mirrord.syncers.image import front
from mirrord.testing import DockerRegistry, Image, Registry, build_image, push, require
from mirrord.testing.images import Builder, document_of
from mirrord.wire.oci.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor, index_of
from mirrord.wire.oci.layout import Layout
from mirrord.wire.oci.manifest import Manifest
from tests.support.artifacts import build_artifact, cosigned
from tests.support.localstore import said
from tests.support.world import World, by_target

IMAGE = build_image(["linux/amd64", "linux/arm64"], layers=1)
CHILD = build_image(["linux/amd64"], layers=1)
SIGNATURE = build_artifact(IMAGE, "application/vnd.dev.sigstore.bundle.v0.3+json", b"signature")
SBOM = build_artifact(IMAGE, "application/spdx+json", b"sbom")
SIGNED_SBOM = build_artifact(SBOM, "application/vnd.dev.sigstore.bundle.v0.3+json", b"signature of the sbom")
PLACE = "mirror/app"
NAMED: dict[str, Any] = {"as": "app"}


def tag_of(image: Image, suffix: str = "") -> str:
    return image.digest.replace(":", "-") + suffix


def set_list(source: Registry, subject: str, entries: Sequence[object]) -> None:
    """Set the list that stands for what is about `subject` at a registry without the API."""
    body = index_of(entries)
    source.content.put_manifest("team/app", OCI_INDEX, body, digest=Digest.of(body))
    source.content.tags["team/app"][subject.replace(":", "-")] = Digest.of(body)


def about_child() -> Image:
    """Build an SBOM that is about one platform of the image."""
    (first, *_), kind = json.loads(IMAGE.body)["manifests"], "application/vnd.cyclonedx+json"
    builder = Builder()
    config = builder.blob("application/vnd.oci.empty.v1+json", b"{}")
    document = document_of(OCI_MANIFEST, artifactType=kind, config=config, layers=[builder.blob(kind, b"of amd64")])
    subject = {key: first[key] for key in ("mediaType", "digest", "size")}
    return builder.image(builder.manifest({**document, "subject": subject}))


ABOUT = (SIGNATURE, SBOM, SIGNED_SBOM, about_child())


async def signed(source: Registry, *, listed: bool = True) -> dict[str, Any]:
    """Fill a source with a signed image; without `listed` its signatures are found by tags alone."""
    await push(IMAGE, source, "team/app", ["v1"])
    for one in ABOUT:
        await push(one, source, "team/app", [])
    await push(cosigned("a"), source, "team/app", [tag_of(IMAGE, ".sig")])
    if not listed:
        lists: dict[str, list[Image]] = {}
        for one in ABOUT:
            lists.setdefault(json.loads(one.body)["subject"]["digest"], []).append(one)
        for subject, found in lists.items():
            entries = [dict(one.root) for one in found]
            set_list(source, subject, entries)
    source.forget()
    return {"repository": f"{source.host}/team/app:v1"}


async def referrers(world: World, digest: str) -> set[str]:
    """Return what `local` lists about a manifest."""
    page = await front.respond(Request("GET", "/v2/", f"app/referrers/{digest}", {}), world.services)
    return {one["digest"] for one in json.loads(said(page))["manifests"]}


@pytest.mark.parametrize("listed", [True, False], ids=["api", "tags"])
async def test_what_is_about_an_image_goes_with_it(world: World, listed: bool) -> None:
    """About the index, about one platform, and about an SBOM: all are at each kind of target, and counted."""
    source, target = await world.registry("source", referrers=listed), await world.registry("one")
    wanted = await signed(source, listed=listed)
    folder = world.folder / "layouts"
    run = await world.run(world.mirror(wanted, target, LOCAL, places={"files": f"oci:{folder}"}))
    assert run.result is Result.SUCCESS, [one.detail for one in run.receipts]
    assert {name: one.referrers for name, one in by_target(run).items()} == {"one": 5, LOCAL: 5, "files": 5}
    everything = {IMAGE.digest, *IMAGE.manifests, cosigned("a").digest, *(one.digest for one in ABOUT)}
    assert {*target.manifests[PLACE]} == everything
    assert target.tags[PLACE] == {"v1": IMAGE.digest, tag_of(IMAGE, ".sig"): cosigned("a").digest}
    assert world.local_tags() == target.tags[PLACE]
    layout = Layout.open(folder / "app")
    child = json.loads(IMAGE.body)["manifests"][0]["digest"]
    expected = {
        IMAGE.digest: {SIGNATURE.digest, SBOM.digest},
        SBOM.digest: {SIGNED_SBOM.digest},
        child: {ABOUT[3].digest},
    }
    for subject, about in expected.items():
        assert await referrers(world, subject) == about
        assert {one.digest for one, tag in layout.referrers(Digest(subject)) if not tag} == about
    assert layout.resolve().digest == IMAGE.digest


async def test_the_name_is_set_last(world: World) -> None:
    """The image comes before what is about it, and its name after that."""
    source, target = await world.registry("source"), await world.registry("one")
    await world.run(world.mirror(await signed(source), target))
    puts = [one.path.rpartition("/")[2] for one in target.log if one.method == "PUT" and "/manifests/" in one.path]
    assert puts[-1] == "v1"
    assert {*puts[puts.index(IMAGE.digest) + 1 : -1]} == {*(one.digest for one in ABOUT), tag_of(IMAGE, ".sig")}


@pytest.mark.parametrize("kind", ["manifest", "blob", "list"])
async def test_no_name_without_its_signatures(world: World, kind: str) -> None:
    """A signature that cannot be read fails the image at every target, is named, and no name is set; then it heals."""
    source, target = await world.registry("source"), await world.registry("one")
    wanted = await signed(source)
    lost = (
        f"/blobs/{Digest.of(b'signature')}"
        if kind == "blob"
        else f"/{'manifests' if kind == 'manifest' else 'referrers'}/"
    )
    at = lost + {"manifest": SIGNATURE.digest, "list": IMAGE.digest, "blob": ""}[kind]
    source.faults.on("GET", at, times=None).status(500)
    mirror = world.mirror(wanted, target, LOCAL)
    run = await world.run(mirror)
    assert [one.outcome for one in run.receipts] == [Outcome.FAILED] * 2
    if kind != "list":
        assert all(
            one.detail.startswith(f"{SIGNATURE.digest}, which is about {IMAGE.digest}: ") for one in run.receipts
        )
    assert "v1" not in target.tags.get(PLACE, {})
    assert world.local_tags() == {}
    source.faults.clear()
    assert (await world.run(mirror)).result is Result.SUCCESS
    assert target.tags[PLACE]["v1"] == world.local_tags()["v1"] == IMAGE.digest


async def test_without_signatures(world: World) -> None:
    """`signatures: {copy: false}`: nothing about the image is asked for or copied."""
    source, target = await world.registry("source"), await world.registry("one")
    run = await world.run(world.mirror(await signed(source), target, signatures={"copy": False}))
    assert run.receipts[0].referrers is None, "nobody looked, and it is said that there is none"
    assert {*target.manifests[PLACE]} == {*IMAGE.manifests}
    assert source.count("GET", "/referrers/") == source.count("GET", "/tags/list") == 0


async def test_signatures_that_the_source_lacks_stay(world: World) -> None:
    """Cosign's tag is set where the source has all that the target has, else it is left alone with a remark."""
    source, target = await world.registry("source"), await world.registry("one")
    await push(IMAGE, source, "team/app", ["v1"])
    await push(cosigned("a", "b"), source, "team/app", [tag_of(IMAGE, ".sig")])
    await push(cosigned("a"), target, PLACE, [tag_of(IMAGE, ".sig")])
    await push(cosigned("ours"), target, PLACE, [tag_of(IMAGE, ".att")])
    await push(cosigned("theirs"), source, "team/app", [tag_of(IMAGE, ".att")])
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:v1"}, target))
    tags = target.tags[PLACE]
    assert tags[tag_of(IMAGE, ".sig")] == cosigned("a", "b").digest
    assert tags[tag_of(IMAGE, ".att")] == cosigned("ours").digest
    why = "it has signatures there that the source lacks"
    assert run.remarks == (f"one: {tag_of(IMAGE, '.att')} left alone: {why}",)
    assert run.receipts[0].referrers == 1


async def test_wrong_lists_are_ignored(world: World) -> None:
    """Bad input 46: wrong subjects, entries that are none, what is not there, malformed tags: remarks, no failure."""
    source, target = await world.registry("source"), await world.registry("one")
    await push(IMAGE, source, "team/app", ["v1", "sha256-zz.sig", "sha256-", "sha256-zz", "sha512-0.att"])
    await push(SIGNED_SBOM, source, "team/app", [])
    entries: list[object] = [dict(SIGNED_SBOM.root), dict(SBOM.root), {"digest": "sha256:zz"}, 7, dict(IMAGE.root)]
    answer = {"Content-Type": OCI_INDEX}
    source.faults.on("GET", f"/referrers/{IMAGE.digest}", times=None).status(200, index_of(entries), answer)
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:v1"}, target))
    assert run.result is Result.SUCCESS
    assert target.tags[PLACE] == {"v1": IMAGE.digest}
    assert {*target.manifests[PLACE]} == {*IMAGE.manifests}
    (remark,) = run.remarks
    for said_of in (
        f"{SIGNED_SBOM.digest}, which is about {IMAGE.digest}: it says that it is about {SBOM.digest}",
        f"{SBOM.digest}, which is about {IMAGE.digest}: it is listed, and not there",
        f"{IMAGE.digest}, which is about {IMAGE.digest}: it says that it is about nothing",
        "[2]: ",
        "[3]: not a descriptor",
    ):
        assert said_of in remark


@pytest.mark.parametrize("wrong", ["an entry", "an image"])
async def test_a_tag_that_is_no_list(world: World, wrong: str) -> None:
    """Bad input 46: what stands under the tag of a list and is none is left out with a remark."""
    source, target = await world.registry("source", referrers=False), await world.registry("one")
    await push(IMAGE, source, "team/app", ["v1"])
    if wrong == "an entry":
        set_list(source, IMAGE.digest, [{"digest": "sha256:zz"}])
    else:
        await push(SBOM, source, "team/app", [tag_of(IMAGE)])
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:v1"}, target))
    assert run.result is Result.SUCCESS
    assert target.tags[PLACE] == {"v1": IMAGE.digest}
    (remark,) = run.remarks
    assert remark.startswith(f"one: left out: {source.host}/team/app")
    assert tag_of(IMAGE) in remark


@pytest.mark.parametrize("said", ["web page", "no list", "denied", "image"])
async def test_what_is_no_referrers_api(world: World, said: str) -> None:
    """Gateways answer with a page, an error or anything else: then tags say what is there."""
    source, target = await world.registry("source", referrers=False), await world.registry("one")
    wanted = await signed(source, listed=False)
    fault = source.faults.on("GET", "/referrers/", times=None)
    if said == "denied":
        fault.status(403)
    else:
        fault.status(200, body=b"<html>" if said == "web page" else b"{}")
    run = await world.run(world.mirror(wanted, target))
    assert (run.result, run.receipts[0].referrers) == (Result.SUCCESS, 5)
    assert source.count("GET", "/referrers/") == 1


async def test_a_registry_that_lists_no_tags(world: World) -> None:
    """Where the tags may not be listed, those that may be there are asked for one by one."""
    source, target = await world.registry("source", referrers=False), await world.registry("one")
    wanted = await signed(source, listed=False)
    source.faults.on("GET", "/tags/list", times=None).status(403)
    run = await world.run(world.mirror(wanted, target))
    assert (run.result, run.receipts[0].referrers) == (Result.SUCCESS, 5)


async def test_nothing_signed_costs_two_requests(world: World) -> None:
    """docker-registry 2.8, 100 tags to three targets: one probe of the API and one list of tags, also for a glob."""
    require("docker-registry")
    targets = [await world.registry(name) for name in ("one", "two", "three")]
    images = [build_image(["linux/amd64"], layers=1, seed=f"{number}") for number in range(100)]
    async with DockerRegistry(access_log=True) as source:
        for number, image in enumerate(images):
            await push(image, source.url, "team/app", [f"v{number}"])
        before = len(source.hits())
        tags = [f"v{number}" for number in range(100)]
        for wanted in (tags, ["v*"]):
            run = await world.run(world.mirror({"repository": f"{source.host}/team/app", "tags": wanted}, *targets))
            assert run.result is Result.SUCCESS
            asked = Counter(
                one.path.split("/")[4]
                for one in source.hits()[before:]
                if "/referrers/" in one.path or "/tags/" in one.path
            )
            before = len(source.hits())
            probes = {"referrers": 1} if wanted is tags else {}
            assert asked == {**probes, "tags": 1}
            world.store.__init__()  # type: ignore[misc]  # a lost record: everything is asked for again
            for target in targets:
                target.content.__init__()  # type: ignore[misc]  # as if it were new


async def test_two_writers_of_one_list(world: World) -> None:
    """docker-registry 2.8: two mirrors add to the list of one image at once, and nobody's entry is lost."""
    require("docker-registry")
    sources = [await world.registry("a"), await world.registry("b")]
    async with DockerRegistry() as target:
        for number, source in enumerate(sources):
            await push(IMAGE, source, "team/app", ["v1"])
            for kind in range(3):
                await push(build_artifact(IMAGE, data=f"{number} {kind}".encode()), source, "team/app", [])
        mirrors = [
            world.mirror({"repository": f"{source.host}/team/app:v1"}, target, name=f"m{number}", **NAMED)
            for number, source in enumerate(sources)
        ]
        runs = await asyncio.gather(*map(world.run, mirrors))
        assert [run.result for run in runs] == [Result.SUCCESS] * 2
        back = await world.run(world.mirror({"repository": f"{target.host}/{PLACE}:v1"}, LOCAL))
        assert back.receipts[0].referrers == 6


@pytest.mark.parametrize("listed", [True, False], ids=["api", "tags"])
async def test_signatures_that_are_added_later(world: World, listed: bool) -> None:
    """They are planned and brought when the target is asked for the name anyway, and then the run has nothing to do."""
    source, target = await world.registry("source", referrers=listed), await world.registry("one")
    world.services = replace(world.services, facts=world.store)
    await push(IMAGE, source, "team/app", ["v1"])
    mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, target, LOCAL, trust=3600)
    assert (await world.run(mirror)).receipts[0].referrers == 0
    await signed(source, listed=listed)
    world.later(minutes=30)
    source.forget()
    assert (await world.run(mirror)).result is Result.NOOP
    assert source.count("GET", "/referrers/") == source.count("GET", "/tags/list") == 0
    named = await world.plan(replace(mirror, named=True))
    assert [step.reason for step in named.steps] == 2 * ["5 signatures and attestations not there"]
    world.later(hours=1)
    planned = await world.plan(mirror)
    assert [step.reason for step in planned.steps] == 2 * ["5 signatures and attestations not there"]
    run = await world.run(mirror)
    assert run.result is Result.SUCCESS
    assert [one.referrers for one in run.receipts] == [5, 5]
    assert {*target.manifests[PLACE]} >= {one.digest for one in ABOUT}
    world.later(days=1)
    assert (await world.run(mirror)).result is Result.NOOP


@pytest.mark.parametrize("listed", [True, False], ids=["api", "tags"])
@pytest.mark.parametrize("keys", [{}, {"immutable": ["v*"]}], ids=["", "immutable"])
async def test_who_asks_for_a_run_gets_what_was_added(world: World, keys: dict[str, Any], listed: bool) -> None:
    """No `trust` to wait for: one list says that nothing was added, and then what was comes; schedules ask nothing."""
    source, target = await world.registry("source", referrers=listed), await world.registry("one")
    image = build_image(["linux/amd64"], layers=1, index=False)
    await push(image, source, "team/app", ["v1"])
    mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, target, **keys)
    await world.run(mirror)
    target.forget()
    asked = replace(mirror, named=True)
    for lists, one in ((0, mirror), (1, asked)):
        source.forget()
        assert (await world.run(one)).result is Result.NOOP
        assert source.count("GET", "/referrers/") == (lists if listed else 0)
        assert source.count("GET", "/tags/list") == lists
        assert source.count("GET", "/manifests/") == len(target.log) == 0
    signature, of_it = build_artifact(image, data=b"a"), cosigned("b")
    await push(signature, source, "team/app", [])
    await push(of_it, source, "team/app", [tag_of(image, ".sig")])
    if not listed:
        set_list(source, image.digest, [dict(signature.root)])
    assert (await world.run(mirror)).result is Result.NOOP
    run = await world.run(asked)
    assert (run.result, run.receipts[0].referrers) == (Result.SUCCESS, 2)
    assert {*target.manifests[PLACE]} >= {signature.digest, of_it.digest}
    assert (await world.run(asked)).result is Result.NOOP


async def test_who_asks_is_not_kept_by_a_target_that_was_not_reached(world: World) -> None:
    """What is believed of a target that does not answer is not looked for: the run fails there for that reason."""
    source, target = await world.registry("source"), await world.registry("one")
    mirror = world.mirror(await signed(source), target, trust=60)
    await world.run(mirror)
    world.later(hours=1)
    target.faults.on("*", "/v2/", times=None).status(500)
    source.forget()
    planned = await world.plan(mirror)
    assert planned.steps[0].reason.startswith("the target cannot be read")
    assert source.count("GET", "/referrers/") == 0


@pytest.mark.parametrize("listed", [True, False], ids=["api", "tags"])
async def test_what_is_about_a_signature_is_looked_for(world: World, listed: bool) -> None:
    """The signature of an SBOM that was mirrored before it was signed comes, too, and is then not lacking any more."""
    source, target = await world.registry("source", referrers=listed), await world.registry("one")
    await push(IMAGE, source, "team/app", ["v1"])
    await push(SBOM, source, "team/app", [])
    if not listed:
        set_list(source, IMAGE.digest, [dict(SBOM.root)])
    mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, target)
    assert (await world.run(mirror)).receipts[0].referrers == 1
    await push(SIGNED_SBOM, source, "team/app", [])
    if not listed:
        set_list(source, SBOM.digest, [dict(SIGNED_SBOM.root)])
    world.later(days=1)
    assert [step.reason for step in (await world.plan(mirror)).steps] == ["a signature or attestation not there"]
    assert (await world.run(mirror)).result is Result.SUCCESS
    assert SIGNED_SBOM.digest in target.manifests[PLACE]
    world.later(days=1)
    assert (await world.run(mirror)).result is Result.NOOP


async def test_nothing_signed_stays_cheap(world: World) -> None:
    """Days later, at a registry without the API: one list of tags for the repository, none for tags that never move."""
    source, target = await world.registry("source", referrers=False), await world.registry("one")
    await push(IMAGE, source, "team/app", ["v1", "v2"])
    cases: list[tuple[dict[str, Any], int]] = [({}, 1), ({"immutable": ["v*"]}, 0)]
    for keys, lists in cases:
        wanted = {"repository": f"{source.host}/team/app", "tags": ["v1", "v2"]}
        mirror = world.mirror(wanted, target, **keys)
        await world.run(mirror)
        world.later(days=2)
        source.forget()
        assert (await world.run(mirror)).result is Result.NOOP
        assert source.count("GET", "/tags/list") == lists
        assert source.count("GET", "/manifests/") == 0
        assert source.count("GET", "/referrers/") <= lists


async def test_signatures_that_cannot_be_looked_for(world: World) -> None:
    """A source that does not answer about signatures of what is mirrored already: a remark, and no failure."""
    source, target = await world.registry("source"), await world.registry("one")
    mirror = world.mirror(await signed(source), target)
    await world.run(mirror)
    world.later(days=1)
    source.faults.on("GET", "/referrers/", times=None).status(500)
    run = await world.run(mirror)
    assert run.result is Result.NOOP
    assert "signatures that were added to v1 could not be looked for" in run.remarks[0]


async def test_from_a_layout(world: World) -> None:
    """What a layout has about an image goes to a registry: by subject, and by cosign's tags."""
    source, target = await world.registry("source"), await world.registry("one")
    folder = world.folder / "layouts"
    await world.run(world.mirror(await signed(source), LOCAL, places={"files": f"oci:{folder}"}))
    again = world.mirror({"layout": str(folder / "app"), "names": ["v1"]}, target, name="back", **NAMED)
    run = await world.run(again)
    assert (run.result, run.receipts[0].referrers) == (Result.SUCCESS, 5)
    assert target.tags[PLACE] == {"v1": IMAGE.digest, tag_of(IMAGE, ".sig"): cosigned("a").digest}
    assert {*target.manifests[PLACE]} >= {one.digest for one in ABOUT}


async def test_the_image_among_its_signatures(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layout of one image without a name: its manifests are read for their subjects once, and not by the loop."""
    source, target = await world.registry("source"), await world.registry("one")
    folder = world.folder / "layouts"
    await world.run(world.mirror(await signed(source), LOCAL, places={"files": f"oci:{folder}"}))
    reads: list[str] = []
    read = Layout.manifest

    def counted(layout: Layout, descriptor: Descriptor) -> Manifest:
        assert threading.current_thread() is not threading.main_thread()
        reads.append(descriptor.digest)
        return read(layout, descriptor)

    monkeypatch.setattr(Layout, "manifest", counted)
    again = world.mirror({"layout": str(folder / "app"), "names": ["v1"]}, target, name="back", **NAMED)
    assert (await world.run(again)).receipts[0].referrers == 5
    assert reads.count(SIGNATURE.digest) == 2  # for its subject, and to be copied


async def test_signatures_of_signatures_have_a_bound(world: World) -> None:
    """A chain of twenty is refused with its reason, and no name is set."""
    source, target = await world.registry("source"), await world.registry("one")
    await push(IMAGE, source, "team/app", ["v1"])
    subject = IMAGE
    for number in range(20):
        subject = build_artifact(subject, data=f"{number}".encode())
        await push(subject, source, "team/app", [])
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:v1"}, target))
    assert run.receipts[0].outcome is Outcome.FAILED
    assert "more than 8 signatures of signatures" in run.receipts[0].detail
    assert "v1" not in target.tags.get(PLACE, {})


async def test_pages_of_referrers(world: World) -> None:
    """A list in two pages is read whole."""
    source, target = await world.registry("source"), await world.registry("one")
    await push(IMAGE, source, "team/app", ["v1"])
    for one in (SIGNATURE, SBOM):
        await push(one, source, "team/app", [])
    path = f"/referrers/{IMAGE.digest}"
    first = {"Content-Type": OCI_INDEX, "Link": f'</v2/team/app{path}?page=2>; rel="next"'}
    source.faults.on("GET", path, times=1).status(200, index_of([dict(SIGNATURE.root)]), first)
    wanted = {"repository": f"{source.host}/team/app:v1"}
    run = await world.run(world.mirror(wanted, target))
    assert (run.result, run.receipts[0].referrers) == (Result.SUCCESS, 2)
